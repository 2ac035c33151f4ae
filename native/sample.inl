// One token from one row of logits, without putting the vocabulary in order.
//
// Every filter comes to one edge: the last token, by score and then by id, that may be drawn. Blocks
// of 64 tokens are known by their highest score; those that lie below a bound are never opened, and
// the edge is found by dividing what is left, not by sorting it. Drawing adds up what lies above the
// edge in the order of ids, so that the same number draws the same token as in puna/infer/filters.py
// (sums of weights are within 2e-6 of it).

constexpr int64_t kBlock = 64;
constexpr int kBins = 256;           // into which many candidates are counted before they are divided
constexpr float kNothing = 28.0f;  // nats below the highest: 2^17 such tokens weigh 1e-7 of it

struct Candidate {
  float score, weight;
  int32_t id;
};

inline bool precedes(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

struct Vocabulary {
  const float* logits;
  int64_t count, blocks;
  float temperature;
  float* tops;  // highest score of each block
  float top;
};

// Scores of a block; behind the last token -inf.
inline void read_block(const Vocabulary& v, int64_t block, float* scores) {
  const int64_t begin = block * kBlock, n = v.count - begin < kBlock ? v.count - begin : kBlock;
  const F temperature = splat(v.temperature);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(scores + i, load(v.logits + begin + i) / temperature);
  for (; i < n; ++i) scores[i] = v.logits[begin + i] / v.temperature;
  for (; i < kBlock; ++i) scores[i] = -INFINITY;
}

inline void weigh_block(const Vocabulary& v, const float* scores, float* weights) {
  for (int i = 0; i < kBlock; i += 16)
    store(weights + i, exponential(load(scores + i) - splat(v.top)));
}

inline double sum_block(const float* weights) {
  F a = load(weights), b = load(weights + 16);
  for (int i = 32; i < kBlock; i += 32) {
    a = a + load(weights + i);
    b = b + load(weights + i + 16);
  }
  return static_cast<double>(sum(a)) + static_cast<double>(sum(b));
}

// Highest logits of all blocks; false where a logit is NaN or +inf, or none is finite.
bool look_over(Vocabulary& v) {
  F poison = splat(0.0f);
  const F lowest = splat(-3.4028235e38f), zero = splat(0.0f);
  for (int64_t block = 0; block < v.blocks; ++block) {
    const int64_t begin = block * kBlock, n = v.count - begin < kBlock ? v.count - begin : kBlock;
    F best = splat(-INFINITY);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F x = max(lowest, load(v.logits + begin + i));
      best = max(best, x);
      poison = fma(x, zero, poison);
    }
    if (i < n) {
      float rest[16];
      for (int j = 0; j < 16; ++j) rest[j] = i + j < n ? v.logits[begin + i + j] : -INFINITY;
      const F x = max(lowest, load(rest));
      best = max(best, x);
      poison = fma(x, zero, poison);
    }
    v.tops[block] = largest(best);
    v.top = block && v.top > v.tops[block] ? v.top : v.tops[block];
  }
  return sum(poison) == 0.0f && v.top > -3.4028235e38f;
}

int64_t likeliest(const Vocabulary& v) {
  int64_t block = 0;
  while (v.tops[block] != v.top) ++block;
  int64_t id = block * kBlock;
  while (v.logits[id] != v.top) ++id;
  return id;
}

inline void exchange(Candidate& a, Candidate& b) {
  const Candidate x = a;
  a = b;
  b = x;
}

// Candidates that precede the last one of the range come before it; returns its new place.
Candidate* divide(Candidate* first, Candidate* last, double* weight_before) {
  Candidate* middle = first;
  double weight = 0.0;
  for (Candidate* at = first; at < last; ++at) {
    const Candidate x = *at;
    const bool is_before = precedes(x, *last);
    *at = *middle;
    *middle = x;
    middle += is_before;
    weight += is_before ? static_cast<double>(x.weight) : 0.0;
  }
  exchange(*middle, *last);
  *weight_before = weight;
  return middle;
}

