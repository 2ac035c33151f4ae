// What a processor level offers: products of encoded rows with stored weights, attention, and the
// choice of a token.
//
// kernels.cpp fills one table for each level; the decoder, sample.cpp and module.cpp call through it
// and never name an instruction set. puna/ops/lowbit.py says the same mathematics in torch.
#pragma once
#include <cstdint>

namespace puna {

// Of weights the first four, of keys and values all but int4.
enum class Format : int32_t { f32 = 0, bf16 = 1, int8 = 2, int4 = 3, fp8 = 4 };

constexpr int kLanes = 16;        // outputs of a panel
constexpr int kInputGroup = 128;  // int8 inputs share a scale; more where weight groups are wider

// One weight matrix, [out, in]; weight = (code - zero) * scale * scale_unit.
// f32 and bf16 lie as they are. int8 and int4 lie in panels of 16 outputs: for each four inputs 64
// bytes, output by output (int8: code + 128; int4: eight inputs, the first four in the low nibbles).
// Scales and zeros are float16, [panel, group, 16]; zeros are relative to 0 (int8) or 8 (int4).
struct Matrix {
  Format format = Format::f32;
  int64_t out = 0, in = 0;
  int64_t group = 0;  // inputs that share a weight's scale
  const void* codes = nullptr;
  const uint16_t* scales = nullptr;
  const uint16_t* zeros = nullptr;
  float scale_unit = 1.0f;

  bool is_packed() const { return format == Format::int8 || format == Format::int4; }
  int64_t panels() const { return (out + kLanes - 1) / kLanes; }
  int64_t groups() const { return (in + group - 1) / group; }
  int64_t words() const { return (in + 7) / 8 * 2; }  // of four inputs; an even number
  int64_t panel_bytes() const { return words() * (format == Format::int8 ? 64 : 32); }
  int64_t bytes() const {
    switch (format) {
      case Format::f32: return out * in * 4;
      case Format::bf16: return out * in * 2;
      default: return panels() * (panel_bytes() + groups() * 32 * (zeros ? 2 : 1));
    }
  }
};

// How rows are written down before they meet a matrix; equal for matrices that can share them.
struct Coding {
  Format format = Format::f32;  // int4 and int8 weights both read int8 inputs: then int8
  int64_t in = 0;
  int64_t segment = 0;     // inputs whose products are summed as integers
  int64_t input_group = 0;  // inputs that share a scale; a multiple of the segment
  int64_t scales_at = 0, sums_at = 0;  // bytes into an encoded row
  int64_t stride = 0;                  // bytes of an encoded row

  int64_t segments() const { return (in + segment - 1) / segment; }
  bool operator==(const Coding&) const = default;
};

struct Output {
  float* at;       // column of the first output of the range
  int64_t stride;  // floats from row to row
  bool adds;       // y += W x, else y = W x
};

// Where the keys and values of one layer lie: pages of `page_tokens`, each [K, Z, E].
struct Pages {
  Format format;  // f32, bf16, int8 or fp8 (e4m3)
  void *keys, *values;
  float *key_scales, *value_scales;  // of eight bits: one a token and head, [P, K, Z]
  int64_t page_tokens, kv_heads, head_width;

  int64_t token_at(int32_t page, int64_t head, int64_t slot) const {
    return (page * kv_heads + head) * page_tokens + slot;
  }
};

constexpr int kChunk = 64;        // keys whose softmax is computed together
constexpr int kQueryRows = 64;    // most queries (heads of a group times tokens) of one call

// Queries that share the keys of one kv head and one sequence.
struct Queries {
  const float* const* q;        // each [E], rotated; the scale is applied inside
  const int64_t* visible;       // keys that each query sees
  int count;
  const int32_t* table;         // pages of the sequence
  int64_t kv_head;
};

// How a token is drawn from logits; temperature 0 takes the likeliest.
struct Choice {
  float temperature;
  int64_t top_k;         // 0: off
  double top_p, min_p;   // 1 and 0: off
  double uniform;        // from 0 to below 1: which token it is
};

struct Kernels {
  const char* name;
  Coding (*coding)(const Matrix&);
  void (*encode)(const Coding&, const float* x, uint8_t* out);
  void (*norm)(const float* x, const float* weight, float eps, int64_t width, float* out);
  // Outputs 16 * first .. 16 * last of `rows` encoded rows; scratch_bytes() of scratch.
  void (*product)(const Matrix&, const Coding&, const uint8_t* x, int64_t rows, int64_t first,
                  int64_t last, const Output&, uint8_t* scratch);
  int64_t (*scratch_bytes)(const Matrix&, int64_t rows);
  void (*silu_times)(const float* gate, const float* up, int64_t count, float* out);
  void (*row)(const Matrix&, int64_t index, float* out);  // one row of the matrix as float32
  void (*rotate)(const float* x, const float* cosine, const float* sine, int64_t width, float* out);
  void (*write_head)(const Pages&, bool is_value, int64_t token_at, const float* x);
  // Partial results of keys [64 c, 64 c + 64): largest score, sum, weighted values; [count] each.
  void (*attend_chunk)(const Pages&, const Queries&, int64_t chunk, float* top, float* total,
                       float* values, uint8_t* scratch);
  void (*merge_chunk)(int64_t width, float* top, float* total, float* values, float chunk_top,
                      float chunk_total, const float* chunk_values);
  int64_t (*attention_scratch_bytes)(const Pages&);
  // The id that is chosen; -1 where a logit is NaN or +inf or none is finite.
  int64_t (*choose)(const float* logits, int64_t vocab, const Choice&, uint8_t* scratch);
  int64_t (*choice_scratch_bytes)(int64_t vocab);
};

// The table of a level ("avx512bf16", "avx512", "avx2", "neondot", "neon", "portable"); null where
// this processor or this build lacks it. An empty name takes the best.
const Kernels* kernels_of(const char* name);

extern const Kernels kernels_portable;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512bf16;
extern const Kernels kernels_neon;
extern const Kernels kernels_neondot;

}  // namespace puna
