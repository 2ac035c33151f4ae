// Every level that runs here over odd shapes, poisoned inputs and a tiny decoder, for the sanitizers.
//
// This program looks at memory: buffers have exactly the size that the interface asks for. Products
// are compared with those of the portable level; tests/ops and tests/infer compare with torch. tests/native/test_sanitized.py builds it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "decoder.h"
#include "kernels.h"
#include "sample.h"

using namespace puna;

namespace {

thread_local uint32_t state = 1;  // two decoders run at once
float noise() {
  state = state * 1664525u + 1013904223u;  // Numerical Recipes' generator
  return static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
}

struct Weight {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales, zeros;
  Matrix matrix;

  Weight(Format format, int64_t out, int64_t in, int64_t group, bool has_zeros) {
    matrix.format = format;
    matrix.out = out;
    matrix.in = in;
    matrix.group = group < in ? group : in;
    if (!matrix.is_packed()) {
      codes.resize(static_cast<size_t>(out * in * (format == Format::f32 ? 4 : 2)));
      for (int64_t i = 0; i < out * in; ++i) {
        const float x = noise();
        const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&x);
        const size_t size = format == Format::f32 ? 4 : 2;
        std::copy(bytes + 4 - size, bytes + 4, codes.begin() + static_cast<int64_t>(size) * i);
      }
    } else {
      codes.resize(static_cast<size_t>(matrix.panels() * matrix.panel_bytes()));
      for (auto& code : codes) {
        state = state * 1664525u + 1013904223u;
        code = static_cast<uint8_t>(state >> 24);
        if (format == Format::int8 && !code) code = 1;  // no code of -128
      }
      scales.assign(static_cast<size_t>(matrix.panels() * matrix.groups() * 16), 0x2000);
      if (has_zeros) zeros.assign(scales.size(), 0x4000);
    }
    matrix.codes = codes.data();
    matrix.scales = scales.data();
    matrix.zeros = has_zeros ? zeros.data() : nullptr;
  }
};

const char* const kNames[] = {"avx512bf16", "avx512", "avx2", "neondot", "neon", "portable"};

// A sum in another order, and products of bfloat16 that one level rounds once more.
bool are_near(float a, float b) { return std::fabs(a - b) <= 2e-3f * (1.0f + std::fabs(b)); }

int products(const Kernels& kernels) {
  int wrong = 0;
  for (Format format : {Format::f32, Format::bf16, Format::int8, Format::int4})
    for (int64_t out : {1, 16, 39})
      for (int64_t in : {1, 24, 136, 1030})
        for (int64_t group : {8, 32, 128, 5000})
          for (bool has_zeros : {false, true}) {
            const Weight w(format, out, in, group, has_zeros);
            for (int64_t rows : {1, 2, 5, 13, 30}) {
              std::vector<float> x(static_cast<size_t>(rows * in)), y(static_cast<size_t>(rows * out));
              for (auto& value : x) value = noise();
              linear(kernels, w.matrix, x.data(), rows, y.data(), 2);
              std::vector<float> plain(y.size());
              linear(*kernels_of("portable"), w.matrix, x.data(), rows, plain.data(), 1);
              for (size_t i = 0; i < y.size(); ++i) wrong += !are_near(y[i], plain[i]);
              x.back() = std::numeric_limits<float>::quiet_NaN();
              linear(kernels, w.matrix, x.data(), rows, y.data(), 1);
              wrong += std::isfinite(y.back());
            }
          }
  return wrong;
}

int decode(const Kernels& kernels, Format format, Format cached) {
  const Shape shape{40, 6, 2, 10, 52, 33, 1e-5f};
  std::vector<Weight> weights;
  std::vector<Layer> layers;
  const std::vector<float> ones(40, 1.0f);
  weights.reserve(32);
  const auto make = [&](int64_t out, int64_t in) {
    return weights.emplace_back(format, out, in, 8, false).matrix;
  };
  for (int i = 0; i < 2; ++i)
    layers.push_back({ones.data(), ones.data(), make(60, 40), make(20, 40), make(20, 40),
                      make(40, 60), make(52, 40), make(52, 40), make(40, 52)});
  const Matrix embed = make(33, 40);
  const Decoder decoder(shape, kernels, layers, embed, embed, ones.data(),
                        {1.0f, 0.3f, 0.1f, 0.03f, 0.01f});
  const int64_t pages = 12, tokens = 24, slots = 2 * pages * 2 * tokens;
  const size_t size = cached == Format::f32 ? 4 : cached == Format::bf16 ? 2 : 1;
  std::vector<uint8_t> keys(static_cast<size_t>(slots) * 10 * size), values(keys.size());
  std::vector<float> key_scales(static_cast<size_t>(slots)), value_scales(key_scales.size());
  const Cache cache{cached, keys.data(), values.data(), key_scales.data(), value_scales.data(),
                    pages, tokens};
  const std::vector<int32_t> tables{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11};
  std::vector<int64_t> held{0, 0};
  int wrong = 0;
  for (int64_t count : {100, 1, 1, 30}) {
    std::vector<int64_t> counts{count, count > 1 ? count - 7 : 1};
    const int64_t rows = counts[0] + counts[1];
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 33);
    const std::vector<int64_t> wanted{counts[0] - 1, rows - 1};
    std::vector<float> logits(66);
    const Batch batch{ids.data(), rows, counts.data(), held.data(), tables.data(), 2, 6,
                      wanted.data(), 2};
    decoder.step(batch, cache, logits.data(), 3);
    for (float value : logits) wrong += !std::isfinite(value);
    for (size_t i = 0; i < 2; ++i) held[i] += counts[i];
  }
  return wrong;
}

