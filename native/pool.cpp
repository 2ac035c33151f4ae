#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace puna {
namespace {

constexpr int kSpins = 2000;   // about 30 microseconds: a phase of a small model
constexpr int kYields = 2000;  // at least a millisecond: between two steps of decoding

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// A caller's workers. They live on between calls.
class Team {
 public:
  void run(int count, const std::function<void(const Crew&)>& body) {
    try {
      while (workers_ < count - 1) hire();
    } catch (const std::system_error&) {  // the system gives no more threads: fewer do the work
      --workers_;
      count = workers_ + 1;
    }
    body_ = &body;
    count_ = count;
    barrier_.reset(count);
    running_.store(static_cast<uint32_t>(workers_), std::memory_order_relaxed);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    body({0, count, &barrier_});
    for (uint32_t left = running_.load(std::memory_order_acquire); left;
         left = running_.load(std::memory_order_acquire))
      wait_while(running_, left);
  }

 private:
  void hire() {
    const int index = ++workers_;
    std::thread([this, index, seen = call_.load()] { work(index, seen); }).detach();
  }
  void work(int index, uint32_t seen) {
    for (;;) {
      wait_while(call_, seen);
      seen = call_.load(std::memory_order_acquire);
      if (index < count_) (*body_)({index, count_, &barrier_});
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_all();
    }
  }

  int workers_ = 0, count_ = 1;
  const std::function<void(const Crew&)>* body_ = nullptr;
  Barrier barrier_;
  alignas(64) std::atomic<uint32_t> call_{0};
  alignas(64) std::atomic<uint32_t> running_{0};
};

struct Teams {
  std::mutex lock;
  std::vector<std::unique_ptr<Team>> idle;
  int callers = 0;
};

// Never destroyed: workers may outlive the statics of a process that ends. A forked child has no
// workers, so it starts anew, and what it inherited stays where it is.
Teams* teams = nullptr;

Teams& registry() {
  static std::once_flag once;
  std::call_once(once, [] {
    teams = new Teams;
    pthread_atfork(nullptr, nullptr, [] { teams = new Teams; });
  });
  return *teams;
}

}  // namespace

void wait_while(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != old) return;
    relax();
  }
  for (int i = 0; i < kYields; ++i) {
    if (word.load(std::memory_order_acquire) != old) return;
    sched_yield();
  }
  word.wait(old, std::memory_order_acquire);
}

void Barrier::wait() {
  if (count_ == 1) return;
  const uint32_t round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  } else {
    wait_while(round_, round);
  }
}

void run_together(int threads, const std::function<void(const Crew&)>& body) {
  if (threads <= 1) {
    Barrier alone;
    alone.reset(1);
    return body({0, 1, &alone});
  }
  Teams& all = registry();
  std::unique_ptr<Team> team;
  int share;
  {
    const std::lock_guard guard(all.lock);
    share = threads / ++all.callers;
    if (!all.idle.empty()) {
      team = std::move(all.idle.back());
      all.idle.pop_back();
    }
  }
  if (!team) team = std::make_unique<Team>();
  team->run(share > 1 ? share : 1, body);
  const std::lock_guard guard(all.lock);
  --all.callers;
  all.idle.push_back(std::move(team));
}

}  // namespace puna
