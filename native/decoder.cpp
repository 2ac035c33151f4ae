#include "decoder.h"

#include <algorithm>
#include <stdexcept>

#include "pass.h"

namespace puna {

Decoder::Decoder(const Shape& shape, const Kernels& kernels, std::vector<Layer> layers,
                 const Matrix& embed, const Matrix& head, const float* norm,
                 std::vector<float> freqs)
    : shape_(shape), kernels_(kernels), layers_(std::move(layers)), embed_(embed), head_(head),
      norm_(norm), freqs_(std::move(freqs)) {
  const auto agree = [&](const Matrix& a, const Matrix& b) {
    if (!(kernels_.coding(a) == kernels_.coding(b)))
      throw std::invalid_argument("wq, wk and wv, and gate and up, must share format and group");
  };
  for (const Layer& w : layers_) {
    agree(w.wq, w.wk);
    agree(w.wq, w.wv);
    agree(w.gate, w.up);
  }
  if (shape_.heads / shape_.kv_heads > kQueryRows)
    throw std::invalid_argument("at most 64 query heads may share a kv head");
}

void Decoder::step(const Batch& batch, const Cache& cache, float* logits, int threads) const {
  for (int64_t first = 0; first < batch.rows; first += kBlockRows) {
    Pass pass(*this, batch, cache, first, std::min(kBlockRows, batch.rows - first), threads);
    pass.run(logits);
  }
}

}  // namespace puna
