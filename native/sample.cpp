#include "sample.h"

#include "pool.h"
#include "work.h"

namespace puna {

void choose_rows(const Kernels& kernels, const float* logits, int64_t rows, int64_t vocab,
                 const Choice* choices, int64_t* ids, int threads) {
  Queue left;
  const auto work = [&](const Crew&) {
    static thread_local Arena arena;
    arena.reserve(kernels.choice_scratch_bytes(vocab));
    uint8_t* scratch = arena.take<uint8_t>(0);
    left.each(rows, [&](int64_t row) {
      ids[row] = kernels.choose(logits + row * vocab, vocab, choices[row], scratch);
    });
  };
  run_together(static_cast<int>(std::min<int64_t>(threads, rows)), work);
}

}  // namespace puna
