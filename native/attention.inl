// Softmax attention of a few queries over 64 keys of one head, read through a page table.
//
// Each chunk of 64 keys is computed by itself and chunks are merged in order, so that decoding, a
// whole prompt and a prompt in pieces give the same bits, whoever computes which chunk.

#include "cache.inl"
#include "exponential.inl"

// gate * sigmoid(gate) * up
void silu_times(const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const F g = load_part(gate + i, count - i);
    const F wave = g / (splat(1.0f) + exponential(splat(0.0f) - g));
    store_part(out + i, wave * load_part(up + i, count - i), count - i);
  }
}

// Turn the pairs (i, i + width / 2) by their angles.
void rotate(const float* x, const float* cosine, const float* sine, int64_t width, float* out) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t n = half - i;
    const F a = load_part(x + i, n), b = load_part(x + half + i, n);
    const F c = load_part(cosine + i, n), s = load_part(sine + i, n);
    store_part(out + i, fnma(b, s, a * c), n);
    store_part(out + half + i, fma(a, s, b * c), n);
  }
}

// Scores to weights e^(score - top) of the visible keys; the others weigh nothing.
inline void soften(float* scores, int64_t visible, float* top, float* total) {
  F best = splat(-INFINITY);
  for (int64_t j = visible; j < kChunk; ++j) scores[j] = -INFINITY;
  for (int j = 0; j < kChunk; j += 16) best = max(best, load(scores + j));
  const float peak = largest(best);
  F whole = splat(0.0f);
  for (int j = 0; j < kChunk; j += 16) {
    const F p = exponential(load(scores + j) - splat(peak));
    store(scores + j, p);
    whole = whole + p;
  }
  for (int64_t j = visible; j < kChunk; ++j) scores[j] = 0.0f;
  *top = peak;
  *total = sum(whole);
}

template <int R, int Q>
inline void weigh(const float* p, const Keys& v, int64_t count, int64_t column, float* out,
                  int64_t width) {
  F acc[R][Q];
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) acc[r][q] = splat(0.0f);
  for (int64_t j = 0; j < count; ++j) {
    F x[Q];
    for (int q = 0; q < Q; ++q) x[q] = load(v.at + j * v.stride + column + q * 16);
    for (int r = 0; r < R; ++r) {
      const F weight = splat(p[r * kChunk + j]);
      for (int q = 0; q < Q; ++q) acc[r][q] = fma(x[q], weight, acc[r][q]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q)
      store_part(out + r * width + column + q * 16, acc[r][q], width - column - q * 16);
}

template <int R>
inline void weigh_rows(const float* p, const Keys& v, int64_t count, float* out, int64_t width) {
  int64_t column = 0;
  for (; column + 32 <= rounded(width, 16); column += 32)
    weigh<R, 2>(p, v, count, column, out, width);
  for (; column < width; column += 16) weigh<R, 1>(p, v, count, column, out, width);
}

int64_t attention_scratch_bytes(const Pages& pages) {
  const int64_t stride = rounded(pages.head_width, 16);
  return 4 * (kQueryRows * stride + 2 * kChunk * stride + kQueryRows * kChunk);
}

void attend_chunk(const Pages& pages, const Queries& queries, int64_t chunk, float* top,
                  float* total, float* values, uint8_t* scratch) {
  const int64_t width = pages.head_width, stride = rounded(width, 16);
  float* q = reinterpret_cast<float*>(scratch);
  float* key_copy = q + kQueryRows * stride;
  float* value_copy = key_copy + kChunk * stride;
  float* scores = value_copy + kChunk * stride;
  const F scale = splat(1.0f / std::sqrt(static_cast<float>(width)));
  int64_t count = 0;
  for (int r = 0; r < queries.count; ++r) {
    for (int64_t i = 0; i < stride; i += 16)
      store(q + r * stride + i, load_part(queries.q[r] + i, width - i) * scale);
    const int64_t seen = queries.visible[r] - chunk * kChunk;
    count = seen > count ? seen : count;
  }
  count = count < kChunk ? count : kChunk;
  const Keys keys = read_chunk(pages, queries, false, chunk, count, key_copy);
  const Keys held = read_chunk(pages, queries, true, chunk, count, value_copy);
  std::memset(scores, 0, static_cast<size_t>(queries.count) * kChunk * 4);
  for (int64_t j = 0; j < count; j += kLanes)
    dot_many<RowMajor<Format::f32>>(
        reinterpret_cast<const uint8_t*>(keys.at + j * keys.stride), keys.stride * 4,
        count - j < kLanes ? count - j : kLanes, reinterpret_cast<const uint8_t*>(q), stride * 4,
        queries.count, stride / 16, 0, scores + j, kChunk);
  for (int r = 0; r < queries.count; ++r) {
    const int64_t seen = queries.visible[r] - chunk * kChunk;
    if (seen > 0) {
      soften(scores + r * kChunk, seen < kChunk ? seen : kChunk, top + r, total + r);
    } else {
      std::memset(scores + r * kChunk, 0, kChunk * 4);
      top[r] = -INFINITY;
      total[r] = 0.0f;
    }
  }
  int r = 0;
  for (; r + 3 <= queries.count; r += 3)
    weigh_rows<3>(scores + r * kChunk, held, count, values + r * width, width);
  for (; r < queries.count; ++r)
    weigh_rows<1>(scores + r * kChunk, held, count, values + r * width, width);
}

void merge_chunk(int64_t width, float* top, float* total, float* values, float chunk_top,
                 float chunk_total, const float* chunk_values) {
  if (chunk_total == 0.0f) return;
  if (*total == 0.0f) {
    *top = chunk_top;
    *total = chunk_total;
    std::memcpy(values, chunk_values, static_cast<size_t>(width) * 4);
    return;
  }
  const float peak = *top > chunk_top ? *top : chunk_top;
  const float mine = exponential(*top - peak), theirs = exponential(chunk_top - peak);
  *top = peak;
  *total = *total * mine + chunk_total * theirs;
  for (int64_t i = 0; i < width; i += 16)
    store_part(values + i,
               fma(load_part(chunk_values + i, width - i), splat(theirs),
                   load_part(values + i, width - i) * splat(mine)),
               width - i);
}
