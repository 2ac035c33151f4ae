// Threads that compute one call together, each running the same function.
//
// A waiting thread spins for microseconds, then yields its core, then sleeps: on a machine that
// others use too, a spinning neighbour must not hold the core that the last worker needs.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>

namespace puna {

// Everybody waits for everybody.
class Barrier {
 public:
  void reset(int count) {
    count_ = count;
    arrived_.store(0, std::memory_order_relaxed);
  }
  void wait();

 private:
  int count_ = 1;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

struct Crew {
  int index, count;
  Barrier* barrier;
};

// Runs body on up to `threads` threads at once, the caller's included, and returns when all are
// done. Calls from several threads have workers of their own and share the cores: n callers get
// threads / n each. The body must not throw, and its results must not depend on the count.
void run_together(int threads, const std::function<void(const Crew&)>& body);

// Spins, yields, then sleeps until `word` is no longer `old`.
void wait_while(const std::atomic<uint32_t>& word, uint32_t old);

}  // namespace puna
