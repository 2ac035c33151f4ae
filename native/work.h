// Memory for a call, and work that is handed out piece by piece.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace puna {

constexpr int64_t kBlockRows = 512;  // rows that pass through the layers together
constexpr int64_t kSkinny = 16;      // up to so many rows, a product takes the time of its weights

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Panels of one piece of work, in whole tiles, where about so many pieces are wanted.
inline int64_t piece_of(int64_t panels, int pieces, int64_t most) {
  const int64_t even = std::max<int64_t>(1, panels / pieces);
  return std::min<int64_t>(most, ceil_div(even, 4) * 4);
}

// Panels that each thread reads before the rest is handed out: memory serves one long run faster
// than several short ones.
inline int64_t share_of(int64_t panels, int threads) { return panels * 3 / (4 * threads) / 4 * 4; }

// Bytes on a cache line's boundary, kept from call to call by the thread that calls.
class Arena {
 public:
  ~Arena() { std::free(at_); }
  // Forgets what lies here and makes room for `bytes`.
  void reserve(int64_t bytes) {
    used_ = 0;
    if (bytes <= size_) return;
    std::free(at_);
    size_ = 0;
    at_ = static_cast<uint8_t*>(std::aligned_alloc(64, static_cast<size_t>(padded(bytes))));
    if (!at_) throw std::bad_alloc();
    size_ = padded(bytes);
  }
  template <class T>
  T* take(int64_t count) {
    T* out = reinterpret_cast<T*>(at_ + used_);
    used_ += padded(count * static_cast<int64_t>(sizeof(T)));
    return out;
  }
  static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  uint8_t* at_ = nullptr;
  int64_t size_ = 0, used_ = 0;
};

// Pieces 0 .. count - 1 of one phase, each taken once by whoever is free: a thread whose core is
// busy with something else takes fewer.
class Queue {
 public:
  void reset() { next_.store(0, std::memory_order_relaxed); }
  template <class Body>
  void each(int64_t count, Body body) {
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      body(i);
    }
  }

 private:
  alignas(64) std::atomic<int64_t> next_{0};
};

}  // namespace puna