// Leaves those candidates among which the edge must lie, and the weight that is still to be passed.
Candidate* narrow(Candidate* first, Candidate* end, double* target) {
  float low = first->score, high = low;
  for (const Candidate* c = first; c < end; ++c) {
    low = c->score < low ? c->score : low;
    high = c->score > high ? c->score : high;
  }
  const float unit = static_cast<float>(kBins - 1) / (high - low);
  if (!std::isfinite(unit) || unit == 0.0f) return end;  // all are equal, or some are -inf
  const auto bin_of = [&](const Candidate& c) { return static_cast<int>((high - c.score) * unit); };
  const int lowest = static_cast<int>((high - low) * unit);
  double weights[kBins + 1] = {};
  for (const Candidate* c = first; c < end; ++c)
    weights[bin_of(*c)] += static_cast<double>(c->weight);
  int bin = 0;
  for (; bin < lowest && weights[bin] <= *target; ++bin) *target -= weights[bin];
  Candidate* kept = first;
  for (const Candidate* c = first; c < end; ++c) {
    const bool is_kept = bin_of(*c) == bin;
    *kept = *c;
    kept += is_kept;
  }
  return kept;
}

// The first candidate, in order, with which the sum of weights passes the target; the last of them
// where none does. Their order in memory is lost.
Candidate edge_of(Candidate* first, Candidate* end, double target) {
  Candidate edge{INFINITY, 0.0f, -1};
  double before = 0.0;
  if (end - first > 16 * kBins) end = narrow(first, end, &target);
  while (first < end) {
    Candidate* last = end - 1;
    Candidate* middle = first + (end - first) / 2;  // the median of three goes to the end
    if (precedes(*middle, *first)) exchange(*middle, *first);
    if (precedes(*last, *first)) exchange(*last, *first);
    if (precedes(*middle, *last)) exchange(*middle, *last);
    double weight;
    middle = divide(first, last, &weight);
    if (before + weight > target) {
      end = middle;
      continue;
    }
    before += weight + static_cast<double>(middle->weight);
    edge = *middle;
    if (before > target) break;
    first = middle + 1;
  }
  return edge;
}

// Tokens whose score is at least `bound`, in the order of ids, with their weights.
int64_t gather(const Vocabulary& v, float bound, Candidate* out) {
  float scores[kBlock];
  int64_t count = 0;
  for (int64_t block = 0; block < v.blocks; ++block) {
    if (v.tops[block] < bound) continue;
    read_block(v, block, scores);
    const int64_t begin = block * kBlock, n = v.count - begin < kBlock ? v.count - begin : kBlock;
    for (int64_t i = 0; i < n; ++i) {
      out[count] = {scores[i], 0.0f, static_cast<int32_t>(begin + i)};
      count += scores[i] >= bound;
    }
  }
  for (int64_t i = 0; i < count; i += 16) {
    float part[16] = {};
    const int64_t n = count - i < 16 ? count - i : 16;
    for (int64_t j = 0; j < n; ++j) part[j] = out[i + j].score;
    store(part, exponential(load(part) - splat(v.top)));
    for (int64_t j = 0; j < n; ++j) out[i + j].weight = part[j];
  }
  return count;
}

// The k highest scores lie at or above the k-th highest of the blocks' own highest.
int64_t keep_top_k(const Vocabulary& v, int64_t k, Candidate* out) {
  float bound = -INFINITY;
  if (k < v.blocks) {
    for (int64_t block = 0; block < v.blocks; ++block)
      out[block] = {v.tops[block], 1.0f, static_cast<int32_t>(block)};
    bound = edge_of(out, out + v.blocks, static_cast<double>(k) - 0.5).score;
  }
  const int64_t count = gather(v, bound, out);
  Candidate* equal = out + count;
  for (int64_t i = 0; i < count; ++i) equal[i] = {out[i].score, 1.0f, out[i].id};
  bound = edge_of(equal, equal + count, static_cast<double>(k) - 0.5).score;
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i)
    if (out[i].score >= bound) out[kept++] = out[i];
  return kept;
}

double total_weight(const Vocabulary& v) {
  float scores[kBlock], weights[kBlock];
  double total = 0.0;
  for (int64_t block = 0; block < v.blocks; ++block) {
    if (v.tops[block] < v.top - kNothing) continue;
    read_block(v, block, scores);
    weigh_block(v, scores, weights);
    total += sum_block(weights);
  }
  return total;
}

