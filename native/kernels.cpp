// The kernels of one processor level. CMake compiles this file once for each level.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "levels/level.h"

namespace {

using namespace puna;

#include "encode.inl"
#include "rows.inl"
#include "columns.inl"
#include "panels.inl"
#include "attention.inl"
#include "sample.inl"

void product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows, int64_t first,
             int64_t last, const Output& y, uint8_t* scratch) {
  switch (w.format) {
    case Format::f32:
      return columns_product(w, c, x, rows, first, last, y, reinterpret_cast<float*>(scratch));
    case Format::bf16:
      return rows_product(w, c, x, rows, first, last, y, scratch);
    default: return packed_product(w, c, x, rows, first, last, y, scratch);
  }
}

int64_t scratch_bytes(const Matrix& w, int64_t rows) {
  if (w.format == Format::f32) return columns_scratch_bytes(rows);
  if (w.format == Format::bf16) return rows_scratch_bytes(rows);
  if (rows <= kSomeRows) return 64;
  const Coding c = coding_of(w);
  const int64_t span = rounded(rounded(kSpan, c.input_group), 8);
  return kPanelWide * (std::min(rows, kRowBlock) * 64 + (w.format == Format::int4 ? (span + 8) * 16 : 0));
}

void row(const Matrix& w, int64_t index, float* out) {
  if (w.is_packed()) return packed_row(w, index, out);
  if (w.format == Format::f32) {
    std::memcpy(out, static_cast<const float*>(w.codes) + index * w.in,
                static_cast<size_t>(w.in) * 4);
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(w.codes) + index * w.in;
  for (int64_t i = 0; i < w.in; i += 16) {
    uint16_t part[16] = {};
    const int64_t n = w.in - i < 16 ? w.in - i : 16;
    std::memcpy(part, from + i, static_cast<size_t>(n) * 2);
    store_part(out + i, load_bf16(part), n);
  }
}

}  // namespace

namespace puna {

#define PUNA_TABLE(level) kernels_##level
#define PUNA_TABLE_OF(level) PUNA_TABLE(level)
#define PUNA_STRING(name) #name
#define PUNA_STRING_OF(name) PUNA_STRING(name)

extern const Kernels PUNA_TABLE_OF(PUNA_LEVEL) = {
    .name = PUNA_STRING_OF(PUNA_LEVEL),
    .coding = coding_of,
    .encode = encode,
    .norm = norm,
    .product = product,
    .scratch_bytes = scratch_bytes,
    .silu_times = silu_times,
    .row = row,
    .rotate = rotate,
    .write_head = write_head,
    .attend_chunk = attend_chunk,
    .merge_chunk = merge_chunk,
    .attention_scratch_bytes = attention_scratch_bytes,
    .choose = choose,
    .choice_scratch_bytes = choice_scratch_bytes,
};

}  // namespace puna
