// GGUF's quantized blocks become panels (kernels.h) at the speed of memory.
#pragma once
#include <cstdint>

namespace puna {

// By ggml's numbers of its types.
enum class Blocks : int32_t { q4_0 = 2, q8_0 = 8, q4_k = 12, q6_k = 14 };

struct Laid {
  bool holds = true;      // false: a code that the kernels do not know
  float scale_peak = 0;   // the largest magnitude; NaN or infinite where one of them is
  float zero_peak = 0;
};

// Rows of blocks as panels: codes as the kernels read them, scales and zeros as float32
// [panel, group, 16], because the power of two that scales are kept in is the whole matrix's. Zeros
// are relative to 8. A last panel is filled with zeros. Only Q4_K writes zeros.
Laid lay_blocks(Blocks kind, const uint8_t* blocks, int64_t rows, int64_t columns, uint32_t* codes,
                float* scales, float* zeros, int threads);

}  // namespace puna
