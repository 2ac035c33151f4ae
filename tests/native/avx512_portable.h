// The intrinsics of native/levels/avx512.h for a processor that has AVX2 only, most of them SIMDe's.
//
// test_avx512.py puts this before the kernels of that level, so that they are tested where AVX-512
// is not at hand. Written here are those that SIMDe 0.7.4 lacks, and the product of bfloat16: it
// takes denormal numbers for zeros, and adds the odd numbers first.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>

namespace portable {

template <class Number>
using Sixteen = std::array<Number, 16>;

template <class To, class From>
inline To bits_as(const From& x) {
  To to;
  static_assert(sizeof(to) == sizeof(x));
  std::memcpy(&to, &x, sizeof(to));
  return to;
}

// Sixteen numbers of a register, each made of one of another register.
template <class Out, class To, class From, class In, class Body>
inline Out each(const In& x, Body body) {
  const auto from = bits_as<Sixteen<From>>(x);
  Sixteen<To> to;
  for (size_t i = 0; i < 16; ++i) to[i] = static_cast<To>(body(from[i]));
  return bits_as<Out>(to);
}

template <class Out, class To, class From, class In>
inline Out converted(const In& x) {
  return each<Out, To, From>(x, [](From one) { return one; });
}

inline int32_t total(const __m512i& x) {
  const auto numbers = bits_as<Sixteen<int32_t>>(x);
  return std::accumulate(numbers.begin(), numbers.end(), 0);
}

inline __m512 shuffled(const __m512& x, const __m512& y, int which) {
  const auto a = bits_as<Sixteen<float>>(x), b = bits_as<Sixteen<float>>(y);
  Sixteen<float> out;
  for (size_t i = 0; i < 16; ++i)
    out[i] = (i < 8 ? a : b)[static_cast<size_t>(which >> i / 4 * 2 & 3) * 4 + i % 4];
  return bits_as<__m512>(out);
}

inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? 0.0f * x : x; }

inline __m512 dot_bf16(const __m512& sums, const __m512i& x, const __m512i& y) {
  auto out = bits_as<Sixteen<float>>(sums);
  const auto a = bits_as<Sixteen<uint32_t>>(x), b = bits_as<Sixteen<uint32_t>>(y);
  const auto add = [](float sum, uint32_t u, uint32_t v) {
    return flushed(std::fma(flushed(bits_as<float>(u)), flushed(bits_as<float>(v)), flushed(sum)));
  };
  for (size_t i = 0; i < 16; ++i) {
    out[i] = add(out[i], a[i] & 0xffff0000, b[i] & 0xffff0000);
    out[i] = add(out[i], a[i] << 16, b[i] << 16);
  }
  return bits_as<__m512>(out);
}

}  // namespace portable

#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtph_ps
#undef _mm512_reduce_add_epi32
#undef _mm512_shuffle_f32x4
#undef _mm512_dpbf16_ps
#define _mm512_cvtepi8_epi32(x) portable::converted<__m512i, int32_t, int8_t>(x)
#define _mm512_cvtepu16_epi32(x) portable::converted<__m512i, int32_t, uint16_t>(x)
#define _mm512_cvtepi32_epi16(x) portable::converted<__m256i, uint16_t, uint32_t>(x)
#define _mm512_cvtepi32_ps(x) portable::converted<__m512, float, int32_t>(x)
#define _mm512_cvtps_epi32(x)            \
  portable::each<__m512i, int32_t, float>( \
      x, [](float one) { return _mm_cvtss_si32(_mm_set_ss(one)); })
#define _mm512_cvtph_ps(x) \
  portable::each<__m512, float, uint16_t>(x, [](uint16_t one) { return _cvtsh_ss(one); })
#define _mm512_reduce_add_epi32(x) portable::total(x)
#define _mm512_shuffle_f32x4(x, y, which) portable::shuffled(x, y, which)
#define _mm512_dpbf16_ps(sums, x, y) portable::dot_bf16(sums, __m512i(x), __m512i(y))
#ifdef PUNA_LEVEL_AVX512BF16
#define __AVX512BF16__ 1  // what levels/avx512.h asks for; the compiler has not been told
#endif
