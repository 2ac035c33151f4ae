// From rows of logits to tokens: the likeliest, or one drawn from what the filters leave.
//
// sample.inl chooses a row's token for each processor level; this hands rows to threads. What is
// right is said in puna/infer/filters.py.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace puna {

// ids [rows] of logits [rows, vocab]; -1 where a row holds NaN, +inf or nothing that may be drawn.
// A row's id does not depend on the other rows or on the number of threads.
void choose_rows(const Kernels& kernels, const float* logits, int64_t rows, int64_t vocab,
                 const Choice* choices, int64_t* ids, int threads);

}  // namespace puna
