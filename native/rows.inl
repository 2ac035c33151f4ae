// Products with bfloat16 weights, and with float32 keys, that lie row by row, read where they are.
//
// The inputs run along the lanes. A sum is made of blocks of fixed length, each reduced by one fixed
// tree: it is the same to the bit for one row and for a thousand, for any number of threads.

template <Format kFormat>
struct RowMajor;
template <>
struct RowMajor<Format::f32> {
  using Vector = F;
  static constexpr int64_t kStep = 16, kWeightBytes = 64, kInputBytes = 64, kBlock = 256;
  static F weights(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
  static F dot(F acc, const F& w, const uint8_t* x) {
    return fma(w, load(reinterpret_cast<const float*>(x)), acc);
  }
};
template <>
struct RowMajor<Format::bf16> {
  using Vector = Bf16Weights;
  static constexpr int64_t kStep = 32, kWeightBytes = 64, kInputBytes = kBf16InputBytes;
  static constexpr int64_t kBlock = 1024;
  static Vector weights(const uint8_t* p) {
    return load_bf16_weights(reinterpret_cast<const uint16_t*>(p));
  }
  static F dot(F acc, const Vector& w, const uint8_t* x) { return dot_bf16(acc, w, x); }
};

// Partial sums of R rows by Q outputs, [R, 16] vectors: `steps` whole ones, then `rest` bytes of
// each weight row.
template <class M, int R, int Q>
inline void dot_block(const uint8_t* w, int64_t w_stride, const uint8_t* x, int64_t x_stride,
                      int64_t steps, int64_t rest, F* out) {
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
    for (int q = 0; q < Q; ++q) out[r * kLanes + q] = acc[r][q];
}

template <class M, int R>
inline void dot_panel(const uint8_t* w, int64_t w_stride, int64_t outs, const uint8_t* x,
                      int64_t x_stride, int64_t steps, int64_t rest, F* out) {
  constexpr int kWide = R == 1 ? 4 : kDotOuts;
  int64_t q = 0;
  for (; q + kWide <= outs; q += kWide)
    dot_block<M, R, kWide>(w + q * w_stride, w_stride, x, x_stride, steps, rest, out + q);
  for (; q < outs; ++q)
    dot_block<M, R, 1>(w + q * w_stride, w_stride, x, x_stride, steps, rest, out + q);
  for (; q < kLanes; ++q)
    for (int r = 0; r < R; ++r) out[r * kLanes + q] = splat(0.0f);
}

// Calls body(R) with the number of rows as a constant: 1 .. R.
template <int R, class Body>
inline void with_rows(int64_t rows, Body body) {
  if (rows == R) return body(std::integral_constant<int, R>{});
  if constexpr (R > 1) with_rows<R - 1>(rows, body);
}

// Adds one block of inputs to the sums [rows, 16] of up to 16 outputs. The inputs of a few rows stay
// in the first cache while they meet every output.
template <class M>
inline void dot_many(const uint8_t* w, int64_t w_stride, int64_t outs, const uint8_t* x,
                     int64_t x_stride, int64_t rows, int64_t steps, int64_t rest, float* y,
                     int64_t y_stride) {
  for (int64_t row = 0; row < rows; row += kDotRows) {
    with_rows<kDotRows>(rows - row < kDotRows ? rows - row : kDotRows, [&](auto r) {
      constexpr int R = decltype(r)::value;
      F partial[R * kLanes];
      dot_panel<M, R>(w, w_stride, outs, x + row * x_stride, x_stride, steps, rest, partial);
      for (int i = 0; i < R; ++i) {
        float* at = y + (row + i) * y_stride;
        store(at, load(at) + sums(partial + i * kLanes));
      }
    });
  }
}

template <class M>
void row_major_panel(const uint8_t* w, int64_t w_stride, int64_t outs, int64_t in,
                     const uint8_t* x, int64_t x_stride, int64_t rows, float* y) {
  const int64_t element = M::kWeightBytes / M::kStep;
  for (int64_t i = 0; i < rows; ++i) store(y + i * kLanes, splat(0.0f));
  for (int64_t start = 0; start < in; start += M::kBlock) {
    const int64_t length = in - start < M::kBlock ? in - start : M::kBlock;
    dot_many<M>(w + start * element, w_stride, outs, x + start / M::kStep * M::kInputBytes,
                x_stride, rows, length / M::kStep, length % M::kStep * element, y, kLanes);
  }
}

template <class M>
void row_major_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                       int64_t first, int64_t last, const Output& y, float* panel_sums) {
  const int64_t w_stride = w.in * (M::kWeightBytes / M::kStep);
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes);
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t begin = panel * kLanes, outs = w.out - begin < kLanes ? w.out - begin : kLanes;
    row_major_panel<M>(codes + begin * w_stride, w_stride, outs, w.in, x, c.stride, rows,
                       panel_sums);
    float* at = y.at + (panel - first) * kLanes;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < outs; ++o)
        at[r * y.stride + o] =
            (y.adds ? at[r * y.stride + o] : 0.0f) + panel_sums[r * kLanes + o];
  }
}
