// One product by itself, for puna.ops.lowbit.
#include <algorithm>

#include "decoder.h"
#include "pool.h"
#include "work.h"

namespace puna {

void linear(const Kernels& kernels, const Matrix& w, const float* x, int64_t rows, float* y,
            int threads) {
  const Coding coding = kernels.coding(w);
  const int64_t most = std::min(kBlockRows, rows);
  const int64_t scratch = Arena::padded(kernels.scratch_bytes(w, most));
  static thread_local Arena arena;
  for (int64_t start = 0; start < rows; start += most) {
    const int64_t some = std::min(most, rows - start);
    arena.reserve(most * coding.stride + threads * scratch + 64);
    uint8_t* codes = arena.take<uint8_t>(most * coding.stride);
    uint8_t* scratches = arena.take<uint8_t>(threads * scratch);
    const int64_t piece = piece_of(w.panels(), threads * 8, some <= kSkinny ? 64 : 8);
    Queue rows_left, panels_left;
    run_together(threads, [&](const Crew& crew) {
      rows_left.each(some, [&](int64_t row) {
        kernels.encode(coding, x + (start + row) * w.in, codes + row * coding.stride);
      });
      crew.barrier->wait();
      panels_left.each(ceil_div(w.panels(), piece), [&](int64_t number) {
        const int64_t first = number * piece, last = std::min(first + piece, w.panels());
        kernels.product(w, coding, codes, some, first, last,
                        {y + start * w.out + first * kLanes, w.out, false},
                        scratches + crew.index * scratch);
      });
    });
  }
}

}  // namespace puna
