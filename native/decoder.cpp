#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "pool.h"
#include "work.h"

namespace puna {
namespace {

constexpr int64_t kBlockRows = 512;    // rows that pass through the layers together
constexpr int64_t kRepeatedRows = 2;   // up to here each thread codes the inputs for itself

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Panels of one piece of work: a few pieces a thread, in whole tiles.
int64_t piece_of(int64_t panels, int threads, int64_t most) {
  const int64_t even = std::max<int64_t>(1, panels / (threads * 8));
  return std::min<int64_t>(most, ceil_div(even, 4) * 4);
}

// Queries of one sequence and kv head that are attended together, or some of their keys.
struct Attention {
  int64_t sequence, row, tokens, kv_head;
  int64_t first_chunk, last_chunk;
  int64_t partial;  // place of its first chunk's results; -1 where the task merges for itself
  int64_t group;    // of tasks that share queries: the last one to finish merges
};

struct Product {
  const Matrix* w;
  float* at;
  int64_t stride;
  bool adds;
};

}  // namespace

// One pass of a block of rows through all layers.
class Pass {
 public:
  Pass(const Decoder& d, const Batch& b, const Cache& c, int64_t first, int64_t rows, int threads)
      : d_(d), k_(d.kernels_), s_(d.shape_), b_(b), c_(c), first_(first), rows_(rows),
        threads_(threads) {
    place_rows();
    plan_attention();
    lay_out();
  }

  void run(float* logits) {
    run_together(threads_, [&](const Crew& crew) { work(crew, logits); });
  }

 private:
  void place_rows();
  void plan_attention();
  void lay_out();
  void work(const Crew& crew, float* logits);
  void layer(const Crew& crew, const Layer& w, int64_t index);
  const uint8_t* coded(const Crew& crew, const Coding& coding, const float* x, int64_t rows,
                       int64_t width, const float* norm_weight);
  void products(const Crew& crew, const Coding& coding, const uint8_t* x, int64_t rows,
                const Product* list, int count);
  void gated(const Crew& crew, const Layer& w, const Coding& coding, const uint8_t* x);
  void turn(const Pages& pages, int64_t row, int64_t kv_head);
  void attend(const Crew& crew, const Pages& pages, const Attention& task);
  void merge_all(const Attention& task);
  Pages pages_of(int64_t layer) const;
  Queue& phase() { return queues_[phase_of_thread++]; }
  float* thread_floats(const Crew& crew) { return floats_ + crew.index * floats_each_; }
  uint8_t* thread_bytes(const Crew& crew) { return bytes_ + crew.index * bytes_each_; }

  static thread_local int64_t phase_of_thread;

  const Decoder& d_;
  const Kernels& k_;
  const Shape& s_;
  const Batch& b_;
  const Cache& c_;
  const int64_t first_, rows_;
  const int threads_;

  std::vector<int64_t> sequence_, position_;  // of each row
  std::vector<int64_t> wanted_;               // rows of this block, and where their logits go
  int64_t logits_at_ = 0;
  std::vector<Attention> tasks_;
  std::vector<int64_t> parts_;  // tasks of each group
  std::unique_ptr<std::atomic<int64_t>[]> open_;
  int64_t partials_ = 0;
  bool turns_in_attention_ = false;

