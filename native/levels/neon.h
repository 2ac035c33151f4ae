// Sixteen lanes as four registers of NEON, with the dot products of ARMv8.2 in one level.
//
// One of the files that give the kernels their vocabulary (see levels/level.h for its words).
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int kDotRows = 2, kDotOuts = 2;      // tile of row-major products: 24 of 32 registers
constexpr int kPanelRows = 4, kPanelWide = 1;  // tile of interleaved products
constexpr bool kHasBf16Dot = false;

struct F {
  float32x4_t v[4];
};
struct I {
  int32x4_t v[4];
};
struct U {
  uint8x16_t v[4];
};

template <class Out, class Body>
inline Out quarters(Body body) {
  return {{body(0), body(1), body(2), body(3)}};
}

inline F load(const float* p) {
  return quarters<F>([&](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, F x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
inline F splat(float x) {
  return quarters<F>([&](int) { return vdupq_n_f32(x); });
}
inline F operator+(F x, F y) {
  return quarters<F>([&](int i) { return vaddq_f32(x.v[i], y.v[i]); });
}
inline F operator-(F x, F y) {
  return quarters<F>([&](int i) { return vsubq_f32(x.v[i], y.v[i]); });
}
inline F operator*(F x, F y) {
  return quarters<F>([&](int i) { return vmulq_f32(x.v[i], y.v[i]); });
}
inline F operator/(F x, F y) {
  return quarters<F>([&](int i) { return vdivq_f32(x.v[i], y.v[i]); });
}
inline F fma(F x, F y, F z) {
  return quarters<F>([&](int i) { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
}
inline F fnma(F x, F y, F z) {
  return quarters<F>([&](int i) { return vfmsq_f32(z.v[i], x.v[i], y.v[i]); });
}
// As on x86, the second operand wins where either is NaN.
inline F max(F x, F y) {
  return quarters<F>([&](int i) { return vbslq_f32(vcgtq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]); });
}
inline F min(F x, F y) {
  return quarters<F>([&](int i) { return vbslq_f32(vcltq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]); });
}
inline F absolute(F x) {
  return quarters<F>([&](int i) { return vabsq_f32(x.v[i]); });
}
inline float sum(F x) {  // the same tree as AVX2's
  const float32x4_t q = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t p = vadd_f32(vget_low_f32(q), vget_high_f32(q));
  return vget_lane_f32(p, 0) + vget_lane_f32(p, 1);
}
inline F sums(const F* x) {  // lane i: the sum of x[i]
  float out[16];
  for (int i = 0; i < 16; ++i) out[i] = sum(x[i]);
  return load(out);
}
inline float largest(F x) {
  float lanes[16], top;
  store(lanes, x);
  top = lanes[0];
  for (int i = 1; i < 16; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

inline F load_bf16(const uint16_t* p) {
  return quarters<F>(
      [&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
inline F load_f16(const uint16_t* p) {
  return quarters<F>(
      [&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline F load_i8(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
// Nearest, ties to even; a NaN stays one because its quiet bit is set.
inline uint32x4_t round_bf16(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t nan = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrq_n_u32(vbslq_u32(vceqq_f32(x, x), up, nan), 16);
}
inline void store_bf16(uint16_t* p, F x) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vmovn_u32(round_bf16(x.v[i])));
}
inline F to_bf16(F x) {
  return quarters<F>(
      [&](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(round_bf16(x.v[i]), 16)); });
}

inline I splat_i(int32_t x) {
  return quarters<I>([&](int) { return vdupq_n_s32(x); });
}
inline I operator+(I x, I y) {
  return quarters<I>([&](int i) { return vaddq_s32(x.v[i], y.v[i]); });
}
inline I nearest(F x) {
  return quarters<I>([&](int i) { return vcvtnq_s32_f32(x.v[i]); });
}
inline F to_float(I x) {
  return quarters<F>([&](int i) { return vcvtq_f32_s32(x.v[i]); });
}
inline int32_t sum(I x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3])));
}
inline void store_i8(int8_t* p, I x) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(x.v[0]), vqmovn_s32(x.v[1]));
  const int16x8_t high = vcombine_s16(vqmovn_s32(x.v[2]), vqmovn_s32(x.v[3]));
  vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}
inline F power_of_two(I n) {
  return quarters<F>([&](int i) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.v[i], vdupq_n_s32(127)), 23));
  });
}

inline U load_bytes(const uint8_t* p) {
  return quarters<U>([&](int i) { return vld1q_u8(p + 16 * i); });
}
inline void store_bytes(uint8_t* p, U x) {
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, x.v[i]);
}
inline U low_nibbles(U x) {
  return quarters<U>([&](int i) { return vandq_u8(x.v[i], vdupq_n_u8(15)); });
}
inline U high_nibbles(U x) {
  return quarters<U>([&](int i) { return vshrq_n_u8(x.v[i], 4); });
}

// Four outputs: each sums its four products of signed bytes.
inline int32x4_t dot_four(int32x4_t acc, int8x16_t w, int8x16_t x) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_s32(acc, w, x);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(w, x));
  return vaddq_s32(acc, vpaddq_s32(low, high));
#endif
}

// kFlip turns bytes 0 .. 255 into signed ones, less 128.
template <int kFlip>
struct Signed {
  struct W {
    int8x16_t v[4];
  };
  using Sum = I;
  static constexpr int64_t most = INT64_MAX;
  static constexpr int offset = kFlip;  // what `weights` subtracted from each byte
  static W weights(U w) {
    return quarters<W>(
        [&](int i) { return vreinterpretq_s8_u8(veorq_u8(w.v[i], vdupq_n_u8(kFlip))); });
  }
  static Sum zero() { return splat_i(0); }
  static Sum dot(Sum acc, W w, uint32_t word) {
    const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(word));
    return quarters<I>([&](int i) { return dot_four(acc.v[i], w.v[i], x); });
  }
  static I total(Sum x) { return x; }
};
using Small = Signed<0>;
using Wide = Signed<128>;

// Weights turned, so that a lane is an output: kTileRows by four registers hold a tile's sums.
constexpr int kColumns = 16, kTileRows = 4, kTileWide = 1;  // 16 of 32
using T = F;
inline T load_t(const float* p) { return load(p); }
inline void store_t(float* p, T x) { store(p, x); }
inline T splat_t(float x) { return splat(x); }
inline T held(T x) { return x; }
// Two bfloat16 lie in a word.
inline T low_half(T x) {
  return quarters<T>([&](int i) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x.v[i]), 16));
  });
}
inline T high_half(T x) {
  return quarters<T>([&](int i) {
    return vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_f32(x.v[i]), vdupq_n_u32(0xffff0000u)));
  });
}
// Lane o of out[k]: lines[o][start + k].
inline void columns(const float* const* lines, int64_t start, T (&out)[8]) {
  for (int part = 0; part < 4; ++part)
    for (int half = 0; half < 2; ++half) {
      float32x4_t x[4];
      for (int i = 0; i < 4; ++i) x[i] = vld1q_f32(lines[4 * part + i] + start + 4 * half);
      const float32x4_t a = vzip1q_f32(x[0], x[2]), b = vzip2q_f32(x[0], x[2]);
      const float32x4_t c = vzip1q_f32(x[1], x[3]), d = vzip2q_f32(x[1], x[3]);
      out[4 * half].v[part] = vzip1q_f32(a, c);
      out[4 * half + 1].v[part] = vzip2q_f32(a, c);
      out[4 * half + 2].v[part] = vzip1q_f32(b, d);
      out[4 * half + 3].v[part] = vzip2q_f32(b, d);
    }
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
