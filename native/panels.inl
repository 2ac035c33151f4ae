// Products with int8 and int4 weights that lie in panels of 16 outputs.
//
// A lane is an output. Integers are summed exactly within a segment; then
//   groups of weights:   y += input scale * sum over segments of (weight scale * dot)
//   one scale a row:     y += input scale * dot, and the weight's scale comes last.
// Nothing depends on how many rows or threads there are.

constexpr uint16_t kOnes[kLanes] = {0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00,
                                    0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00};

// Where the numbers of a tile lie: its panels and its rows, each so far from the one before.
struct Corner {
  const uint8_t* codes;               // of the first panel, as if they began at input 0
  int64_t codes_apart;                // bytes
  const uint16_t *scales, *zeros;     // of the first panel; zeros may be null
  int64_t scales_apart, zeros_apart;  // numbers
  int64_t step;                       // numbers to the next segment's
  const uint8_t* x;                   // the first row

  Corner(const Matrix& w, int64_t panel, int64_t apart, const uint8_t* x)
      : codes(static_cast<const uint8_t*>(w.codes) + panel * w.panel_bytes()),
        codes_apart(apart * w.panel_bytes()),
        scales(w.scales + panel * w.groups() * kLanes),
        zeros(w.zeros ? w.zeros + panel * w.groups() * kLanes : nullptr),
        scales_apart(apart * w.groups() * kLanes),
        zeros_apart(scales_apart),
        step(kLanes),
        x(x) {
    if (w.group < w.in) return;
    scales = kOnes;  // write_panel scales the whole row
    scales_apart = step = 0;
  }
};

template <class Dot, bool kNibbles>
struct Tile {
  static constexpr int kBytes = kNibbles ? 8 : 16;  // of a panel's codes, for each input
  static constexpr int64_t kSegment = 32;           // inputs of the segments that are usual
  const Coding c;
  const int64_t padded;  // inputs in whole words
  const int middle;      // code that stands for zero, less what Dot subtracted

  Tile(const Matrix& w, const Coding& c)
      : c(c), padded(w.words() * 4), middle((w.format == Format::int4 ? 8 : 128) - Dot::offset) {}

  // Segments [from, to) of R rows and P panels; the first one begins a group of inputs.
  template <int R, int P>
  inline void run(const Corner& t, int64_t from, int64_t to, F (&y)[R][P]) const {
    const int64_t per_group = c.input_group / c.segment;
    int64_t group = from / per_group;
    for (int64_t s = from; s < to; ++group) {
      F part[R][P];
      for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) part[r][p] = splat(0.0f);
      for (const int64_t stop = std::min(s + per_group, to); s < stop; ++s)
        segment<R, P>(t, s, part);
      for (int r = 0; r < R; ++r) {
        const uint8_t* scales = t.x + r * c.stride + c.scales_at;
        const F input = splat(reinterpret_cast<const float*>(scales)[group]);
        for (int p = 0; p < P; ++p) y[r][p] = fma(part[r][p], input, y[r][p]);
      }
    }
  }

  template <int R, int P>
  inline void segment(const Corner& t, int64_t s, F (&part)[R][P]) const {
    const int64_t start = s * c.segment, inputs = std::min(c.segment, padded - start);
    const uint8_t* codes = t.codes + start * kBytes;
    I acc[R][P];
    if (inputs == kSegment) {
      multiply<R, P>(codes, t.codes_apart, t.x + start, kSegment, acc);
    } else {  // in memory of its own, so that the usual sums stay in registers
      I other[R][P];
      multiply_any<R, P>(codes, t.codes_apart, t.x + start, inputs, other);
      for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) acc[r][p] = other[r][p];
    }
    for (int r = 0; r < R; ++r) {
      const int32_t total = reinterpret_cast<const int32_t*>(t.x + r * c.stride + c.sums_at)[s];
      const I shift = splat_i(-middle * total);
      for (int p = 0; p < P; ++p) {
        F value = to_float(acc[r][p] + shift);
        if (t.zeros)
          value = fnma(load_f16(t.zeros + p * t.zeros_apart + s * t.step),
                       splat(static_cast<float>(total)), value);
        part[r][p] = fma(value, load_f16(t.scales + p * t.scales_apart + s * t.step), part[r][p]);
      }
    }
  }

  template <int R, int P>
  __attribute__((noinline)) void multiply_any(const uint8_t* codes, int64_t apart, const uint8_t* x,
                                              int64_t inputs, I (&acc)[R][P]) const {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) acc[r][p] = splat_i(0);
    for (int64_t i = 0; i < inputs; i += Dot::most) {
      I more[R][P];
      multiply<R, P>(codes + i * kBytes, apart, x + i, std::min(Dot::most, inputs - i), more);
      for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) acc[r][p] = acc[r][p] + more[r][p];
    }
  }

  // The integer products of at most Dot::most inputs.
  template <int R, int P>
  inline __attribute__((always_inline)) void multiply(const uint8_t* codes, int64_t apart,
                                                      const uint8_t* x, int64_t inputs,
                                                      I (&acc)[R][P]) const {
    typename Dot::Sum sum[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) sum[r][p] = Dot::zero();
    constexpr int kHeld = R == 1 ? 1 : P;  // panels whose weights wait while the rows pass
#pragma GCC unroll 4
    for (int64_t i = 0; i < inputs; i += 8)
      for (int p = 0; p < P; p += kHeld) {
        typename Dot::W first[kHeld], second[kHeld];
        for (int q = 0; q < kHeld; ++q) {
          const uint8_t* at = codes + (p + q) * apart + i * kBytes;
          const U bytes = load_bytes(at);
          first[q] = Dot::weights(kNibbles ? low_nibbles(bytes) : bytes);
          second[q] = Dot::weights(kNibbles ? high_nibbles(bytes) : load_bytes(at + 64));
        }
        for (int r = 0; r < R; ++r)
          for (int q = 0; q < kHeld; ++q) {
            auto& to = sum[r][p + q];
            to = Dot::dot(to, first[q], word(x, r, i));
            to = Dot::dot(to, second[q], word(x, r, i + 4));
          }
      }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) acc[r][p] = Dot::total(sum[r][p]);
  }

  inline uint32_t word(const uint8_t* x, int r, int64_t i) const {
    uint32_t four;
    std::memcpy(&four, x + r * c.stride + i, 4);
    return four;
  }
};