  Arena* arena_ = nullptr;
  float *x_, *q_, *kk_, *v_, *mixed_, *hidden_, *cosine_, *sine_, *partial_ = nullptr;
  float* floats_;   // of each thread: results of attention, or gate and up
  uint8_t* bytes_;  // of each thread: scratch of the kernels, then coded rows
  uint8_t* shared_coded_;
  int64_t floats_each_, bytes_each_, scratch_each_;
  std::unique_ptr<Queue[]> queues_;
};

thread_local int64_t Pass::phase_of_thread = 0;

void Pass::place_rows() {
  int64_t row = 0;
  for (int64_t s = 0; s < b_.sequences; ++s)
    for (int64_t i = 0; i < b_.counts[s]; ++i, ++row)
      if (row >= first_ && row < first_ + rows_) {
        sequence_.push_back(s);
        position_.push_back(b_.held[s] + i);
      }
  for (int64_t i = 0; i < b_.wanted_count; ++i) {
    if (b_.wanted[i] < first_) ++logits_at_;
    if (b_.wanted[i] >= first_ && b_.wanted[i] < first_ + rows_)
      wanted_.push_back(b_.wanted[i] - first_);
  }
}

void Pass::plan_attention() {
  const int64_t group = s_.heads / s_.kv_heads;
  const int64_t most = std::max<int64_t>(1, kQueryRows / group);
  turns_in_attention_ = true;
  for (int64_t row = 0; row < rows_;) {
    int64_t end = row;
    while (end < rows_ && sequence_[end] == sequence_[row] && end - row < most) ++end;
    if (end - row > 1 || (row > 0 && sequence_[row] == sequence_[row - 1]))
      turns_in_attention_ = false;
    for (int64_t head = 0; head < s_.kv_heads; ++head)
      tasks_.push_back({sequence_[row], row, end - row, head, 0,
                        ceil_div(position_[end - 1] + 1, kChunk), -1,
                        static_cast<int64_t>(tasks_.size())});
    row = end;
  }
  parts_.assign(tasks_.size(), 1);
  const int64_t wanted = 3 * threads_, have = static_cast<int64_t>(tasks_.size());
  if (threads_ == 1 || have >= wanted) return;
  // Few heads and long texts: several tasks share the keys of one head.
  std::vector<Attention> split;
  for (const Attention& task : tasks_) {
    const int64_t length = std::max<int64_t>(2, ceil_div(task.last_chunk * have, wanted));
    const int64_t parts = ceil_div(task.last_chunk, length);
    parts_[task.group] = parts;
    for (int64_t part = 0; part < parts; ++part) {
      Attention piece = task;
      piece.first_chunk = part * length;
      piece.last_chunk = std::min(task.last_chunk, (part + 1) * length);
      piece.partial = parts == 1 ? -1 : partials_ + piece.first_chunk;
      split.push_back(piece);
    }
    if (parts > 1) {
      partials_ += task.last_chunk;
      turns_in_attention_ = false;
    }
  }
  tasks_ = std::move(split);
}

void Pass::lay_out() {
  const int64_t E = s_.head_width, query = s_.heads * E, keys = s_.kv_heads * E;
  const int64_t most = std::max(rows_, static_cast<int64_t>(wanted_.size()));
  int64_t stride = k_.coding(d_.head_).stride, scratch = 64;
  for (const Layer& w : d_.layers_)
    for (const Matrix* m : {&w.wq, &w.wk, &w.wv, &w.wo, &w.gate, &w.up, &w.down}) {
      stride = std::max(stride, k_.coding(*m).stride);
      scratch = std::max(scratch, k_.scratch_bytes(*m, rows_));
    }
  scratch = std::max(scratch, k_.scratch_bytes(d_.head_, most));
  const Pages pages = pages_of(0);
  scratch = std::max(scratch, k_.attention_scratch_bytes(pages));
  scratch_each_ = Arena::padded(scratch);
  bytes_each_ = scratch_each_ + (rows_ <= kRepeatedRows ? Arena::padded(stride * most) : 0);
  const int64_t pair = 2 * rows_ * kLanes * (rows_ > 16 ? 4 : 32);
  floats_each_ = std::max({pair, kQueryRows * (2 * E + 4), s_.width + 16, s_.mlp_width + 16});
  floats_each_ = Arena::padded(floats_each_ * 4) / 4;
  const int64_t partial = partials_ * kQueryRows * (E + 2);
  static thread_local Arena arena;
  arena_ = &arena;
  arena.reserve(4 * (rows_ * (s_.width + 2 * query + 2 * keys + s_.mlp_width + E) + partial +
                     threads_ * floats_each_ + most * s_.width) +
                threads_ * bytes_each_ + stride * most + 64 * 16);
  x_ = arena.take<float>(most * s_.width);
  q_ = arena.take<float>(rows_ * query);
  mixed_ = arena.take<float>(rows_ * query);
  kk_ = arena.take<float>(rows_ * keys);
  v_ = arena.take<float>(rows_ * keys);
  hidden_ = arena.take<float>(rows_ * s_.mlp_width);
  cosine_ = arena.take<float>(rows_ * E / 2);
  sine_ = arena.take<float>(rows_ * E / 2);
  partial_ = arena.take<float>(partial);
  floats_ = arena.take<float>(threads_ * floats_each_);
  bytes_ = arena.take<uint8_t>(threads_ * bytes_each_);
  shared_coded_ = arena.take<uint8_t>(stride * most);
  queues_ = std::make_unique<Queue[]>(d_.layers_.size() * 10 + 8);
  open_ = std::make_unique<std::atomic<int64_t>[]>(parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) open_[i].store(parts_[i]);
}

Pages Pass::pages_of(int64_t layer) const {
  const int64_t tokens = c_.pages * s_.kv_heads * c_.page_tokens;
  const int64_t size = c_.format == Format::f32 ? 4 : c_.format == Format::bf16 ? 2 : 1;
  const int64_t bytes = layer * tokens * s_.head_width * size;
  return {c_.format,
          static_cast<uint8_t*>(c_.keys) + bytes,
          static_cast<uint8_t*>(c_.values) + bytes,
          c_.key_scales ? c_.key_scales + layer * tokens : nullptr,
          c_.value_scales ? c_.value_scales + layer * tokens : nullptr,
          c_.page_tokens,
          s_.kv_heads,
          s_.head_width};
}

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
  const Product three[] = {{&w.wq, q_, query, false}, {&w.wk, kk_, keys, false}, {&w.wv, v_, keys, false}};
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

void Pass::products(const Crew& crew, const Coding& coding, const uint8_t* x, int64_t rows,
                    const Product* list, int count) {
  int64_t panels = 0;
  for (int i = 0; i < count; ++i) panels += list[i].w->panels();
  const int64_t piece = piece_of(panels, crew.count, rows > 16 ? 8 : 64);
  int64_t pieces = 0, starts[4] = {};
  for (int i = 0; i < count; ++i) {
    starts[i] = pieces;
    pieces += ceil_div(list[i].w->panels(), piece);
  }
  phase().each(pieces, [&](int64_t number) {
    int i = count - 1;
    while (number < starts[i]) --i;
    const Product& p = list[i];
    const int64_t first = (number - starts[i]) * piece;
    const int64_t last = std::min(first + piece, p.w->panels());
    k_.product(*p.w, coding, x, rows, first, last, {p.at + first * kLanes, p.stride, p.adds},
               thread_bytes(crew));
  });
  crew.barrier->wait();
}

// silu(gate x) * (up x)
void Pass::gated(const Crew& crew, const Layer& w, const Coding& coding, const uint8_t* x) {
  const int64_t panels = w.gate.panels();
  const int64_t piece = piece_of(panels, crew.count, rows_ > 16 ? 4 : 32), wide = piece * kLanes;
  float* gate = thread_floats(crew);
  float* up = gate + rows_ * wide;
  phase().each(ceil_div(panels, piece), [&](int64_t number) {
    const int64_t first = number * piece, last = std::min(first + piece, panels);
    const int64_t begin = first * kLanes, end = std::min(last * kLanes, s_.mlp_width);
    k_.product(w.gate, coding, x, rows_, first, last, {gate, wide, false}, thread_bytes(crew));
    k_.product(w.up, coding, x, rows_, first, last, {up, wide, false}, thread_bytes(crew));
    for (int64_t row = 0; row < rows_; ++row)
      k_.silu_times(gate + row * wide, up + row * wide, end - begin,
                    hidden_ + row * s_.mlp_width + begin);
  });
  crew.barrier->wait();
}

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
    float* out = mixed_ + ((task.row + i / group) * s_.heads + task.kv_head * group + i % group) * E;
    float top = 0.0f, total = 0.0f;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* p = first + chunk * each;
      k_.merge_chunk(E, &top, &total, out, p[i], p[kQueryRows + i], p + 2 * kQueryRows + i * E);
    }
    for (int64_t e = 0; e < E; ++e) out[e] /= total;
  }
  open_[task.group].store(parts_[task.group], std::memory_order_release);
}

