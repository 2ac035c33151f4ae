// A whole Llama in one call: token ids of several sequences in, logits of the rows wanted out.
//
// Weights and cache belong to the caller and are only pointed at. Rows of all sequences lie one
// after the other; a row's bits depend on its own sequence alone (see kernels.h).
#pragma once
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace puna {

struct Layer {
  const float *attn_norm, *mlp_norm;
  Matrix wq, wk, wv, wo, gate, up, down;
};

struct Shape {
  int64_t width, heads, kv_heads, head_width, mlp_width, vocab;
  float norm_eps;
};

// Where the tokens of one call belong.
struct Batch {
  const int32_t* ids;      // [rows]
  int64_t rows;
  const int64_t* counts;   // [sequences]: rows of each
  const int64_t* held;     // tokens that each has in the cache already
  const int32_t* tables;   // [sequences, table_width]: its pages
  int64_t sequences, table_width;
  const int64_t* wanted;   // rows whose logits are asked for, ascending
  int64_t wanted_count;
};

struct Cache {
  Format format;
  void *keys, *values;               // [layers, P, K, Z, E]
  float *key_scales, *value_scales;  // of eight bits: [layers, P, K, Z]
  int64_t pages, page_tokens;
};

class Decoder {
 public:
  Decoder(const Shape& shape, const Kernels& kernels, std::vector<Layer> layers,
          const Matrix& embed, const Matrix& head, const float* norm, std::vector<float> freqs);
  // Throws std::invalid_argument where matrices that read the same rows want them coded differently.
  void step(const Batch& batch, const Cache& cache, float* logits, int threads) const;

 private:
  friend class Pass;
  Shape shape_;
  const Kernels& kernels_;
  std::vector<Layer> layers_;
  Matrix embed_, head_;
  const float* norm_;
  std::vector<float> freqs_;  // radians per position, [E / 2]
};

// y [rows, out] = x [rows, in] times W transposed: one product, for puna.ops.lowbit.
void linear(const Kernels& kernels, const Matrix& w, const float* x, int64_t rows, float* y,
            int threads);

}  // namespace puna
