// Sixteen rows of GGUF's blocks at a time, word by word, into the lanes of a panel.
//
// puna/checkpoint/gguf_panels.py does the same in torch, to the bit, and gguf_codes.py says what the
// codes mean. Nothing here names an instruction set: loads and stores bound it. Source of the
// layouts: ggml's quantization formats.
#include "gguf.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels.h"
#include "pool.h"
#include "work.h"

namespace puna {
namespace {

constexpr uint32_t kNibbles = 0x0f0f0f0f, kPairs = 0x03030303;  // of each byte of a word
constexpr uint32_t kEndless = 0x7f800000;  // infinity; a NaN's bits are larger

uint32_t word(const uint8_t* at) {
  uint32_t four;
  std::memcpy(&four, at, 4);
  return four;
}

uint32_t magnitude(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}

float of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// A half-precision number, without a denormal on the way: a thread may flush those to zero.
float half(const uint8_t* at) {
  uint16_t h;
  std::memcpy(&h, at, 2);
  const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  float x = of_bits(rest + (112u << 23));
  if (rest < 1u << 23) x = of_bits(rest + (113u << 23)) - 0x1p-14f;
  if (rest >= 31u << 23) x = of_bits(rest | kEndless);
  return h & 0x8000 ? -x : x;
}

// Eight bytes with a code in their low halves, as eight inputs of a lane.
uint32_t paired(uint32_t first, uint32_t second) {
  return (first & kNibbles) | ((second & kNibbles) << 4);
}

// Each `lay` writes one block of one row: words, scales and zeros stand kLanes apart. It returns
// whether the kernels know its codes.
struct Q4_0 {
  static constexpr int kValues = 32, kBytes = 18, kWords = 4, kGroups = 1;
  static bool lay(const uint8_t* block, uint32_t* codes, float* scales, float*) {
    const uint8_t* q = block + 2;
    for (int k = 0; k < 2; ++k) {
      const uint32_t first = word(q + 8 * k), second = word(q + 8 * k + 4);
      codes[k * kLanes] = paired(first, second);
      codes[(k + 2) * kLanes] = paired(first >> 4, second >> 4);
    }
    scales[0] = half(block);
    return true;
  }
};

struct Q8_0 {
  static constexpr int kValues = 32, kBytes = 34, kWords = 8, kGroups = 1;
  static bool lay(const uint8_t* block, uint32_t* codes, float* scales, float*) {
    uint32_t zero_bytes = 0;  // code -128, which has no negative
    for (int k = 0; k < 8; ++k) {
      const uint32_t shifted = word(block + 2 + 4 * k) ^ 0x80808080;
      zero_bytes |= (shifted - 0x01010101) & ~shifted & 0x80808080;
      codes[k * kLanes] = shifted;
    }
    scales[0] = half(block);
    return zero_bytes == 0;
  }
};

struct Q4_K {
  static constexpr int kValues = 256, kBytes = 144, kWords = 32, kGroups = 8;
  static bool lay(const uint8_t* block, uint32_t* codes, float* scales, float* zeros) {
    const float d = half(block), m = half(block + 2);
    const uint8_t *first = block + 4, *second = block + 8, *third = block + 12;
    uint32_t keep[8];  // codes of a run without a scale are 0
    for (int g = 0; g < 8; ++g) {
      const int i = g % 4;
      const int step = g < 4 ? first[i] & 63 : (third[i] & 15) | (first[i] >> 6 << 4);
      const int least = g < 4 ? second[i] & 63 : third[i] >> 4 | (second[i] >> 6 << 4);
      const float scale = d * static_cast<float>(step), low = m * static_cast<float>(least);
      const bool is_flat = scale == 0;
      scales[g * kLanes] = is_flat ? low : scale;
      zeros[g * kLanes] = is_flat ? 1.0f : low / scale;
      keep[g] = is_flat ? 0 : ~0u;
    }
    const uint8_t* q = block + 16;
    for (int pair = 0; pair < 4; ++pair, q += 32)
      for (int k = 0; k < 4; ++k) {
        const uint32_t one = word(q + 8 * k), two = word(q + 8 * k + 4);
        codes[(8 * pair + k) * kLanes] = paired(one, two) & keep[2 * pair];
        codes[(8 * pair + 4 + k) * kLanes] = paired(one >> 4, two >> 4) & keep[2 * pair + 1];
      }
    return true;
  }
};

struct Q6_K {
  static constexpr int kValues = 256, kBytes = 210, kWords = 64, kGroups = 16;
  static bool lay(const uint8_t* block, uint32_t* codes, float* scales, float*) {
    const uint8_t *low = block, *high = block + 128, *steps = block + 192;
    for (int part = 0; part < 2; ++part, low += 64, high += 32)
      for (int k = 0; k < 8; ++k) {
        const uint32_t one = word(low + 4 * k), two = word(low + 32 + 4 * k);
        const uint32_t top = word(high + 4 * k);
        uint32_t* at = codes + (32 * part + k) * kLanes;
        // They are stored plus 32, and kept plus 128.
        at[0 * kLanes] = ((one & kNibbles) | ((top & kPairs) << 4)) + 0x60606060;
        at[8 * kLanes] = ((two & kNibbles) | ((top >> 2 & kPairs) << 4)) + 0x60606060;
        at[16 * kLanes] = ((one >> 4 & kNibbles) | ((top >> 4 & kPairs) << 4)) + 0x60606060;
        at[24 * kLanes] = ((two >> 4 & kNibbles) | ((top >> 6 & kPairs) << 4)) + 0x60606060;
      }
    const float d = half(block + 208);
    for (int g = 0; g < 16; ++g)
      scales[g * kLanes] = d * static_cast<float>(static_cast<int8_t>(steps[g]));
    return true;
  }
};

// What the threads found together.
struct Found {
  std::atomic<bool> holds{true};
  std::atomic<uint32_t> scale_peak{0}, zero_peak{0};
};

void raise(std::atomic<uint32_t>& peak, uint32_t to) {
  uint32_t seen = peak.load(std::memory_order_relaxed);
  while (seen < to && !peak.compare_exchange_weak(seen, to, std::memory_order_relaxed)) {
  }
}

uint32_t peak_of(const float* x, int64_t count) {
  uint32_t peak = 0;
  for (int64_t i = 0; i < count; ++i) peak = std::max(peak, magnitude(x[i]));
  return peak;
}

template <class Kind>
void lay_panel(const uint8_t* rows, int64_t count, int64_t blocks, uint32_t* codes, float* scales,
               float* zeros, Found& found) {
  bool holds = true;
  const int64_t numbers = blocks * Kind::kGroups * kLanes;
  if (count < kLanes) {
    std::fill_n(codes, blocks * Kind::kWords * kLanes, 0u);
    std::fill_n(scales, numbers, 0.0f);
    if (zeros) std::fill_n(zeros, numbers, 8.0f);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t at = b * Kind::kGroups * kLanes;
    for (int64_t lane = 0; lane < count; ++lane)
      holds &= Kind::lay(rows + (lane * blocks + b) * Kind::kBytes,
                         codes + b * Kind::kWords * kLanes + lane, scales + at + lane,
                         zeros ? zeros + at + lane : nullptr);
  }
  if (!holds) found.holds.store(false, std::memory_order_relaxed);
  raise(found.scale_peak, peak_of(scales, numbers));
  if (!zeros) return;
  raise(found.zero_peak, peak_of(zeros, numbers));
  for (int64_t i = 0; i < numbers; ++i) zeros[i] -= 8.0f;
}

template <class Kind>
Laid lay_all(const uint8_t* blocks, int64_t rows, int64_t columns, uint32_t* codes, float* scales,
             float* zeros, int threads) {
  const int64_t per_row = columns / Kind::kValues, panels = ceil_div(rows, kLanes);
  const int64_t words = per_row * Kind::kWords * kLanes, numbers = per_row * Kind::kGroups * kLanes;
  const int64_t piece = piece_of(panels, threads, 64);
  Found found;
  Queue queue;
  run_together(threads, [&](const Crew&) {
    queue.each(ceil_div(panels, piece), [&](int64_t number) {
      for (int64_t p = number * piece; p < std::min((number + 1) * piece, panels); ++p)
        lay_panel<Kind>(blocks + p * kLanes * per_row * Kind::kBytes,
                        std::min<int64_t>(kLanes, rows - p * kLanes), per_row, codes + p * words,
                        scales + p * numbers, zeros ? zeros + p * numbers : nullptr, found);
    });
  });
  return {found.holds.load(), of_bits(found.scale_peak.load()), of_bits(found.zero_peak.load())};
}

}  // namespace

Laid lay_blocks(Blocks kind, const uint8_t* blocks, int64_t rows, int64_t columns, uint32_t* codes,
                float* scales, float* zeros, int threads) {
  switch (kind) {
    case Blocks::q4_0: return lay_all<Q4_0>(blocks, rows, columns, codes, scales, zeros, threads);
    case Blocks::q8_0: return lay_all<Q8_0>(blocks, rows, columns, codes, scales, zeros, threads);
    case Blocks::q4_k: return lay_all<Q4_K>(blocks, rows, columns, codes, scales, zeros, threads);
    case Blocks::q6_k: return lay_all<Q6_K>(blocks, rows, columns, codes, scales, zeros, threads);
  }
  return {false, 0, 0};
}

}  // namespace puna
