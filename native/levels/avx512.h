// Sixteen lanes as one register of AVX-512 with VNNI, and with BF16 where it is compiled for it.
//
// One of the four files that give the kernels their vocabulary (see levels/level.h for its words).
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int kDotRows = 4, kDotOuts = 5;       // 20 of 32 registers hold sums
constexpr int kPanelRows = 12, kPanelWide = 2;  // 24 of 32
#ifdef __AVX512BF16__
constexpr bool kHasBf16Dot = true;
#else
constexpr bool kHasBf16Dot = false;
#endif

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
using U = I;

inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
inline F splat(float x) { return {_mm512_set1_ps(x)}; }
inline F operator+(F x, F y) { return {_mm512_add_ps(x.v, y.v)}; }
inline F operator-(F x, F y) { return {_mm512_sub_ps(x.v, y.v)}; }
inline F operator*(F x, F y) { return {_mm512_mul_ps(x.v, y.v)}; }
inline F operator/(F x, F y) { return {_mm512_div_ps(x.v, y.v)}; }
inline F fma(F x, F y, F z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
inline F fnma(F x, F y, F z) { return {_mm512_fnmadd_ps(x.v, y.v, z.v)}; }
inline F max(F x, F y) { return {_mm512_max_ps(x.v, y.v)}; }
inline F min(F x, F y) { return {_mm512_min_ps(x.v, y.v)}; }
inline F absolute(F x) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x.v), mask))};
}
inline __m256 upper(__m512 x) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}
inline float sum(F x) {  // the same tree as AVX2's
  __m256 s = _mm256_add_ps(_mm512_castps512_ps256(x.v), upper(x.v));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
// Lane i: the sum of x[i], by a transposition of blocks, then of lanes, that adds as it goes.
inline F sums(const F* x) {
  __m512 v[4];
  for (int j = 0; j < 4; ++j) {
    __m512 half[2];
    for (int k = 0; k < 2; ++k) {
      const __m512 p = x[j + 8 * k].v, q = x[j + 8 * k + 4].v;
      half[k] = _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x44), _mm512_shuffle_f32x4(p, q, 0xee));
    }
    v[j] = _mm512_add_ps(_mm512_shuffle_f32x4(half[0], half[1], 0x88),
                         _mm512_shuffle_f32x4(half[0], half[1], 0xdd));
  }
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  return {_mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee))};
}
inline float largest(F x) {
  __m256 s = _mm256_max_ps(_mm512_castps512_ps256(x.v), upper(x.v));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline __m256i load_half(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline F load_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half(p)), 16))};
}
inline F load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(load_half(p))}; }
inline F load_i8(const int8_t* p) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))};
}
// Nearest, ties to even; a NaN stays one because its quiet bit is set. (VCVTNEPS2BF16 would turn
// denormal numbers into zeros, which the other levels keep.)
inline __m512i round_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, up, nan), 16);
}
inline void store_bf16(uint16_t* p, F x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(round_bf16(x.v)));
}
inline F to_bf16(F x) { return {_mm512_castsi512_ps(_mm512_slli_epi32(round_bf16(x.v), 16))}; }

inline I splat_i(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I operator+(I x, I y) { return {_mm512_add_epi32(x.v, y.v)}; }
inline I nearest(F x) { return {_mm512_cvtps_epi32(x.v)}; }
inline F to_float(I x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline int32_t sum(I x) { return _mm512_reduce_add_epi32(x.v); }
inline void store_i8(int8_t* p, I x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x.v));
}
inline F power_of_two(I n) {
  const __m512i biased = _mm512_add_epi32(n.v, _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}

inline U load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_bytes(uint8_t* p, U x) { _mm512_storeu_si512(p, x.v); }
inline U low_nibbles(U x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
inline U high_nibbles(U x) { return low_nibbles({_mm512_srli_epi16(x.v, 4)}); }

struct Small {
  using W = U;
  using Sum = I;
  static constexpr int64_t most = INT64_MAX;
  static constexpr int offset = 0;  // what `weights` subtracted from each byte
  static U weights(U w) { return w; }
  static Sum zero() { return splat_i(0); }
  static Sum dot(Sum acc, U w, uint32_t word) {
    acc.v = _mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(static_cast<int>(word)));
#ifdef __AVX512F__  // not where a test emulates it
    __asm__("" : "+v"(acc.v));  // summed as written: the compiler's own order spills registers
#endif
    return acc;
  }
  static I total(Sum x) { return x; }
};
using Wide = Small;  // this product takes any unsigned byte

// Weights turned, so that a lane is an output: kTileRows by kTileWide registers hold a tile's sums.
constexpr int kColumns = 16, kTileRows = 12, kTileWide = 2;  // 24 of 32
using T = F;
inline T load_t(const float* p) { return load(p); }
inline void store_t(float* p, T x) { store(p, x); }
inline T splat_t(float x) { return splat(x); }
inline T held(T x) { return x; }
// Two bfloat16 lie in a word.
#ifdef __AVX512BF16__
inline T dot_bf16(T acc, T w, T x) {
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)_mm512_castps_si512(w.v), (__m512bh)_mm512_castps_si512(x.v))};
}
#else
inline T low_half(T x) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x.v), 16))};
}
inline T high_half(T x) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x.v), mask))};
}
#endif
// Lane o of out[k]: lines[o][start + k].
inline void columns(const float* const* lines, int64_t start, T (&out)[8]) {
  for (int half = 0; half < 2; ++half) {
    __m512 x[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t at = start + 4 * half;
      __m512 four = _mm512_castps128_ps512(_mm_loadu_ps(lines[i] + at));
      four = _mm512_insertf32x4(four, _mm_loadu_ps(lines[i + 4] + at), 1);
      four = _mm512_insertf32x4(four, _mm_loadu_ps(lines[i + 8] + at), 2);
      x[i] = _mm512_insertf32x4(four, _mm_loadu_ps(lines[i + 12] + at), 3);
    }
    const __m512 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpacklo_ps(x[2], x[3]);
    const __m512 c = _mm512_unpackhi_ps(x[0], x[1]), d = _mm512_unpackhi_ps(x[2], x[3]);
    out[4 * half] = {_mm512_shuffle_ps(a, b, 0x44)};
    out[4 * half + 1] = {_mm512_shuffle_ps(a, b, 0xee)};
    out[4 * half + 2] = {_mm512_shuffle_ps(c, d, 0x44)};
    out[4 * half + 3] = {_mm512_shuffle_ps(c, d, 0xee)};
  }
}

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
