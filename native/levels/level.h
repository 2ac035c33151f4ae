// The vocabulary of the kernels, in the words of the processor that this object is compiled for.
//
// kernels.cpp is compiled once for each level; everything of it has internal linkage, so that no
// inline function compiled for a newer processor can be taken by the linker for an older one.
// Words: F sixteen floats, I sixteen int32, U sixty-four bytes; load, store, fma, sum (one fixed
// tree), conversions from and to bfloat16, float16 and int8, and two dot products:
//   Small::dot, Wide::dot   sixteen outputs: acc[i] += sum of four w[4 i + j] * x[j], exact; w are
//                           bytes 0..15 (Small) or 1..255 (Wide), x one word of four int8. A Sum
//                           holds the products of at most `most` inputs; total() are its outputs
//   T                       kColumns floats, one register of the tiles of float products
//   low_half, high_half     the two bfloat16 of each word of a T; dot_bf16 where kHasBf16Dot
//   columns                 eight inputs of kColumns outputs, turned into eight T: a lane an output
#pragma once

#if defined(PUNA_LEVEL_AVX512) || defined(PUNA_LEVEL_AVX512BF16)
#include "avx512.h"
#elif defined(PUNA_LEVEL_AVX2)
#include "avx2.h"
#elif defined(PUNA_LEVEL_NEON) || defined(PUNA_LEVEL_NEONDOT)
#include "neon.h"
#else
#include "portable.h"
#endif
