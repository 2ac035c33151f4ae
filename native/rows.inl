// Products with bfloat16 weights, and with float32 keys, that lie row by row, read where they are.
//
// The inputs run along the lanes. A sum is made of blocks of fixed length, each reduced by one fixed
// tree: it is the same to the bit for one row and for a thousand, for any number of threads. Where
// many rows meet a bfloat16 panel it is widened once, and the product is one of float32.

// A step is sixteen words of 32 bits of a weight row, in kParts registers.
constexpr int kParts = 16 / kColumns;

template <Format kFormat>
struct RowMajor;
template <>
struct RowMajor<Format::f32> {
  using Vector = T;
  static constexpr int64_t kStep = 16, kWeightBytes = 64, kInputBytes = 64;
  static T weights(const uint8_t* p) { return load_t(reinterpret_cast<const float*>(p)); }
  using Input = T;
  static Input input(const uint8_t* p) { return held(load_t(reinterpret_cast<const float*>(p))); }
  static Input kept(const Input& x) { return x; }
  static T dot(T acc, const T& w, const T& x) { return fma(w, x, acc); }
};
template <>
struct RowMajor<Format::bf16> {
  static constexpr int64_t kStep = 32, kWeightBytes = 64, kInputBytes = kHasBf16Dot ? 64 : 128;
#ifdef __AVX512BF16__
  using Vector = T;
  static Vector weights(const uint8_t* p) { return load_t(reinterpret_cast<const float*>(p)); }
  using Input = T;
  static Input input(const uint8_t* p) { return load_t(reinterpret_cast<const float*>(p)); }
  static Input kept(const Input& x) { return x; }
  static T dot(T acc, const T& w, const T& x) { return dot_bf16(acc, w, x); }
#else
  struct Vector {
    T even, odd;
  };
  static Vector weights(const uint8_t* p) {
    const T pairs = load_t(reinterpret_cast<const float*>(p));
    return {low_half(pairs), high_half(pairs)};
  }
  using Input = Vector;  // float32, the even ones of a register first
  static Input input(const uint8_t* p) {
    const float* x = reinterpret_cast<const float*>(p);
    return {load_t(x), load_t(x + kColumns)};
  }
  static Input kept(const Input& x) { return {held(x.even), held(x.odd)}; }
  static T dot(T acc, const Vector& w, const Input& x) {
    return fma(w.odd, x.odd, fma(w.even, x.even, acc));
  }
#endif
};

// Partial sums of R rows by Q outputs, [R, kStride] registers: `steps` whole ones, then `rest` bytes
// of each weight row.
template <class M, int R, int Q, int kStride>
inline void dot_block(const uint8_t* w, int64_t w_stride, const uint8_t* x, int64_t x_stride,
                      int64_t steps, int64_t rest, T* out) {
  constexpr int64_t kWeights = M::kWeightBytes / kParts, kInputs = M::kInputBytes / kParts;
  T acc[R][Q];
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) acc[r][q] = splat_t(0.0f);
  for (int64_t s = 0; s < steps; ++s)
    for (int p = 0; p < kParts; ++p) {
      const uint8_t* from = w + s * M::kWeightBytes + p * kWeights;
      const uint8_t* in = x + s * M::kInputBytes + p * kInputs;
      if constexpr (R > 1) {
        typename M::Vector v[Q];
        for (int q = 0; q < Q; ++q) v[q] = M::weights(from + q * w_stride);
        for (int r = 0; r < R; ++r) {
          typename M::Input one = M::input(in + r * x_stride);
          if constexpr (R > 3) one = M::kept(one);  // few outputs leave registers for it
          for (int q = 0; q < Q; ++q) acc[r][q] = M::dot(acc[r][q], v[q], one);
        }
      } else {
        const typename M::Input one = M::input(in);
        for (int q = 0; q < Q; ++q)
          acc[0][q] = M::dot(acc[0][q], M::weights(from + q * w_stride), one);
      }
    }
  if (rest) {
    for (int q = 0; q < Q; ++q) {
      uint8_t part[M::kWeightBytes] = {};
      std::memcpy(part, w + q * w_stride + steps * M::kWeightBytes, static_cast<size_t>(rest));
      for (int p = 0; p < kParts; ++p) {
        const typename M::Vector v = M::weights(part + p * kWeights);
        for (int r = 0; r < R; ++r)
          acc[r][q] = M::dot(acc[r][q], v,
                             M::input(x + r * x_stride + steps * M::kInputBytes + p * kInputs));
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) out[r * kStride + q] = acc[r][q];
}

template <class M, int R>
inline void dot_panel(const uint8_t* w, int64_t w_stride, int64_t outs, const uint8_t* x,
                      int64_t x_stride, int64_t steps, int64_t rest, T* out) {
  constexpr int kWide = R == 1 ? 4 : kDotOuts;
  int64_t q = 0;
  for (; q + kWide <= outs; q += kWide)
    dot_block<M, R, kWide, kLanes>(w + q * w_stride, w_stride, x, x_stride, steps, rest, out + q);
  for (; q < outs; ++q)
    dot_block<M, R, 1, kLanes>(w + q * w_stride, w_stride, x, x_stride, steps, rest, out + q);
  for (; q < kLanes; ++q)
    for (int r = 0; r < R; ++r) out[r * kLanes + q] = splat_t(0.0f);
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
      T partial[R * kLanes];
      dot_panel<M, R>(w, w_stride, outs, x + row * x_stride, x_stride, steps, rest, partial);
      for (int i = 0; i < R; ++i)
        for (int part = 0; part < kParts; ++part) {
          float* at = y + (row + i) * y_stride + part * kColumns;
          store_t(at, load_t(at) + sums(partial + i * kLanes + part * kColumns));
        }
    });
  }
}

