// Sixteen lanes as an array, for any processor; the compiler makes of it what it can.
//
// One of the four files that give the kernels their vocabulary (see levels/level.h for its words).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kDotRows = 2, kDotOuts = 2;
constexpr int kPanelRows = 4, kPanelWide = 1;
constexpr bool kHasBf16Dot = false;

struct F {
  float v[16];
};
struct I {
  int32_t v[16];
};
struct U {
  uint8_t v[64];
};

template <class Body>
inline F lanes(Body body) {
  F out;
  for (int i = 0; i < 16; ++i) out.v[i] = body(i);
  return out;
}
template <class Body>
inline I lanes_i(Body body) {
  I out;
  for (int i = 0; i < 16; ++i) out.v[i] = body(i);
  return out;
}

inline F load(const float* p) {
  F out;
  std::memcpy(out.v, p, 64);
  return out;
}
inline void store(float* p, const F& x) { std::memcpy(p, x.v, 64); }
inline F splat(float x) {
  return lanes([&](int) { return x; });
}
inline F operator+(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] + y.v[i]; });
}
inline F operator-(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] - y.v[i]; });
}
inline F operator*(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] * y.v[i]; });
}
inline F operator/(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] / y.v[i]; });
}
inline F fma(const F& x, const F& y, const F& z) {
  return lanes([&](int i) { return x.v[i] * y.v[i] + z.v[i]; });
}
inline F fnma(const F& x, const F& y, const F& z) {
  return lanes([&](int i) { return z.v[i] - x.v[i] * y.v[i]; });
}
// As on x86, the second operand wins where either is NaN.
inline F max(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] > y.v[i] ? x.v[i] : y.v[i]; });
}
inline F min(const F& x, const F& y) {
  return lanes([&](int i) { return x.v[i] < y.v[i] ? x.v[i] : y.v[i]; });
}
inline F absolute(const F& x) {
  return lanes([&](int i) { return std::fabs(x.v[i]); });
}
inline float sum(const F& x) {
  float s[16];
  std::memcpy(s, x.v, 64);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
  return s[0];
}
inline F sums(const F* x) {  // lane i: the sum of x[i]
  return lanes([&](int i) { return sum(x[i]); });
}
inline float largest(const F& x) {
  float top = x.v[0];
  for (int i = 1; i < 16; ++i) top = x.v[i] > top ? x.v[i] : top;
  return top;
}

inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest << 13));
  if (rest < 0x400) {  // 2^-24 is the smallest float16
    const float small = static_cast<float>(rest) * from_bits(0x33800000);
    return sign ? -small : small;
  }
  return from_bits(sign | ((rest << 13) + 0x38000000));
}
// Nearest, ties to even; a NaN stays one because its quiet bit is set.
inline uint16_t round_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if (x != x) return static_cast<uint16_t>((bits | 0x400000) >> 16);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline F load_bf16(const uint16_t* p) {
  return lanes([&](int i) { return from_bits(static_cast<uint32_t>(p[i]) << 16); });
}
inline F load_f16(const uint16_t* p) {
  return lanes([&](int i) { return from_f16(p[i]); });
}
inline F load_i8(const int8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i]); });
}
inline void store_bf16(uint16_t* p, const F& x) {
  for (int i = 0; i < 16; ++i) p[i] = round_bf16(x.v[i]);
}
inline F to_bf16(const F& x) {
  return lanes([&](int i) { return from_bits(static_cast<uint32_t>(round_bf16(x.v[i])) << 16); });
}

inline I splat_i(int32_t x) {
  return lanes_i([&](int) { return x; });
}
inline I operator+(const I& x, const I& y) {
  return lanes_i([&](int i) { return x.v[i] + y.v[i]; });
}
inline I nearest(const F& x) {
  return lanes_i([&](int i) { return static_cast<int32_t>(std::nearbyint(x.v[i])); });
}
inline F to_float(const I& x) {
  return lanes([&](int i) { return static_cast<float>(x.v[i]); });
}
inline int32_t sum(const I& x) {
  int32_t total = 0;
  for (int i = 0; i < 16; ++i) total += x.v[i];
  return total;
}
inline void store_i8(int8_t* p, const I& x) {
  for (int i = 0; i < 16; ++i) {
    const int32_t n = x.v[i] > 127 ? 127 : x.v[i] < -128 ? -128 : x.v[i];
    p[i] = static_cast<int8_t>(n);
  }
}
inline F power_of_two(const I& n) {
  return lanes([&](int i) { return from_bits(static_cast<uint32_t>(n.v[i] + 127) << 23); });
}

inline U load_bytes(const uint8_t* p) {
  U out;
  std::memcpy(out.v, p, 64);
  return out;
}
inline void store_bytes(uint8_t* p, const U& x) { std::memcpy(p, x.v, 64); }
inline U low_nibbles(const U& x) {
  U out;
  for (int i = 0; i < 64; ++i) out.v[i] = x.v[i] & 15;
  return out;
}
inline U high_nibbles(const U& x) {
  U out;
  for (int i = 0; i < 64; ++i) out.v[i] = static_cast<uint8_t>(x.v[i] >> 4);
  return out;
}

struct Small {
  using W = U;
  using Sum = I;
  static constexpr int64_t most = INT64_MAX;
  static constexpr int offset = 0;  // what `weights` subtracted from each byte
  static const U& weights(const U& w) { return w; }
  static Sum zero() { return splat_i(0); }
  static Sum dot(const Sum& acc, const U& w, uint32_t word) {
    int8_t x[4];
    std::memcpy(x, &word, 4);
    return lanes_i([&](int i) {
      return acc.v[i] + w.v[4 * i] * x[0] + w.v[4 * i + 1] * x[1] + w.v[4 * i + 2] * x[2] +
             w.v[4 * i + 3] * x[3];
    });
  }
  static const I& total(const Sum& x) { return x; }
};
using Wide = Small;

// Weights turned, so that a lane is an output.
constexpr int kColumns = 16, kTileRows = 4, kTileWide = 1;
using T = F;
inline T load_t(const float* p) { return load(p); }
inline void store_t(float* p, const T& x) { store(p, x); }
inline T splat_t(float x) { return splat(x); }
inline const T& held(const T& x) { return x; }
// Two bfloat16 lie in a word.
inline T low_half(const T& x) {
  return lanes([&](int i) { return from_bits(bits_of(x.v[i]) << 16); });
}
inline T high_half(const T& x) {
  return lanes([&](int i) { return from_bits(bits_of(x.v[i]) & 0xffff0000u); });
}
// Lane o of out[k]: lines[o][start + k].
inline void columns(const float* const* lines, int64_t start, T (&out)[8]) {
  for (int k = 0; k < 8; ++k)
    out[k] = lanes([&](int o) { return lines[o][start + k]; });
}

inline void prefetch(const void*) {}

}  // namespace
