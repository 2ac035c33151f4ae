// One pass of a block of rows through all layers: what its parts share.
//
// plan.cpp lays out rows, attention and memory, layers.cpp walks through the layers, attend.cpp
// reads the cache. decoder.cpp makes one Pass for each block.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "decoder.h"
#include "pool.h"
#include "work.h"

namespace puna {

constexpr int64_t kRepeatedRows = 2;  // up to here each thread codes the inputs for itself

// Queries of one sequence and kv head that are attended together, or some of their keys.
struct Attention {
  int64_t sequence, row, tokens, kv_head;
  int64_t first_chunk, last_chunk;
  int64_t partial;  // place of its first chunk's results; -1 where the task merges for itself
  int64_t group;    // of tasks that share queries: the last one to finish merges
};

struct Product {
  const Matrix* w;
  float* at;
  int64_t stride;
  bool adds;
};

// One pass of a block of rows through all layers.
class Pass {
 public:
  Pass(const Decoder& d, const Batch& b, const Cache& c, int64_t first, int64_t rows, int threads)
      : d_(d), k_(d.kernels_), s_(d.shape_), b_(b), c_(c), first_(first), rows_(rows),
        threads_(threads) {
    place_rows();
    plan_attention();
    lay_out();
  }

  void run(float* logits) {
    run_together(threads_, [&](const Crew& crew) { work(crew, logits); });
  }

 private:
  void place_rows();
  void plan_attention();
  void lay_out();
  void work(const Crew& crew, float* logits);
  void layer(const Crew& crew, const Layer& w, int64_t index);
  const uint8_t* coded(const Crew& crew, const Coding& coding, const float* x, int64_t rows,
                       int64_t width, const float* norm_weight);
  void products(const Crew& crew, const Coding& coding, const uint8_t* x, int64_t rows,
                const Product* list, int count);
  void gated(const Crew& crew, const Layer& w, const Coding& coding, const uint8_t* x);
  template <class Body>
  void panels(const Crew& crew, int64_t count, int64_t rows, int64_t most, Body body);
  void turn(const Pages& pages, int64_t row, int64_t kv_head);
  void attend(const Crew& crew, const Pages& pages, const Attention& task);
  void merge_all(const Attention& task);
  Pages pages_of(int64_t layer) const;
  Queue& phase() { return queues_[phase_of_thread++]; }
  float* thread_floats(const Crew& crew) { return floats_ + crew.index * floats_each_; }
  uint8_t* thread_bytes(const Crew& crew) { return bytes_ + crew.index * bytes_each_; }

  static thread_local int64_t phase_of_thread;

  const Decoder& d_;
  const Kernels& k_;
  const Shape& s_;
  const Batch& b_;
  const Cache& c_;
  const int64_t first_, rows_;
  const int threads_;

  std::vector<int64_t> sequence_, position_;  // of each row
  std::vector<int64_t> wanted_;               // rows of this block, and where their logits go
  int64_t logits_at_ = 0;
  std::vector<Attention> tasks_;
  std::vector<int64_t> parts_;  // tasks of each group
  std::unique_ptr<std::atomic<int64_t>[]> open_;
  int64_t partials_ = 0;
  bool turns_in_attention_ = false;

  Arena* arena_ = nullptr;
  float *x_, *q_, *kk_, *v_, *mixed_, *hidden_, *cosine_, *sine_, *partial_ = nullptr;
  float* floats_;   // of each thread: results of attention, or gate and up
  uint8_t* bytes_;  // of each thread: scratch of the kernels, then coded rows
  uint8_t* shared_coded_;
  int64_t floats_each_, bytes_each_, scratch_each_;
  std::unique_ptr<Queue[]> queues_;
};

}  // namespace puna