inline void write_panel(const Matrix& w, int64_t panel, F value, float* at, bool adds) {
  F scaled = value * splat(w.scale_unit);
  if (w.group >= w.in) scaled = scaled * load_f16(w.scales + panel * kLanes);
  const int64_t outs = w.out - panel * kLanes;
  if (adds) scaled = load_part(at, outs) + scaled;
  store_part(at, scaled, outs);
}

// Few rows: every weight is read once, from where it lies. P places of the matrix are read side by
// side, each on and on: the memory serves long runs faster than short ones.
template <class Dot, bool kNibbles, int R, int P>
inline void few_rows(const Matrix& w, const Coding& c, const uint8_t* x, int64_t& panel,
                     int64_t first, int64_t last, const Output& y) {
  const Tile<Dot, kNibbles> tile(w, c);
  const int64_t each = (last - panel) / P;
  for (const int64_t end = panel + each; panel < end; ++panel) {
    F sums[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) sums[r][p] = splat(0.0f);
    tile.template run<R, P>(Corner(w, panel, each, x), 0, c.segments(), sums);
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) {
        const int64_t at = panel + p * each;
        write_panel(w, at, sums[r][p], y.at + r * y.stride + (at - first) * kLanes, y.adds);
      }
  }
  panel += each * (P - 1);
}

template <class Dot, bool kNibbles>
void few_rows_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                      int64_t first, int64_t last, const Output& y) {
  with_rows<kPanelRows>(rows, [&](auto r) {
    constexpr int R = decltype(r)::value;
    // One row has one chain of sums a panel: several panels hide its latency.
    constexpr int kWide = R == 1 ? 4 : R <= 2 * kPanelWide ? 2 : kPanelWide;
    int64_t panel = first;
    few_rows<Dot, kNibbles, R, kWide>(w, c, x, panel, first, last, y);
    few_rows<Dot, kNibbles, R, 1>(w, c, x, panel, first, last, y);
  });
}

// Some rows: a panel is read from memory once and stays in the first cache while they pass.
constexpr int64_t kSomeRows = kPanelRows < 12 ? 12 : 2 * kPanelRows;

template <class Dot, bool kNibbles, int P>
inline void some_rows(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                      int64_t& panel, int64_t first, int64_t last, const Output& y) {
  for (; panel + P <= last; panel += P)
    for (int64_t row = 0; row < rows; row += kPanelRows)
      with_rows<kPanelRows>(std::min<int64_t>(kPanelRows, rows - row), [&](auto r) {
        int64_t at = panel;
        few_rows<Dot, kNibbles, decltype(r)::value, P>(w, c, x + row * c.stride, at, first, at + P,
                                                       {y.at + row * y.stride, y.stride, y.adds});
      });
}

template <class Dot, bool kNibbles>
void some_rows_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                       int64_t first, int64_t last, const Output& y) {
  int64_t panel = first;
  some_rows<Dot, kNibbles, kPanelWide>(w, c, x, rows, panel, first, last, y);
  some_rows<Dot, kNibbles, 1>(w, c, x, rows, panel, first, last, y);
}

constexpr int64_t kSpan = 1024;    // inputs, about: their weights of a tile stay near the first cache
constexpr int64_t kRowBlock = 128;  // rows whose inputs stay in the second one

