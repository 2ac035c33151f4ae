// Before a pass begins: which rows it reads, who attends to what, where its numbers lie.
#include <algorithm>

#include "pass.h"

namespace puna {

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
  const int64_t pair = 2 * rows_ * kLanes * (rows_ <= kSkinny ? 32 : 4);
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

}  // namespace puna