float e4m3(int code) {
  const int exponent = code >> 3 & 15, rest = code & 7;
  const float size = exponent ? std::ldexp(8.0f + static_cast<float>(rest), exponent - 10)
                              : std::ldexp(static_cast<float>(rest), -9);
  return code & 0x80 ? -size : size;
}

// The nearest of all numbers of e4m3, the even one of two.
int nearest_e4m3(float x) {
  int best = std::signbit(x) ? 0x80 : 0;
  for (int code = best; code < best + 0x7f; ++code) {
    const float there = std::fabs(e4m3(code) - x), here = std::fabs(e4m3(best) - x);
    if (there < here || (there == here && !(code & 1))) best = code;
  }
  return best;
}

// Heads in e4m3 beside a search for the nearest number; one of zeros and one with NaN at the end.
int heads(const Kernels& kernels) {
  int wrong = 0;
  for (int64_t width : {10, 16, 40}) {
    const int64_t tokens = 30;
    std::vector<uint8_t> codes(static_cast<size_t>(tokens * width));
    std::vector<float> scales(static_cast<size_t>(tokens)), x(static_cast<size_t>(width));
    const Pages pages{Format::fp8, codes.data(), codes.data(), scales.data(), scales.data(),
                      tokens, 1, width};
    for (int64_t token = 0; token < tokens; ++token) {
      for (auto& value : x) {
        value = token == tokens - 2 ? 0.0f : std::ldexp(noise(), static_cast<int>(token % 12) - 8);
        if (token % 3 == 0) value = value * value * value;  // small ones beside large ones
      }
      if (token == tokens - 1) x[3] = std::numeric_limits<float>::quiet_NaN();
      kernels.write_head(pages, false, token, x.data());
      float peak = 1e-12f;
      for (float value : x) peak = std::max(peak, std::fabs(value));
      const bool is_last = token == tokens - 1;
      wrong += is_last ? std::isfinite(scales[size_t(token)]) : scales[size_t(token)] != peak / 448;
      for (int64_t i = 0; i < width && !is_last; ++i)
        wrong += codes[size_t(token * width + i)] != nearest_e4m3(x[size_t(i)] * (448.0f / peak));
    }
  }
  return wrong;
}

// Rows of every length; tokens of probability 0 stand in front and must not be chosen.
int choices(const Kernels& kernels) {
  int wrong = 0;
  for (int64_t vocab : {1, 15, 16, 17, 63, 64, 65, 3000}) {
    const int64_t rows = 7;
    std::vector<float> logits(static_cast<size_t>(rows * vocab));
    for (auto& value : logits) value = 4.0f * noise();
    for (int64_t row = 0; row < rows && vocab > 1; ++row)
      logits[size_t(row * vocab)] = -std::numeric_limits<float>::infinity();
    logits[size_t(6 * vocab + vocab - 1)] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<Choice> how{{0.0f, 0, 1.0, 0.0, 0.0},   {1.0f, 0, 1.0, 0.0, 0.0},
                                  {0.5f, 0, 0.9, 0.0, 0.999}, {2.0f, 9, 0.9, 0.1, 0.5},
                                  {1.0f, 2000, 0.0, 0.0, 0.5}, {1.0f, 0, 1.0, 1.0, 0.5},
                                  {1.0f, 0, 0.9, 0.0, 0.5}};
    std::vector<int64_t> ids(7);
    choose_rows(kernels, logits.data(), rows, vocab, how.data(), ids.data(), 3);
    for (size_t row = 0; row < 6; ++row)
      wrong += ids[row] < (vocab > 1) || ids[row] >= vocab;
    wrong += ids[6] != -1;
  }
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  for (const char* name : kNames) {
    const Kernels* kernels = kernels_of(name);
    if (!kernels) continue;
    wrong += products(*kernels) + heads(*kernels) + choices(*kernels);
    for (Format format : {Format::f32, Format::bf16, Format::int8, Format::int4})
      for (Format cached : {Format::f32, Format::bf16, Format::int8, Format::fp8})
        wrong += decode(*kernels, format, cached);
  }
  std::vector<std::thread> callers;
  std::vector<int> results(4, 0);
  for (size_t i = 0; i < results.size(); ++i)
    callers.emplace_back([&results, i] {
      results[i] = decode(*kernels_of(""), Format::int4, Format::bf16);
    });
  for (auto& caller : callers) caller.join();
  for (int result : results) wrong += result;
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