Decoder::Decoder(const Shape& shape, const Kernels& kernels, std::vector<Layer> layers,
                 const Matrix& embed, const Matrix& head, const float* norm,
                 std::vector<float> freqs)
    : shape_(shape), kernels_(kernels), layers_(std::move(layers)), embed_(embed), head_(head),
      norm_(norm), freqs_(std::move(freqs)) {
  const auto agree = [&](const Matrix& a, const Matrix& b) {
    if (!(kernels_.coding(a) == kernels_.coding(b)))
      throw std::invalid_argument("wq, wk and wv, and gate and up, must share format and group");
  };
  for (const Layer& w : layers_) {
    agree(w.wq, w.wk);
    agree(w.wq, w.wv);
    agree(w.gate, w.up);
  }
  if (shape_.heads / shape_.kv_heads > kQueryRows)
    throw std::invalid_argument("at most 64 query heads may share a kv head");
}

void Decoder::step(const Batch& batch, const Cache& cache, float* logits, int threads) const {
  for (int64_t first = 0; first < batch.rows; first += kBlockRows) {
    Pass pass(*this, batch, cache, first, std::min(kBlockRows, batch.rows - first), threads);
    pass.run(logits);
  }
}

void linear(const Kernels& kernels, const Matrix& w, const float* x, int64_t rows, float* y,
            int threads) {
  const Coding coding = kernels.coding(w);
  const int64_t most = std::min(kBlockRows, rows), scratch = Arena::padded(kernels.scratch_bytes(w, most));
  static thread_local Arena arena;
  for (int64_t start = 0; start < rows; start += most) {
    const int64_t some = std::min(most, rows - start);
    arena.reserve(most * coding.stride + threads * scratch + 64);
    uint8_t* codes = arena.take<uint8_t>(most * coding.stride);
    uint8_t* scratches = arena.take<uint8_t>(threads * scratch);
    const int64_t piece = piece_of(w.panels(), threads, some > 16 ? 8 : 64);
    Queue rows_left, panels_left;
    run_together(threads, [&](const Crew& crew) {
      rows_left.each(some, [&](int64_t row) {
        kernels.encode(coding, x + (start + row) * w.in, codes + row * coding.stride);
      });
      crew.barrier->wait();
      panels_left.each(ceil_div(w.panels(), piece), [&](int64_t number) {
        const int64_t first = number * piece, last = std::min(first + piece, w.panels());
        kernels.product(w, coding, codes, some, first, last,
                        {y + start * w.out + first * kLanes, w.out, false},
                        scratches + crew.index * scratch);
      });
    });
  }
}

}  // namespace puna
