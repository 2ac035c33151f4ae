// Sixteen lanes as two registers of AVX2, FMA and F16C.
//
// One of the four files that give the kernels their vocabulary (see levels/level.h for its words).
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int kDotRows = 6, kDotOuts = 2;      // tile of row-major products: 12 of 16 registers
constexpr int kPanelRows = 4, kPanelWide = 1;  // tile of interleaved products
constexpr bool kHasBf16Dot = false;

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
using U = I;

inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline F splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F operator+(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F operator-(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F operator*(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F operator/(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F fma(F x, F y, F z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline F fnma(F x, F y, F z) {
  return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
inline F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F absolute(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline float sum(F x) {
  __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float largest(F x) {
  __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline __m256 widen_bf16(__m128i x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
inline F load_bf16(const uint16_t* p) {
  return {widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline F load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline F load_i8(const int8_t* p) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
// Nearest, ties to even; a NaN stays one because its quiet bit is set.
inline __m256i round_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_srli_epi32(_mm256_blendv_epi8(up, nan, _mm256_castps_si256(is_nan)), 16);
}
inline void store_bf16(uint16_t* p, F x) {
  const __m256i packed = _mm256_packus_epi32(round_bf16(x.a), round_bf16(x.b));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline F to_bf16(F x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(round_bf16(x.a), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(round_bf16(x.b), 16))};
}

inline I splat_i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I operator+(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I nearest(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline int32_t sum(I x) {
  __m256i s = _mm256_add_epi32(x.a, x.b);
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
inline void store_i8(int8_t* p, I x) {
  const __m256i half = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline F power_of_two(I n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23))};
}

inline U load_bytes(const uint8_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
inline void store_bytes(uint8_t* p, U x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), x.b);
}
inline U low_nibbles(U x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
inline U high_nibbles(U x) {
  return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}

// In registers, summed as written: the compiler's own order spills them.
inline I held(I x) {
  __asm__("" : "+x"(x.a), "+x"(x.b));
  return x;
}
// Bytes 0..15: a pair of products stays below 2^12, so that eight pairs fit into sixteen bits.
struct Small {
  using W = U;
  using Sum = I;  // each lane two numbers of sixteen bits
  static constexpr int64_t most = 32;
  static constexpr int offset = 0;  // what `weights` subtracted from each byte
  static W weights(U w) { return w; }
  static Sum zero() { return splat_i(0); }
  static Sum dot(Sum acc, W w, uint32_t word) {
    const __m256i x = _mm256_set1_epi32(static_cast<int>(word));
    return held({_mm256_add_epi16(acc.a, _mm256_maddubs_epi16(w.a, x)),
                 _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(w.b, x))});
  }
  static I total(Sum x) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(x.a, ones), _mm256_madd_epi16(x.b, ones)};
  }
};
// Bytes 1..255: less 128 they are signed, and |x| * sign(x) w stays within 127 * 127 * 2 < 2^15.
struct Wide {
  using W = U;
  using Sum = I;
  static constexpr int64_t most = INT64_MAX;
  static constexpr int offset = 128;
  static W weights(U w) {
    const __m256i flip = _mm256_set1_epi8(-128);
    return {_mm256_xor_si256(w.a, flip), _mm256_xor_si256(w.b, flip)};
  }
  static Sum zero() { return splat_i(0); }
  static Sum dot(Sum acc, W w, uint32_t word) {
    const __m256i x = _mm256_set1_epi32(static_cast<int>(word));
    const __m256i size = _mm256_abs_epi8(x), ones = _mm256_set1_epi16(1);
    const __m256i a = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w.a, x));
    const __m256i b = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w.b, x));
    return held({_mm256_add_epi32(acc.a, _mm256_madd_epi16(a, ones)),
                 _mm256_add_epi32(acc.b, _mm256_madd_epi16(b, ones))});
  }
  static I total(Sum x) { return x; }
};

// Weights turned, so that a lane is an output: kTileRows by kTileWide registers hold a tile's sums.
constexpr int kColumns = 8, kTileRows = 6, kTileWide = 2;  // 12 of 16
struct T {
  __m256 v;
};
inline T load_t(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store_t(float* p, T x) { _mm256_storeu_ps(p, x.v); }
inline T held(T x) {  // in a register: a load for each use would take the place of other loads
  __asm__("" : "+x"(x.v));
  return x;
}
inline T splat_t(float x) { return {_mm256_set1_ps(x)}; }
inline T operator+(T x, T y) { return {_mm256_add_ps(x.v, y.v)}; }
inline T fma(T x, T y, T z) { return {_mm256_fmadd_ps(x.v, y.v, z.v)}; }
// Lane i: the sum of x[i]. Pairs of half registers, then a transposition that adds as it goes.
inline T sums(const T* x) {
  __m256 v[4];
  for (int j = 0; j < 4; ++j)
    v[j] = _mm256_add_ps(_mm256_permute2f128_ps(x[j].v, x[j + 4].v, 0x20),
                         _mm256_permute2f128_ps(x[j].v, x[j + 4].v, 0x31));
  const __m256 a = _mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
  const __m256 b = _mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
  return {_mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee))};
}
// Two bfloat16 lie in a word.
inline T low_half(T x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.v), 16))};
}
inline T high_half(T x) {
  return {_mm256_and_ps(x.v, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
// Lane o of out[k]: lines[o][start + k].
inline void columns(const float* const* lines, int64_t start, T (&out)[8]) {
  for (int half = 0; half < 2; ++half) {
    __m256 x[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t at = start + 4 * half;
      x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lines[i] + at)),
                                  _mm_loadu_ps(lines[i + 4] + at), 1);
    }
    const __m256 a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpacklo_ps(x[2], x[3]);
    const __m256 c = _mm256_unpackhi_ps(x[0], x[1]), d = _mm256_unpackhi_ps(x[2], x[3]);
    out[4 * half] = {_mm256_shuffle_ps(a, b, 0x44)};
    out[4 * half + 1] = {_mm256_shuffle_ps(a, b, 0xee)};
    out[4 * half + 2] = {_mm256_shuffle_ps(c, d, 0x44)};
    out[4 * half + 3] = {_mm256_shuffle_ps(c, d, 0xee)};
  }
}

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
