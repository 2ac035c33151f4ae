// Products with weights that lie row by row (float32, bfloat16), read where they are.
//
// The inputs run along the lanes. A sum is made of blocks of fixed length, each reduced by one fixed
// tree: it is the same to the bit for one row and for a thousand, for any number of threads.

template <Format kFormat>
struct RowMajor;
template <>
struct RowMajor<Format::f32> {
  using Vector = F;
  static constexpr int64_t kStep = 16, kWeightBytes = 64, kInputBytes = 64, kBlock = 512;
  static F weights(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
  static F dot(F acc, const F& w, const uint8_t* x) {
    return fma(w, load(reinterpret_cast<const float*>(x)), acc);
  }
};
template <>
struct RowMajor<Format::bf16> {
  using Vector = Bf16Weights;
  static constexpr int64_t kStep = 32, kWeightBytes = 64, kInputBytes = kBf16InputBytes;
  static constexpr int64_t kBlock = 2048;
  static Vector weights(const uint8_t* p) {
    return load_bf16_weights(reinterpret_cast<const uint16_t*>(p));
  }
  static F dot(F acc, const Vector& w, const uint8_t* x) { return dot_bf16(acc, w, x); }
};

// One block of R rows by Q outputs: `steps` whole vectors, then `rest` bytes of each weight row.
template <class M, int R, int Q>
inline void dot_block(const uint8_t* w, int64_t w_stride, const uint8_t* x, int64_t x_stride,
                      int64_t steps, int64_t rest, float* y, int64_t y_stride) {
  F acc[R][Q];
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) acc[r][q] = splat(0.0f);
  for (int64_t s = 0; s < steps; ++s) {
    typename M::Vector v[Q];
    for (int q = 0; q < Q; ++q) v[q] = M::weights(w + q * w_stride + s * M::kWeightBytes);
    for (int r = 0; r < R; ++r)
      for (int q = 0; q < Q; ++q)
        acc[r][q] = M::dot(acc[r][q], v[q], x + r * x_stride + s * M::kInputBytes);
  }
  if (rest) {
    for (int q = 0; q < Q; ++q) {
      uint8_t part[M::kWeightBytes] = {};
      std::memcpy(part, w + q * w_stride + steps * M::kWeightBytes, static_cast<size_t>(rest));
      const typename M::Vector v = M::weights(part);
      for (int r = 0; r < R; ++r)
        acc[r][q] = M::dot(acc[r][q], v, x + r * x_stride + steps * M::kInputBytes);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) y[r * y_stride + q] += sum(acc[r][q]);
}

template <class M, int Q>
inline void dot_rows(int64_t rows, const uint8_t* w, int64_t w_stride, const uint8_t* x,
                     int64_t x_stride, int64_t steps, int64_t rest, float* y, int64_t y_stride) {
  static_assert(kDotRows <= 4);
  switch (rows) {
    case 1: return dot_block<M, 1, Q>(w, w_stride, x, x_stride, steps, rest, y, y_stride);
    case 2: return dot_block<M, 2, Q>(w, w_stride, x, x_stride, steps, rest, y, y_stride);
    case 3:
      if constexpr (kDotRows >= 3)
        return dot_block<M, 3, Q>(w, w_stride, x, x_stride, steps, rest, y, y_stride);
      break;
    default:
      if constexpr (kDotRows >= 4)
        return dot_block<M, 4, Q>(w, w_stride, x, x_stride, steps, rest, y, y_stride);
  }
}

// Up to 16 outputs of all rows into sums [rows, 16]. The block of inputs of a few rows stays in the
// first cache while it meets every output.
template <class M>
void row_major_panel(const uint8_t* w, int64_t w_stride, int64_t outs, int64_t in,
                     const uint8_t* x, int64_t x_stride, int64_t rows, float* sums) {
  const int64_t element = M::kWeightBytes / M::kStep;
  for (int64_t i = 0; i < rows * kLanes; ++i) sums[i] = 0.0f;
  for (int64_t start = 0; start < in; start += M::kBlock) {
    const int64_t length = in - start < M::kBlock ? in - start : M::kBlock;
    const int64_t steps = length / M::kStep, rest = length % M::kStep * element;
    const uint8_t* at = w + start * element;
    const uint8_t* from = x + start / M::kStep * M::kInputBytes;
    for (int64_t r = 0; r < rows; r += kDotRows) {
      const int64_t some = rows - r < kDotRows ? rows - r : kDotRows;
      int64_t q = 0;
      if (some == 1)
        for (; q + 4 <= outs; q += 4)
          dot_block<M, 1, 4>(at + q * w_stride, w_stride, from + r * x_stride, x_stride, steps,
                             rest, sums + r * kLanes + q, kLanes);
      for (; q + kDotOuts <= outs; q += kDotOuts)
        dot_rows<M, kDotOuts>(some, at + q * w_stride, w_stride, from + r * x_stride, x_stride,
                              steps, rest, sums + r * kLanes + q, kLanes);
      for (; q < outs; ++q)
        dot_rows<M, 1>(some, at + q * w_stride, w_stride, from + r * x_stride, x_stride, steps,
                       rest, sums + r * kLanes + q, kLanes);
    }
  }
}

template <class M>
void row_major_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                       int64_t first, int64_t last, const Output& y, float* sums) {
  const int64_t w_stride = w.in * (M::kWeightBytes / M::kStep);
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes);
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t begin = panel * kLanes, outs = w.out - begin < kLanes ? w.out - begin : kLanes;
    row_major_panel<M>(codes + begin * w_stride, w_stride, outs, w.in, x, c.stride, rows, sums);
    float* at = y.at + (panel - first) * kLanes;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < outs; ++o)
        at[r * y.stride + o] = (y.adds ? at[r * y.stride + o] : 0.0f) + sums[r * kLanes + o];
  }
}