using Bfloats = RowMajor<Format::bf16>;
using Floats = RowMajor<Format::f32>;

constexpr int64_t kMostBlock = 640;  // inputs
constexpr int64_t kStreamedRows = kHasBf16Dot ? 3 : 16;  // read the weights from where they lie
constexpr int64_t kTogether = kHasBf16Dot ? 3 : 6;       // of them in registers at once

// Blocks of about the same length, whatever else is asked.
inline int64_t block_inputs(int64_t in) {
  const int64_t blocks = (in + kMostBlock - 1) / kMostBlock;
  return rounded((in + blocks - 1) / blocks, Bfloats::kStep);
}

// One block of up to 16 weight rows as float32, in the order of the inputs; zeros at its end.
inline void widen_block(const uint8_t* w, int64_t w_stride, int64_t outs, int64_t inputs,
                        uint8_t* wide, int64_t wide_stride) {
#ifndef __AVX512BF16__
  for (int64_t q = 0; q < outs; ++q)
    for (int64_t i = 0; i < inputs; i += 2 * kColumns) {
      const uint8_t* from = w + q * w_stride + i * 2;
      uint8_t part[4 * kColumns] = {};
      if (inputs - i < 2 * kColumns) {
        std::memcpy(part, from, static_cast<size_t>(inputs - i) * 2);
        from = part;
      }
      const Bfloats::Vector v = Bfloats::weights(from);
      float* to = reinterpret_cast<float*>(wide + q * wide_stride) + i;
      store_t(to, v.even);
      store_t(to + kColumns, v.odd);
    }
#else
  (void)w, (void)w_stride, (void)outs, (void)inputs, (void)wide, (void)wide_stride;
#endif
}

