// Rows written down for a product: float32, bfloat16, or int8 with a scale for each 128 inputs.

// The first n of 16 floats, zeros behind them.
inline F load_part(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  float part[16] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
}
inline void store_part(float* p, F x, int64_t n) {
  if (n >= 16) return store(p, x);
  float part[16];
  store(part, x);
  for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}

int64_t rounded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

Coding coding_of(const Matrix& w) {
  Coding c;
  c.in = w.in;
  switch (w.format) {
    case Format::f32:
      c.format = Format::f32;
      c.stride = rounded(w.in, 16) * 4;
      // Rows of a tile must not all lie in the same few sets of the first cache.
      if (c.stride % 2048 == 0) c.stride += 1088;
      return c;
    case Format::bf16:
      c.format = Format::bf16;
      c.stride = rounded(w.in, 32) * (kHasBf16Dot ? 2 : 4);
      if (c.stride % 2048 == 0) c.stride += 1088;
      return c;
    default: break;
  }
  c.format = Format::int8;
  if (w.group >= w.in) {  // one scale a row: the inputs' groups are the finer ones
    c.segment = c.input_group = kInputGroup;
  } else {
    c.segment = w.group;
    c.input_group = w.group * ((kInputGroup + w.group - 1) / w.group);
  }
  c.scales_at = rounded(w.words() * 4, 64);
  c.sums_at = c.scales_at + rounded((w.in + c.input_group - 1) / c.input_group * 4, 64);
  c.stride = c.sums_at + rounded(c.segments() * 4, 64);
  return c;
}

// x = q * scale with q in -127..127 and scale = max |x| / 127. A group with NaN or an infinity gets
// the scale NaN, so that the error is seen in the outputs; one of (nearly) zeros gets 0.
void encode_int8(const Coding& c, const float* x, uint8_t* out) {
  int8_t* codes = reinterpret_cast<int8_t*>(out);
  float* scales = reinterpret_cast<float*>(out + c.scales_at);
  int32_t* sums = reinterpret_cast<int32_t*>(out + c.sums_at);
  std::memset(codes + c.in / 16 * 16, 0, static_cast<size_t>(c.scales_at - c.in / 16 * 16));
  for (int64_t start = 0; start < c.in; start += c.input_group, ++scales) {
    const int64_t end = start + c.input_group < c.in ? start + c.input_group : c.in;
    F top = splat(0.0f), poison = splat(0.0f);
    for (int64_t i = start; i < end; i += 16) {
      const F v = load_part(x + i, end - i);
      top = max(top, absolute(v));
      poison = fma(v, splat(0.0f), poison);
    }
    const float peak = largest(top), trouble = sum(poison);
    const bool is_finite = trouble == 0.0f, is_zero = !(peak > 1e-30f);
    const float inverse = is_finite && !is_zero ? 127.0f / peak : 0.0f;
    *scales = !is_finite ? NAN : is_zero ? 0.0f : peak / 127.0f;
    for (int64_t i = start; i < end; i += 16) {
      const I q = is_finite ? nearest(load_part(x + i, end - i) * splat(inverse)) : splat_i(0);
      if (end - i >= 16) {
        store_i8(codes + i, q);
      } else {
        int8_t part[16];
        store_i8(part, q);
        std::memcpy(codes + i, part, static_cast<size_t>(end - i));
      }
    }
  }
  for (int64_t start = 0; start < c.in; start += c.segment) {
    const int64_t end = start + c.segment < c.in ? start + c.segment : c.in;
    int32_t total = 0;
    for (int64_t i = start; i < end; ++i) total += codes[i];
    *sums++ = total;
  }
}

// Even inputs first, a register of them, then as many odd ones; bfloat16 stay in their order.
void encode_bf16(const Coding& c, const float* x, uint8_t* out) {
  for (int64_t i = 0; i < c.in; i += 32) {
    const F a = load_part(x + i, c.in - i), b = load_part(x + i + 16, c.in - i - 16);
    if constexpr (kHasBf16Dot) {
      store_bf16(reinterpret_cast<uint16_t*>(out) + i, a);
      store_bf16(reinterpret_cast<uint16_t*>(out) + i + 16, b);
    } else {
      float both[32], *split = reinterpret_cast<float*>(out) + i;
      store(both, to_bf16(a));
      store(both + 16, to_bf16(b));
      for (int j = 0; j < 32; ++j)
        split[j / 2 % kColumns + j % 2 * kColumns + j / (2 * kColumns) * (2 * kColumns)] = both[j];
    }
  }
}

void encode(const Coding& c, const float* x, uint8_t* out) {
  switch (c.format) {
    case Format::f32: {
      float* row = reinterpret_cast<float*>(out);
      for (int64_t i = 0; i < c.in; i += 16) store(row + i, load_part(x + i, c.in - i));
      return;
    }
    case Format::bf16: return encode_bf16(c, x, out);
    default: return encode_int8(c, x, out);
  }
}

// x / sqrt(mean(x^2) + eps) * weight
void norm(const float* x, const float* weight, float eps, int64_t width, float* out) {
  F squares = splat(0.0f);
  for (int64_t i = 0; i < width; i += 16) {
    const F v = load_part(x + i, width - i);
    squares = fma(v, v, squares);
  }
  const F scale = splat(1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + eps));
  for (int64_t i = 0; i < width; i += 16)
    store_part(out + i, load_part(x + i, width - i) * scale * load_part(weight + i, width - i),
               width - i);
}
