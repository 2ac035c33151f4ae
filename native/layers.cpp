// The layers of a pass: products, norms and the gated unit, handed out to the crew piece by piece.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "pass.h"

namespace puna {

thread_local int64_t Pass::phase_of_thread = 0;

void Pass::work(const Crew& crew, float* logits) {
  phase_of_thread = 0;
  const int64_t half = s_.head_width / 2;
  phase().each(rows_, [&](int64_t row) {
    k_.row(d_.embed_, b_.ids[first_ + row], x_ + row * s_.width);
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position_[row]) * d_.freqs_[i];
      cosine_[row * half + i] = std::cos(angle);
      sine_[row * half + i] = std::sin(angle);
    }
  });
  crew.barrier->wait();
  for (size_t i = 0; i < d_.layers_.size(); ++i)
    layer(crew, d_.layers_[i], static_cast<int64_t>(i));
  if (wanted_.empty()) return;
  const int64_t count = static_cast<int64_t>(wanted_.size());
  if (count != rows_) {  // the rows move together, each to a place before its own
    if (crew.index == 0)
      for (int64_t i = 0; i < count; ++i)
        std::memmove(x_ + i * s_.width, x_ + wanted_[i] * s_.width,
                     static_cast<size_t>(s_.width) * 4);
    crew.barrier->wait();
  }
  const Coding coding = k_.coding(d_.head_);
  const uint8_t* in = coded(crew, coding, x_, count, s_.width, d_.norm_);
  const Product head{&d_.head_, logits + logits_at_ * s_.vocab, s_.vocab, false};
  products(crew, coding, in, count, &head, 1);
}

void Pass::layer(const Crew& crew, const Layer& w, int64_t index) {
  const int64_t query = s_.heads * s_.head_width, keys = s_.kv_heads * s_.head_width;
  const Pages pages = pages_of(index);

  Coding coding = k_.coding(w.wq);
  const uint8_t* in = coded(crew, coding, x_, rows_, s_.width, w.attn_norm);
  const Product three[] = {
      {&w.wq, q_, query, false}, {&w.wk, kk_, keys, false}, {&w.wv, v_, keys, false}};
  products(crew, coding, in, rows_, three, 3);

  if (!turns_in_attention_) {
    phase().each(rows_ * s_.kv_heads,
                 [&](int64_t i) { turn(pages, i / s_.kv_heads, i % s_.kv_heads); });
    crew.barrier->wait();
  }
  phase().each(static_cast<int64_t>(tasks_.size()), [&](int64_t i) {
    if (turns_in_attention_) turn(pages, tasks_[i].row, tasks_[i].kv_head);
    attend(crew, pages, tasks_[i]);
  });
  crew.barrier->wait();

  coding = k_.coding(w.wo);
  in = coded(crew, coding, mixed_, rows_, query, nullptr);
  const Product out{&w.wo, x_, s_.width, true};
  products(crew, coding, in, rows_, &out, 1);

  coding = k_.coding(w.gate);
  gated(crew, w, coding, coded(crew, coding, x_, rows_, s_.width, w.mlp_norm));

  coding = k_.coding(w.down);
  in = coded(crew, coding, hidden_, rows_, s_.mlp_width, nullptr);
  const Product down{&w.down, x_, s_.width, true};
  products(crew, coding, in, rows_, &down, 1);
}

// Rows normalised where a weight is given, then coded. Few rows are coded by every thread for
// itself, which costs less than waiting for each other.
const uint8_t* Pass::coded(const Crew& crew, const Coding& coding, const float* x, int64_t rows,
                           int64_t width, const float* norm_weight) {
  const bool repeats = rows_ <= kRepeatedRows;
  uint8_t* out = repeats ? thread_bytes(crew) + scratch_each_ : shared_coded_;
  const auto code = [&](int64_t row) {
    const float* from = x + row * width;
    if (norm_weight) {
      k_.norm(from, norm_weight, s_.norm_eps, width, thread_floats(crew));
      from = thread_floats(crew);
    }
    k_.encode(coding, from, out + row * coding.stride);
  };
  if (repeats) {
    for (int64_t row = 0; row < rows; ++row) code(row);
  } else {
    phase().each(rows, code);
    crew.barrier->wait();
  }
  return out;
}

// Ranges of panels: a share for each thread, then the rest, piece by piece.
template <class Body>
void Pass::panels(const Crew& crew, int64_t count, int64_t rows, int64_t most, Body body) {
  const bool is_skinny = rows <= kSkinny;
  const int64_t share = is_skinny ? share_of(count, crew.count) : 0, shared = crew.count * share;
  if (share) body(crew.index * share, (crew.index + 1) * share);
  const int64_t piece = piece_of(count - shared, crew.count * (is_skinny ? 2 : 8), most);
  phase().each(ceil_div(count - shared, piece), [&](int64_t number) {
    const int64_t first = shared + number * piece;
    body(first, std::min(first + piece, count));
  });
}

void Pass::products(const Crew& crew, const Coding& coding, const uint8_t* x, int64_t rows,
                    const Product* list, int count) {
  int64_t all = 0;
  for (int i = 0; i < count; ++i) all += list[i].w->panels();
  panels(crew, all, rows, rows <= kSkinny ? 64 : 8, [&](int64_t first, int64_t last) {
    for (int i = 0; i < count; ++i) {  // of each matrix what lies in the range
      const Product& p = list[i];
      const int64_t end = std::min(last, p.w->panels());
      if (first < end)
        k_.product(*p.w, coding, x, rows, first, end, {p.at + first * kLanes, p.stride, p.adds},
                   thread_bytes(crew));
      first = std::max<int64_t>(first - p.w->panels(), 0);
      last -= p.w->panels();
      if (last <= 0) return;
    }
  });
  crew.barrier->wait();
}

// silu(gate x) * (up x)
void Pass::gated(const Crew& crew, const Layer& w, const Coding& coding, const uint8_t* x) {
  const int64_t most = rows_ <= kSkinny ? 32 : 4, wide = most * kLanes;
  float* gate = thread_floats(crew);
  float* up = gate + rows_ * wide;
  panels(crew, w.gate.panels(), rows_, most, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += most) {
      const int64_t last = std::min(first + most, end);
      const int64_t from = first * kLanes, to = std::min(last * kLanes, s_.mlp_width);
      k_.product(w.gate, coding, x, rows_, first, last, {gate, wide, false}, thread_bytes(crew));
      k_.product(w.up, coding, x, rows_, first, last, {up, wide, false}, thread_bytes(crew));
      for (int64_t row = 0; row < rows_; ++row)
        k_.silu_times(gate + row * wide, up + row * wide, to - from,
                      hidden_ + row * s_.mlp_width + from);
    }
  });
  crew.barrier->wait();
}

}  // namespace puna
