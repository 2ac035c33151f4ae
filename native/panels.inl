// Products with int8 and int4 weights that lie in panels of 16 outputs.
//
// A lane is an output. Integers are summed exactly within a segment; then
//   groups of weights:   y += input scale * sum over segments of (weight scale * dot)
//   one scale a row:     y += input scale * dot, and the weight's scale comes last.
// Nothing depends on how many rows or threads there are.

template <class Dot, bool kNibbles>
struct Tile {
  const Matrix& w;
  const Coding& c;
  const bool is_rowwise;
  const int middle;  // code that stands for zero, less what Dot subtracted

  Tile(const Matrix& w, const Coding& c)
      : w(w), c(c), is_rowwise(w.group >= w.in),
        middle((w.format == Format::int4 ? 8 : 128) - Dot::offset) {}

  // Segments [from, to) of R rows and P panels, each so many after the one before; `codes` is the
  // first of them, at input `origin`.
  template <int R, int P>
  inline void run(const uint8_t* codes, int64_t panel_stride, int64_t origin, int64_t panel,
                  int64_t apart, const uint8_t* x, int64_t from, int64_t to, F (&y)[R][P]) const {
    const int64_t per_group = c.input_group / c.segment, groups = w.groups();
    F part[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) part[r][p] = splat(0.0f);
    for (int64_t s = from; s < to; ++s) {
      const int64_t start = s * c.segment;
      const int64_t end = start + c.segment < w.words() * 4 ? start + c.segment : w.words() * 4;
      I acc[R][P];
      for (int r = 0; r < R; ++r) {
        const int32_t total = totals(x, r)[s];
        for (int p = 0; p < P; ++p) acc[r][p] = splat_i(-middle * total);
      }
      multiply<R, P>(codes + (start - origin) * (kNibbles ? 8 : 16), panel_stride, x, start, end,
                     acc);
      const bool closes = (s + 1) % per_group == 0 || s + 1 == c.segments();
      for (int p = 0; p < P; ++p) {
        const int64_t at = ((panel + p * apart) * groups + (is_rowwise ? 0 : s)) * kLanes;
        const F scale = is_rowwise ? splat(1.0f) : load_f16(w.scales + at);
        for (int r = 0; r < R; ++r) {
          F value = to_float(acc[r][p]);
          if (w.zeros)
            value = fnma(load_f16(w.zeros + at), splat(static_cast<float>(totals(x, r)[s])), value);
          const float input = scales(x, r)[s / per_group];
          if (is_rowwise) {
            y[r][p] = fma(value, splat(input), y[r][p]);
            continue;
          }
          part[r][p] = fma(value, scale, part[r][p]);
          if (!closes) continue;
          y[r][p] = fma(part[r][p], splat(input), y[r][p]);
          part[r][p] = splat(0.0f);
        }
      }
    }
  }

  template <int R, int P>
  inline void multiply(const uint8_t* at, int64_t panel_stride, const uint8_t* x, int64_t start,
                       int64_t end, I (&acc)[R][P]) const {
    if constexpr (kNibbles) {
      for (int64_t i = start; i < end; i += 8, at += 64) {
        typename Dot::W low[P], high[P];
        for (int p = 0; p < P; ++p) {
          const U pair = load_bytes(at + p * panel_stride);
          low[p] = Dot::weights(low_nibbles(pair));
          high[p] = Dot::weights(high_nibbles(pair));
        }
        for (int r = 0; r < R; ++r)
          for (int p = 0; p < P; ++p)
            acc[r][p] = Dot::dot2(acc[r][p], low[p], high[p], word(x, r, i), word(x, r, i + 4));
      }
    } else {
      for (int64_t i = start; i < end; i += 8, at += 128) {
        typename Dot::W first[P], second[P];
        for (int p = 0; p < P; ++p) {
          first[p] = Dot::weights(load_bytes(at + p * panel_stride));
          second[p] = Dot::weights(load_bytes(at + p * panel_stride + 64));
        }
        for (int r = 0; r < R; ++r)
          for (int p = 0; p < P; ++p)
            acc[r][p] = Dot::dot2(acc[r][p], first[p], second[p], word(x, r, i), word(x, r, i + 4));
      }
    }
  }

