// The Python face: addresses and sizes in, nothing of torch linked. puna/ops/native.py checks every
// shape and keeps the tensors alive; nothing else calls this module.
#include <algorithm>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "decoder.h"
#include "gguf.h"
#include "kernels.h"
#include "sample.h"

namespace nb = nanobind;
using namespace puna;

namespace {

using Address = uintptr_t;
// format, out, in, group, codes, scales, zeros, scale_unit
using MatrixFields =
    std::tuple<int, int64_t, int64_t, int64_t, Address, Address, Address, float>;
using LayerFields = std::tuple<Address, Address, std::vector<MatrixFields>>;
// width, heads, kv_heads, head_width, mlp_width, vocab, norm_eps
using ShapeFields = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, float>;
// format, keys, values, key_scales, value_scales, pages, page_tokens
// Ids, tokens held before them, pages, and whether the logits after every token are wanted.
using PartFields = std::tuple<std::vector<int32_t>, int64_t, std::vector<int32_t>, bool>;
using CacheFields = std::tuple<int, Address, Address, Address, Address, int64_t, int64_t>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Matrix matrix_of(const MatrixFields& f) {
  const auto& [format, out, in, group, codes, scales, zeros, unit] = f;
  return {static_cast<Format>(format), out, in, group, at<const void>(codes),
          at<const uint16_t>(scales), at<const uint16_t>(zeros), unit};
}

const Kernels& level_of(const std::string& name) {
  const Kernels* kernels = kernels_of(name.c_str());
  if (!kernels) throw std::invalid_argument("level '" + name + "' does not run on this processor");
  return *kernels;
}

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const char* name : {"avx512bf16", "avx512", "avx2", "neondot", "neon", "portable"})
    if (kernels_of(name)) names.emplace_back(name);
  return names;
}

void linear_at(const std::string& level, const MatrixFields& w, Address x, int64_t rows, Address y,
               int threads) {
  linear(level_of(level), matrix_of(w), at<const float>(x), rows, at<float>(y), threads);
}

void make_decoder(Decoder* place, const std::string& level, const ShapeFields& shape,
                  const std::vector<LayerFields>& layers, const MatrixFields& embed,
                  const MatrixFields& head, Address norm, std::vector<float> freqs) {
  const auto& [width, heads, kv_heads, head_width, mlp_width, vocab, eps] = shape;
  std::vector<Layer> own;
  for (const auto& [attn_norm, mlp_norm, m] : layers) {
    if (m.size() != 7) throw std::invalid_argument("a layer has seven matrices");
    own.push_back({at<const float>(attn_norm), at<const float>(mlp_norm), matrix_of(m[0]),
                   matrix_of(m[1]), matrix_of(m[2]), matrix_of(m[3]), matrix_of(m[4]),
                   matrix_of(m[5]), matrix_of(m[6])});
  }
  new (place) Decoder({width, heads, kv_heads, head_width, mlp_width, vocab, eps}, level_of(level),
                      std::move(own), matrix_of(embed), matrix_of(head), at<const float>(norm),
                      std::move(freqs));
}

void step(const Decoder& decoder, const std::vector<PartFields>& parts, const CacheFields& cache,
          Address logits, int threads) {
  size_t width = 0;
  for (const auto& part : parts) width = std::max(width, std::get<2>(part).size());
  std::vector<int32_t> all_ids, tables(parts.size() * width);
  std::vector<int64_t> counts, held, wanted;
  for (const auto& [ids, before, pages, wants_all] : parts) {
    std::copy(pages.begin(), pages.end(), tables.begin() + int64_t(counts.size() * width));
    counts.push_back(int64_t(ids.size()));
    held.push_back(before);
    all_ids.insert(all_ids.end(), ids.begin(), ids.end());
    const int64_t end = int64_t(all_ids.size());
    for (int64_t row = wants_all ? end - counts.back() : end - 1; row < end; ++row)
      wanted.push_back(row);
  }
  const auto& [format, keys, values, key_scales, value_scales, pages, page_tokens] = cache;
  const Batch batch{all_ids.data(),        int64_t(all_ids.size()), counts.data(),
                    held.data(),           tables.data(),           int64_t(parts.size()),
                    int64_t(width),        wanted.data(),           int64_t(wanted.size())};
  const Cache own{static_cast<Format>(format), at<void>(keys), at<void>(values),
                  at<float>(key_scales), at<float>(value_scales), pages, page_tokens};
  const nb::gil_scoped_release release;
  decoder.step(batch, own, at<float>(logits), threads);
}

// settings: temperature, top_k, top_p, min_p and the number drawn, float64 [rows, 5]
void choose_at(const std::string& level, Address logits, int64_t rows, int64_t vocab,
               Address settings, Address ids, int threads) {
  std::vector<Choice> choices;
  for (const double* s = at<const double>(settings); choices.size() < size_t(rows); s += 5)
    choices.push_back({static_cast<float>(s[0]), static_cast<int64_t>(s[1]), s[2], s[3], s[4]});
  const Kernels& kernels = level_of(level);
  const nb::gil_scoped_release release;
  choose_rows(kernels, at<const float>(logits), rows, vocab, choices.data(), at<int64_t>(ids),
              threads);
}

// codes uint32, scales and zeros float32, all [panel, word or group, 16]
std::tuple<bool, float, float> lay_blocks_at(int kind, Address blocks, int64_t rows,
                                             int64_t columns, Address codes, Address scales,
                                             Address zeros, int threads) {
  const nb::gil_scoped_release release;
  const Laid laid = lay_blocks(static_cast<Blocks>(kind), at<const uint8_t>(blocks), rows, columns,
                               at<uint32_t>(codes), at<float>(scales), at<float>(zeros), threads);
  return {laid.holds, laid.scale_peak, laid.zero_peak};
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Native kernels; puna.ops.native is their face.";
  m.def("levels", levels, "Names of the processor levels that run here, the best first.");
  m.def(
      "linear",
      [](const std::string& level, const MatrixFields& w, Address x, int64_t rows, Address y,
         int threads) {
        const nb::gil_scoped_release release;
        linear_at(level, w, x, rows, y, threads);
      },
      "y [rows, out] = x [rows, in] times the matrix transposed, float32.");
  m.def("choose", choose_at, "ids [rows] chosen from logits [rows, vocab]; -1 where none can be.");
  m.def("lay_blocks", lay_blocks_at,
        "Rows of GGUF's blocks as panels; whether the kernels know all codes, and two peaks.");
  nb::class_<Decoder>(m, "Decoder", "A whole model; see puna.infer.decoder.")
      .def("__init__", make_decoder)
      .def("step", step, "Reads rows, writes the cache and the logits of the rows wanted.");
}
