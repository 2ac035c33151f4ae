// Keys and values as they are kept: as they are, in bfloat16, or in eight bits with a scale for each
// head of each token. puna/quant/cache.py says the same in torch, to the bit for e4m3.

constexpr float kE4m3Max = 448.0f;  // the largest finite number of e4m3

// Nearest, ties to even, of |x| <= 448. Below 2^-6 the numbers of e4m3 are multiples of 2^-9, which
// is the distance of float32's numbers at 2^14.
inline uint8_t e4m3_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 24 & 0x80;
  bits &= 0x7fffffff;
  float size;
  std::memcpy(&size, &bits, 4);
  const float shifted = size + 16384.0f;
  uint32_t small;
  std::memcpy(&small, &shifted, 4);
  small -= 0x46800000;  // 2^14
  const uint32_t large = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
  const uint32_t code = bits < 0x3c800000 ? small : large;  // 2^-6
  return static_cast<uint8_t>(sign | (code < 0x7e ? code : 0x7e));
}

// The bits of e4m3 stand in float16 as the same number divided by 256.
inline F load_e4m3(const uint8_t* p, float scale) {
  uint16_t half[16];
  for (int i = 0; i < 16; ++i)
    half[i] = static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
  return load_f16(half) * splat(256.0f * scale);
}

// The head's largest size; NaN where a number is NaN or infinite.
inline float peak_of(const float* x, int64_t width) {
  F top = splat(0.0f), poison = splat(0.0f);
  for (int64_t i = 0; i < width; i += 16) {
    const F v = load_part(x + i, width - i);
    top = max(top, absolute(v));
    poison = fma(v, splat(0.0f), poison);
  }
  const float peak = largest(top);
  return sum(poison) != 0.0f ? NAN : peak > 1e-12f ? peak : 1e-12f;
}

// A head in eight bits; its scale is NaN, and its codes 0, where it holds NaN or an infinity.
void write_small(const float* x, int64_t width, Format format, uint8_t* at, float* scale) {
  const float peak = peak_of(x, width), most = format == Format::fp8 ? kE4m3Max : 127.0f;
  const bool is_finite = peak == peak;
  const F inverse = splat(is_finite ? most / peak : 0.0f);
  *scale = peak / most;
  for (int64_t i = 0; i < width; i += 16) {
    const F v = is_finite ? load_part(x + i, width - i) * inverse : splat(0.0f);
    uint8_t part[16];
    if (format == Format::fp8) {
      float wide[16];
      store(wide, v);
      for (int j = 0; j < 16; ++j) part[j] = e4m3_of(wide[j]);
    } else {
      store_i8(reinterpret_cast<int8_t*>(part), nearest(v));
    }
    std::memcpy(at + i, part, static_cast<size_t>(width - i < 16 ? width - i : 16));
  }
}

void write_head(const Pages& pages, bool is_value, int64_t token_at, const float* x) {
  const int64_t width = pages.head_width;
  void* base = is_value ? pages.values : pages.keys;
  switch (pages.format) {
    case Format::f32:
      std::memcpy(static_cast<float*>(base) + token_at * width, x, static_cast<size_t>(width) * 4);
      return;
    case Format::bf16: {
      uint16_t* at = static_cast<uint16_t*>(base) + token_at * width;
      for (int64_t i = 0; i < width; i += 16) {
        uint16_t part[16];
        store_bf16(part, load_part(x + i, width - i));
        std::memcpy(at + i, part, static_cast<size_t>(width - i < 16 ? width - i : 16) * 2);
      }
      return;
    }
    default:
      write_small(x, width, pages.format, static_cast<uint8_t*>(base) + token_at * width,
                  (is_value ? pages.value_scales : pages.key_scales) + token_at);
  }
}

// Numbers [i, i + 16) of a head as float32, zeros behind the last of its `width`.
inline F read_head(const Pages& pages, bool is_value, int64_t token, int64_t i) {
  const int64_t width = pages.head_width, at = token * width + i;
  const int64_t n = width - i < 16 ? width - i : 16;
  const size_t some = static_cast<size_t>(n);
  const void* base = is_value ? pages.values : pages.keys;
  if (pages.format == Format::f32) return load_part(static_cast<const float*>(base) + at, n);
  if (pages.format == Format::bf16) {
    const uint16_t* from = static_cast<const uint16_t*>(base) + at;
    uint16_t part[16] = {};
    if (n < 16) std::memcpy(part, from, some * 2);
    return load_bf16(n < 16 ? part : from);
  }
  const uint8_t* from = static_cast<const uint8_t*>(base) + at;
  uint8_t part[16] = {};
  if (n < 16) std::memcpy(part, from, some);
  if (n < 16) from = part;
  const float scale = (is_value ? pages.value_scales : pages.key_scales)[token];
  if (pages.format == Format::fp8) return load_e4m3(from, scale);
  return load_i8(reinterpret_cast<const int8_t*>(from)) * splat(scale);
}

struct Keys {  // rows of float32, where they lie or copied
  const float* at;
  int64_t stride;
};

// The keys or values [0, count) of a chunk as float32 rows, zeros behind each.
Keys read_chunk(const Pages& pages, const Queries& queries, bool is_value, int64_t chunk,
                int64_t count, float* copy) {
  const int64_t width = pages.head_width, stride = rounded(width, 16);
  const void* base = is_value ? pages.values : pages.keys;
  const int64_t begin = chunk * kChunk;
  if (pages.format == Format::f32 && width % 16 == 0 && pages.page_tokens % kChunk == 0) {
    const int64_t token = pages.token_at(queries.table[begin / pages.page_tokens], queries.kv_head,
                                         begin % pages.page_tokens);
    return {static_cast<const float*>(base) + token * width, width};
  }
  for (int64_t j = 0; j < count; ++j) {
    const int64_t position = begin + j;
    const int64_t token = pages.token_at(queries.table[position / pages.page_tokens],
                                         queries.kv_head, position % pages.page_tokens);
    for (int64_t i = 0; i < width; i += 16)
      store(copy + j * stride + i, read_head(pages, is_value, token, i));
  }
  return {copy, stride};
}
