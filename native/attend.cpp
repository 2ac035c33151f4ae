// Attention of a pass: keys are turned and stored, then read in chunks that are merged in order.
#include <algorithm>

#include "pass.h"

namespace puna {

// Rotates the key and the queries that read it, and stores key and value in the cache.
void Pass::turn(const Pages& pages, int64_t row, int64_t kv_head) {
  const int64_t E = s_.head_width, group = s_.heads / s_.kv_heads;
  const float *cosine = cosine_ + row * E / 2, *sine = sine_ + row * E / 2;
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    float* q = q_ + (row * s_.heads + h) * E;
    k_.rotate(q, cosine, sine, E, q);
  }
  const int64_t at = position_[row];
  const int32_t page = b_.tables[sequence_[row] * b_.table_width + at / pages.page_tokens];
  const int64_t token = pages.token_at(page, kv_head, at % pages.page_tokens);
  float* key = kk_ + (row * s_.kv_heads + kv_head) * E;
  k_.rotate(key, cosine, sine, E, key);
  k_.write_head(pages, false, token, key);
  k_.write_head(pages, true, token, v_ + (row * s_.kv_heads + kv_head) * E);
}

void Pass::attend(const Crew& crew, const Pages& pages, const Attention& task) {
  const int64_t E = s_.head_width, group = s_.heads / s_.kv_heads;
  const int count = static_cast<int>(task.tokens * group);
  const float* q[kQueryRows];
  float* out[kQueryRows];
  int64_t visible[kQueryRows];
  for (int i = 0; i < count; ++i) {
    const int64_t row = task.row + i / group;
    const int64_t at = (row * s_.heads + task.kv_head * group + i % group) * E;
    q[i] = q_ + at;
    out[i] = mixed_ + at;
    visible[i] = position_[row] + 1;
  }
  const Queries queries{q, visible, count, b_.tables + task.sequence * b_.table_width,
                        task.kv_head};
  if (task.partial >= 0) {
    for (int64_t chunk = task.first_chunk; chunk < task.last_chunk; ++chunk) {
      float* p = partial_ + (task.partial + chunk - task.first_chunk) * kQueryRows * (E + 2);
      k_.attend_chunk(pages, queries, chunk, p, p + kQueryRows, p + 2 * kQueryRows,
                      thread_bytes(crew));
    }
    if (open_[task.group].fetch_sub(1, std::memory_order_acq_rel) == 1) merge_all(task);
    return;
  }
  float* values = thread_floats(crew);
  float *top = values + kQueryRows * E, *total = top + kQueryRows;
  float *tops = total + kQueryRows, *totals = tops + kQueryRows;
  std::fill(totals, totals + count, 0.0f);
  for (int64_t chunk = task.first_chunk; chunk < task.last_chunk; ++chunk) {
    k_.attend_chunk(pages, queries, chunk, top, total, values, thread_bytes(crew));
    for (int i = 0; i < count; ++i)
      k_.merge_chunk(E, tops + i, totals + i, out[i], top[i], total[i], values + i * E);
  }
  for (int i = 0; i < count; ++i)
    for (int64_t e = 0; e < E; ++e) out[i][e] /= totals[i];
}

void Pass::merge_all(const Attention& task) {
  const int64_t E = s_.head_width, group = s_.heads / s_.kv_heads, each = kQueryRows * (E + 2);
  const int64_t chunks = ceil_div(position_[task.row + task.tokens - 1] + 1, kChunk);
  const float* first = partial_ + (task.partial - task.first_chunk) * each;
  for (int64_t i = 0; i < task.tokens * group; ++i) {
    const int64_t row = task.row + i / group, head = task.kv_head * group + i % group;
    float* out = mixed_ + (row * s_.heads + head) * E;
    float top = 0.0f, total = 0.0f;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* p = first + chunk * each;
      k_.merge_chunk(E, &top, &total, out, p[i], p[kQueryRows + i], p + 2 * kQueryRows + i * E);
    }
    for (int64_t e = 0; e < E; ++e) out[e] /= total;
  }
  open_[task.group].store(parts_[task.group], std::memory_order_release);
}

}  // namespace puna