// The last token that top-k, top-p and min-p leave.
Candidate edge_of_filters(const Vocabulary& v, const Choice& choice, Candidate* scratch) {
  Candidate edge{-INFINITY, 0.0f, INT32_MAX};
  const bool has_p = choice.top_p < 1.0;
  int64_t count = 0;
  double whole = 0.0;
  if (choice.top_k > 0 && choice.top_k < v.count) {
    count = keep_top_k(v, choice.top_k, scratch);
    for (int64_t i = 0; i < count; ++i) {
      whole += static_cast<double>(scratch[i].weight);
      if (!i || scratch[i].score < edge.score) edge.score = scratch[i].score;
    }
  } else if (has_p) {
    whole = total_weight(v);
    // What lies below weighs less than 1 - p in all, so that the edge lies above.
    const double share = (1.0 - choice.top_p) * whole / static_cast<double>(v.count);
    const float reach = static_cast<float>(std::log(share)) - 1e-3f;
    count = gather(v, v.top + (reach > -88.0f ? reach : -88.0f), scratch);
  }
  if (has_p) edge = edge_of(scratch, scratch + count, choice.top_p * whole);
  if (choice.min_p > 0.0) {
    const float bound = v.top + static_cast<float>(std::log(choice.min_p));
    if (edge.score < bound) edge = {bound, 0.0f, INT32_MAX};
  }
  return edge;
}

// Weights of a block's tokens up to the edge, 0 for the others; their sum.
inline double weigh_kept(const Vocabulary& v, int64_t block, const Candidate& edge, float* weights) {
  float scores[kBlock];
  read_block(v, block, scores);
  weigh_block(v, scores, weights);
  const int32_t begin = static_cast<int32_t>(block * kBlock);
  for (int32_t i = 0; i < static_cast<int32_t>(kBlock); ++i) {
    const bool is_kept =
        (scores[i] > edge.score) | ((scores[i] == edge.score) & (begin + i <= edge.id));
    weights[i] = is_kept ? weights[i] : 0.0f;
  }
  return sum_block(weights);
}

// The first token whose height, the sum of the weights up to it, lies above the number's share.
int64_t draw(const Vocabulary& v, const Candidate& edge, double uniform, double* masses) {
  float weights[kBlock];
  const float bound = edge.score > v.top - kNothing ? edge.score : v.top - kNothing;
  double total = 0.0;
  for (int64_t block = 0; block < v.blocks; ++block) {
    masses[block] = v.tops[block] < bound ? 0.0 : weigh_kept(v, block, edge, weights);
    total += masses[block];
  }
  const double share = uniform * total, most = std::nextafter(total, 0.0);
  const double target = share < most ? share : most;
  double height = 0.0;
  int64_t found = 0;
  for (; found < v.blocks - 1 && height + masses[found] <= target; ++found) height += masses[found];
  weigh_kept(v, found, edge, weights);
  int64_t id = -1;
  for (int64_t i = 0; i < kBlock; ++i) {
    if (weights[i] == 0.0f) continue;
    id = found * kBlock + i;  // rounding must not lead past the last of them
    height += static_cast<double>(weights[i]);
    if (height > target) break;
  }
  return id;
}

int64_t choose(const float* logits, int64_t vocab, const Choice& choice, uint8_t* scratch) {
  Vocabulary v{logits, vocab, (vocab + kBlock - 1) / kBlock, choice.temperature, nullptr, 0.0f};
  double* masses = reinterpret_cast<double*>(scratch);
  v.tops = reinterpret_cast<float*>(masses + v.blocks);
  Candidate* candidates = reinterpret_cast<Candidate*>(v.tops + v.blocks);
  if (!look_over(v)) return -1;
  if (choice.temperature == 0.0f) return likeliest(v);
  for (int64_t block = 0; block < v.blocks; ++block) v.tops[block] /= v.temperature;
  v.top /= v.temperature;
  if (!std::isfinite(v.top)) return -1;
  return draw(v, edge_of_filters(v, choice, candidates), choice.uniform, masses);
}

int64_t choice_scratch_bytes(int64_t vocab) {
  const int64_t blocks = (vocab + kBlock - 1) / kBlock;
  return blocks * 12 + 2 * (vocab + 1) * static_cast<int64_t>(sizeof(Candidate)) + 64;
}
