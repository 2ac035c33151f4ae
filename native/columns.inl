// Products with float32 weights: a lane is an output, so a weight is turned before it is multiplied.
//
// Few rows turn eight inputs of some outputs in registers and use them at once, at the speed of
// memory. Many rows turn a block into the first cache, then a tile of rows meets it. In both, a sum
// is made of blocks of 256 inputs, each from its first input to its last: the same to the bit for
// one row and for a thousand.

constexpr int64_t kBlockInputs = 256;
constexpr int kFewRows = 4;

// Rows of weights that become the lanes of one register; those that are missing repeat the last.
struct Lines {
  const float* at[kColumns];

  Lines(const float* w, int64_t stride, int64_t outs) {
    for (int64_t o = 0; o < kColumns; ++o) at[o] = w + (o < outs ? o : outs - 1) * stride;
  }
  // Lane o of out[k]: input `start` + k of line o; zeros beyond `end`.
  void turn(int64_t start, int64_t end, T (&out)[8]) const {
    if (end - start >= 8) return columns(at, start, out);
    float part[kColumns][8] = {};
    const float* lines[kColumns];
    for (int o = 0; o < kColumns; ++o) {
      lines[o] = part[o];
      for (int64_t k = start; k < end; ++k) part[o][k - start] = at[o][k];
    }
    columns(lines, 0, out);
  }
};

template <int R>
inline void meet(const T (&w)[8], const float* x, int64_t x_stride, T (&acc)[R]) {
  for (int k = 0; k < 8; ++k)
    for (int r = 0; r < R; ++r) acc[r] = fma(w[k], splat_t(x[r * x_stride + k]), acc[r]);
}

// Sums [R, lanes] of the outputs whose weights lie at the lines.
template <int R>
inline void few_rows_sums(const Lines& lines, int64_t in, const float* x, int64_t x_stride,
                          float* sums) {
  T total[R];
  for (auto& one : total) one = splat_t(0.0f);
  for (int64_t start = 0; start < in; start += kBlockInputs) {
    const int64_t end = in - start < kBlockInputs ? in : start + kBlockInputs;
    T acc[R];
    for (auto& one : acc) one = splat_t(0.0f);
    for (int64_t k = start; k < end; k += 8) {
      T turned[8];
      lines.turn(k, end, turned);
      meet<R>(turned, x + k, x_stride, acc);
    }
    for (int r = 0; r < R; ++r) total[r] = total[r] + acc[r];
  }
  for (int r = 0; r < R; ++r) store_t(sums + r * kColumns, total[r]);
}

// Few rows: every weight is read once. A lane takes its outputs from a place of its own, read on and
// on: the memory serves a few long runs faster than many short ones.
template <int R>
void few_rows(const float* w, int64_t in, int64_t outs, const float* x, int64_t x_stride,
              const Output& y) {
  const int64_t each = outs / kColumns, rest = outs % kColumns;
  const auto some = [&](int64_t first, int64_t apart, int64_t count) {
    float sums[R * kColumns];
    few_rows_sums<R>(Lines(w + first * in, apart * in, count), in, x, x_stride, sums);
    for (int r = 0; r < R; ++r)
      for (int64_t o = 0; o < count; ++o) {
        float* at = y.at + r * y.stride + first + o * apart;
        *at = (y.adds ? *at : 0.0f) + sums[r * kColumns + o];
      }
  };
  for (int64_t i = 0; i < each; ++i) some(i, each, kColumns);
  if (rest) some(each * kColumns, 1, rest);
}

// R rows by W registers of outputs; w [inputs, W, lanes] lies in the first cache.
template <int R, int W>
inline void tile(const float* w, const float* x, int64_t x_stride, int64_t inputs, float* y) {
  T acc[R][W];
  for (auto& row : acc)
    for (auto& one : row) one = splat_t(0.0f);
  for (int64_t k = 0; k < inputs; ++k, w += W * kColumns) {
    T v[W];
    for (int i = 0; i < W; ++i) v[i] = load_t(w + i * kColumns);
    for (int r = 0; r < R; ++r) {
      const T one = splat_t(x[r * x_stride + k]);
      for (int i = 0; i < W; ++i) acc[r][i] = fma(v[i], one, acc[r][i]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < W; ++i) {
      float* at = y + (r * W + i) * kColumns;
      store_t(at, load_t(at) + acc[r][i]);
    }
}

// Sums [rows, W, lanes] of the outputs that W registers hold.
template <int W>
void many_rows_sums(const float* w, int64_t in, int64_t outs, const float* x, int64_t x_stride,
                    int64_t rows, float* sums, float* turned) {
  constexpr int kWide = W * kColumns;
  std::memset(sums, 0, static_cast<size_t>(rows) * kWide * 4);
  for (int64_t start = 0; start < in; start += kBlockInputs) {
    const int64_t end = in - start < kBlockInputs ? in : start + kBlockInputs;
    for (int i = 0; i < W; ++i) {
      const int64_t skipped = i * kColumns < outs ? i * kColumns : 0;
      const Lines lines(w + skipped * in, in, outs - skipped);
      for (int64_t k = start; k < end; k += 8) {
        T eight[8];
        lines.turn(k, end, eight);
        for (int j = 0; j < 8; ++j)
          store_t(turned + ((k - start + j) * W + i) * kColumns, eight[j]);
      }
    }
    for (int64_t row = 0; row < rows; row += kTileRows)
      with_rows<kTileRows>(rows - row < kTileRows ? rows - row : kTileRows, [&](auto r) {
        tile<decltype(r)::value, W>(turned, x + row * x_stride + start, x_stride,
                                    rounded(end - start, 8), sums + row * kWide);
      });
  }
}

inline void write_sums(const float* sums, int64_t rows, int64_t wide, int64_t outs, float* at,
                       const Output& y) {
  for (int64_t r = 0; r < rows; ++r, at += y.stride, sums += wide)
    for (int64_t o = 0; o < outs; o += kLanes) {
      const F sum = load(sums + o);
      store_part(at + o, y.adds ? load_part(at + o, outs - o) + sum : sum, outs - o);
    }
}

int64_t columns_scratch_bytes(int64_t rows) {
  return kTileWide * kColumns * 4 * (rows + kBlockInputs);
}

void columns_product(const Matrix& w, const Coding& c, const uint8_t* coded, int64_t rows,
                     int64_t first, int64_t last, const Output& y, float* scratch) {
  constexpr int64_t kWide = kTileWide * kColumns;
  const float *weights = static_cast<const float*>(w.codes),
              *x = reinterpret_cast<const float*>(coded);
  const int64_t x_stride = c.stride / 4, limit = last * kLanes < w.out ? last * kLanes : w.out;
  if (rows <= kFewRows)
    return with_rows<kFewRows>(rows, [&](auto r) {
      few_rows<decltype(r)::value>(weights + first * kLanes * w.in, w.in, limit - first * kLanes, x,
                                   x_stride, y);
    });
  for (int64_t begin = first * kLanes; begin < limit; begin += kWide) {
    const int64_t outs = limit - begin < kWide ? limit - begin : kWide;
    const float* from = weights + begin * w.in;
    many_rows_sums<kTileWide>(from, w.in, outs, x, x_stride, rows, scratch, scratch + rows * kWide);
    write_sums(scratch, rows, kWide, outs, y.at + begin - first * kLanes, y);
  }
}