// Few rows: every weight is read once. kStreams places of the matrix are read side by side, each on
// and on: the memory serves a few long runs faster than one, or than many short ones. kEach outputs
// of a place follow each other, so that one turning of registers sums the parts of all.
template <int R>
void streamed_rows(const uint8_t* w, int64_t w_stride, int64_t in, int64_t outs, const uint8_t* x,
                   int64_t x_stride, int64_t rows, const Output& y) {
  constexpr int kStreams = R == 1 ? 8 : R <= 3 ? 4 : 2;
  constexpr int kEach = R > 3 && kColumns > kStreams ? kColumns / kStreams : 1;
  const int64_t block = block_inputs(in), each = outs / kStreams;
  const auto some = [&](auto streams, auto following, auto count, int64_t row, int64_t out,
                        int64_t apart) {
    constexpr int Q = decltype(streams)::value, E = decltype(following)::value;
    constexpr int N = decltype(count)::value;
    constexpr int kRegisters = (Q * E + kColumns - 1) / kColumns * kColumns;
    float total[N * kRegisters] = {};
    for (int64_t start = 0; start < in; start += block) {
      const int64_t length = in - start < block ? in - start : block;
      T partial[N * kRegisters];
      if constexpr (Q * E < kRegisters)
        for (auto& one : partial) one = splat_t(0.0f);
      for (int e = 0; e < E; ++e)
        dot_block<Bfloats, N, Q, kRegisters>(
            w + (out + e) * w_stride + start * 2, apart * w_stride,
            x + row * x_stride + start / Bfloats::kStep * Bfloats::kInputBytes, x_stride,
            length / Bfloats::kStep, length % Bfloats::kStep * 2, partial + e * Q);
      for (int i = 0; i < N * kRegisters; i += kColumns)
        store_t(total + i, load_t(total + i) + sums(partial + i));
    }
    for (int r = 0; r < N; ++r)
      for (int i = 0; i < Q * E; ++i) {
        float* at = y.at + (row + r) * y.stride + out + i / Q + i % Q * apart;
        *at = (y.adds ? *at : 0.0f) + total[r * kRegisters + i];
      }
  };
  const auto all = [&](auto streams, auto following, int64_t out, int64_t apart) {
    for (int64_t row = 0; row < rows; row += R)
      with_rows<R>(rows - row < R ? rows - row : R,
                   [&](auto count) { some(streams, following, count, row, out, apart); });
  };
  constexpr std::integral_constant<int, 1> one;
  int64_t i = 0;
  for (; i + kEach <= each; i += kEach)
    all(std::integral_constant<int, kStreams>{}, std::integral_constant<int, kEach>{}, i, each);
  for (; i < each; ++i) all(std::integral_constant<int, kStreams>{}, one, i, each);
  for (i = each * kStreams; i < outs; ++i) all(one, one, i, 1);
}

// Many rows: a block of a panel's weights is widened once, then meets every row.
inline void rows_panel(const uint8_t* w, int64_t w_stride, int64_t outs, int64_t in,
                       const uint8_t* x, int64_t x_stride, int64_t rows, float* y, uint8_t* wide) {
  for (int64_t i = 0; i < rows; ++i) store(y + i * kLanes, splat(0.0f));
  const int64_t block = block_inputs(in), wide_stride = (block + 16) * 4;
  for (int64_t start = 0; start < in; start += block) {
    const int64_t length = in - start < block ? in - start : block;
    const uint8_t* from = w + start * 2;
    const uint8_t* inputs = x + start / Bfloats::kStep * Bfloats::kInputBytes;
    if constexpr (kHasBf16Dot) {
      dot_many<Bfloats>(from, w_stride, outs, inputs, x_stride, rows, length / Bfloats::kStep,
                        length % Bfloats::kStep * 2, y, kLanes);
    } else {
      widen_block(from, w_stride, outs, length, wide, wide_stride);
      dot_many<Floats>(wide, wide_stride, outs, inputs, x_stride, rows,
                       rounded(length, 2 * kColumns) / Floats::kStep, 0, y, kLanes);
    }
  }
}

void rows_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows, int64_t first,
                  int64_t last, const Output& y, uint8_t* scratch) {
  const int64_t w_stride = w.in * 2, limit = last * kLanes < w.out ? last * kLanes : w.out;
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes);
  if (rows <= kStreamedRows) {
    const int64_t passes = (rows + kTogether - 1) / kTogether;  // each over weights now in the cache
    return with_rows<kTogether>((rows + passes - 1) / passes, [&](auto r) {
      streamed_rows<decltype(r)::value>(codes + first * kLanes * w_stride, w_stride, w.in,
                                        limit - first * kLanes, x, c.stride, rows, y);
    });
  }
  float* sums = reinterpret_cast<float*>(scratch);
  uint8_t* wide = scratch + rows * kLanes * 4;
  for (int64_t begin = first * kLanes; begin < limit; begin += kLanes) {
    const int64_t outs = limit - begin < kLanes ? limit - begin : kLanes;
    rows_panel(codes + begin * w_stride, w_stride, outs, w.in, x, c.stride, rows, sums, wide);
    float* at = y.at + begin - first * kLanes;
    for (int64_t r = 0; r < rows; ++r, at += y.stride) {
      const F sum = load(sums + r * kLanes);
      store_part(at, y.adds ? load_part(at, outs) + sum : sum, outs);
    }
  }
}

int64_t rows_scratch_bytes(int64_t rows) {
  return rows * kLanes * 4 + (kHasBf16Dot ? 0 : kLanes * (kMostBlock + 16 + 32) * 4);
}