// Many rows: a span of a few panels is unpacked once, then meets every row.
template <class Dot, int P>
void many_rows_panels(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                      int64_t panel, float* y, const Output& out, uint8_t* scratch) {
  const Tile<Dot, false> tile(w, c);
  Corner corner(w, panel, 1, x);
  const uint8_t* codes = corner.codes;
  const int64_t per_span = rounded(kSpan, c.input_group) / c.segment;
  float* sums = reinterpret_cast<float*>(scratch);  // [rows, P, 16]
  uint8_t* bytes = scratch + rows * P * 64;
  for (int64_t i = 0; i < rows * P; ++i) store(sums + i * kLanes, splat(0.0f));
  for (int64_t from = 0; from < c.segments(); from += per_span) {
    const int64_t to = std::min(from + per_span, c.segments());
    const int64_t origin = from * c.segment, end = std::min(to * c.segment, w.words() * 4);
    if (w.format == Format::int4) {
      corner.codes_apart = (end - origin) * 16;
      corner.codes = bytes - origin * 16;
      for (int p = 0; p < P; ++p)
        for (int64_t i = 0; i < (end - origin) / 8; ++i) {
          const U pair = load_bytes(codes + p * w.panel_bytes() + (origin / 8 + i) * 64);
          store_bytes(bytes + p * corner.codes_apart + i * 128, low_nibbles(pair));
          store_bytes(bytes + p * corner.codes_apart + i * 128 + 64, high_nibbles(pair));
        }
    }
    for (int64_t row = 0; row < rows; row += kPanelRows)
      with_rows<kPanelRows>(std::min<int64_t>(kPanelRows, rows - row), [&](auto r) {
        constexpr int R = decltype(r)::value;
        F part[R][P];
        for (int i = 0; i < R; ++i)
          for (int p = 0; p < P; ++p) part[i][p] = load(sums + ((row + i) * P + p) * kLanes);
        corner.x = x + row * c.stride;
        tile.template run<R, P>(corner, from, to, part);
        for (int i = 0; i < R; ++i)
          for (int p = 0; p < P; ++p) store(sums + ((row + i) * P + p) * kLanes, part[i][p]);
      });
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int p = 0; p < P; ++p)
      write_panel(w, panel + p, load(sums + (r * P + p) * kLanes), y + r * out.stride + p * kLanes,
                  out.adds);
}

template <class Dot>
void many_rows_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                       int64_t first, int64_t last, const Output& y, uint8_t* scratch) {
  for (int64_t row = 0; row < rows; row += kRowBlock) {
    const int64_t some = std::min(kRowBlock, rows - row);
    const uint8_t* from = x + row * c.stride;
    float* at = y.at + row * y.stride;
    int64_t panel = first;
    for (; panel + kPanelWide <= last; panel += kPanelWide, at += kPanelWide * kLanes)
      many_rows_panels<Dot, kPanelWide>(w, c, from, some, panel, at, y, scratch);
    for (; panel < last; ++panel, at += kLanes)
      many_rows_panels<Dot, 1>(w, c, from, some, panel, at, y, scratch);
  }
}

void packed_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                    int64_t first, int64_t last, const Output& y, uint8_t* scratch) {
  const bool is_int4 = w.format == Format::int4;
  if (rows <= kPanelRows)
    return is_int4 ? few_rows_product<Small, true>(w, c, x, rows, first, last, y)
                   : few_rows_product<Wide, false>(w, c, x, rows, first, last, y);
  if (rows <= kSomeRows)
    return is_int4 ? some_rows_product<Small, true>(w, c, x, rows, first, last, y)
                   : some_rows_product<Wide, false>(w, c, x, rows, first, last, y);
  return is_int4 ? many_rows_product<Small>(w, c, x, rows, first, last, y, scratch)
                 : many_rows_product<Wide>(w, c, x, rows, first, last, y, scratch);
}

// One row of a packed matrix, gathered from its lane.
void packed_row(const Matrix& w, int64_t index, float* out) {
  const int64_t panel = index / kLanes, lane = index % kLanes;
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes) + panel * w.panel_bytes();
  for (int64_t g = 0; g < w.groups(); ++g) {
    const int64_t at = (panel * w.groups() + g) * kLanes;
    float scale[16], zero[16] = {};
    store(scale, load_f16(w.scales + at) * splat(w.scale_unit));
    if (w.zeros) store(zero, load_f16(w.zeros + at));
    const int64_t end = (g + 1) * w.group < w.in ? (g + 1) * w.group : w.in;
    for (int64_t i = g * w.group; i < end; ++i) {
      int code;
      if (w.format == Format::int8) {
        code = codes[i / 4 * 64 + lane * 4 + i % 4] - 128;
      } else {
        const int both = codes[i / 8 * 64 + lane * 4 + i % 4];
        code = (i % 8 < 4 ? both & 15 : both >> 4) - 8;
      }
      out[i] = (static_cast<float>(code) - zero[lane]) * scale[lane];
    }
  }
}