  inline uint32_t word(const uint8_t* x, int r, int64_t i) const {
    uint32_t four;
    std::memcpy(&four, x + r * c.stride + i, 4);
    return four;
  }
  inline const float* scales(const uint8_t* x, int r) const {
    return reinterpret_cast<const float*>(x + r * c.stride + c.scales_at);
  }
  inline const int32_t* totals(const uint8_t* x, int r) const {
    return reinterpret_cast<const int32_t*>(x + r * c.stride + c.sums_at);
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
  const int64_t bytes = w.panel_bytes(), each = (last - panel) / P;
  for (const int64_t end = panel + each; panel < end; ++panel) {
    F sums[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) sums[r][p] = splat(0.0f);
    tile.template run<R, P>(static_cast<const uint8_t*>(w.codes) + panel * bytes, each * bytes, 0,
                            panel, each, x, 0, c.segments(), sums);
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

constexpr int64_t kSpan = 1024;  // inputs, about: their weights of a tile stay near the first cache

// Many rows: a span of two panels is unpacked once, then meets every row.
template <class Dot, int P>
void many_rows_panels(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                      int64_t panel, int64_t first, const Output& y, uint8_t* scratch) {
  const Tile<Dot, false> tile(w, c);
  const uint8_t* codes = static_cast<const uint8_t*>(w.codes) + panel * w.panel_bytes();
  const int64_t per_span = rounded(kSpan, c.input_group) / c.segment;
  float* sums = reinterpret_cast<float*>(scratch);  // [rows, P, 16]
  uint8_t* bytes = scratch + rows * P * 64;
  for (int64_t i = 0; i < rows * P; ++i) store(sums + i * kLanes, splat(0.0f));
  for (int64_t from = 0; from < c.segments(); from += per_span) {
    const int64_t to = from + per_span < c.segments() ? from + per_span : c.segments();
    const int64_t origin = from * c.segment;
    const int64_t end = to == c.segments() ? w.words() * 4 : to * c.segment;
    const uint8_t* span = codes + origin * 16;
    int64_t stride = w.panel_bytes();
    if (w.format == Format::int4) {
      stride = (end - origin) * 16;
      for (int p = 0; p < P; ++p)
        for (int64_t i = 0; i < (end - origin) / 8; ++i) {
          const U pair = load_bytes(codes + p * w.panel_bytes() + (origin / 8 + i) * 64);
          store_bytes(bytes + p * stride + i * 128, low_nibbles(pair));
          store_bytes(bytes + p * stride + i * 128 + 64, high_nibbles(pair));
        }
      span = bytes;
    }
    for (int64_t row = 0; row < rows; row += kPanelRows) {
      const int64_t some = rows - row < kPanelRows ? rows - row : kPanelRows;
      with_rows<kPanelRows>(some, [&](auto r) {
        constexpr int R = decltype(r)::value;
        F part[R][P];
        for (int i = 0; i < R; ++i)
          for (int p = 0; p < P; ++p) part[i][p] = load(sums + ((row + i) * P + p) * kLanes);
        tile.template run<R, P>(span, stride, origin, panel, 1, x + row * c.stride, from, to, part);
        for (int i = 0; i < R; ++i)
          for (int p = 0; p < P; ++p) store(sums + ((row + i) * P + p) * kLanes, part[i][p]);
      });
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int p = 0; p < P; ++p)
      write_panel(w, panel + p, load(sums + (r * P + p) * kLanes),
                  y.at + r * y.stride + (panel + p - first) * kLanes, y.adds);
}

template <class Dot>
void many_rows_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                       int64_t first, int64_t last, const Output& y, uint8_t* scratch) {
  int64_t panel = first;
  for (; panel + kPanelWide <= last; panel += kPanelWide)
    many_rows_panels<Dot, kPanelWide>(w, c, x, rows, panel, first, y, scratch);
  for (; panel < last; ++panel) many_rows_panels<Dot, 1>(w, c, x, rows, panel, first, y, scratch);
}

void packed_product(const Matrix& w, const Coding& c, const uint8_t* x, int64_t rows,
                    int64_t first, int64_t last, const Output& y, uint8_t* scratch) {
  const bool is_int4 = w.format == Format::int4;
  if (rows <= kPanelRows)
    return is_int4 ? few_rows_product<Small, true>(w, c, x, rows, first, last, y)
                   : few_rows_product<Wide, false>(w, c, x, rows, first, last, y);
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
