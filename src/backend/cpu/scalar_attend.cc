// The reference of attention: attend.h as it reads.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/math8.h"
#include "backend/cpu/scalar.h"
#include "tensor/float16.h"

namespace hearth::cpu::scalar {
namespace {

template <typename T>
float quantize(const float* x, int64_t n, int largest, T* codes) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  const float amax = std::bit_cast<float>(bits);
  const bool finite = bits < 0x7f800000u;
  if (!finite || amax < kCodeMin) {
    std::fill(codes, codes + n, T{0});
    return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float inverse = static_cast<float>(largest) / amax;
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<T>(std::nearbyint(x[i] * inverse));
  return amax / static_cast<float>(largest);
}

// One query against one page.
struct Step {
  const AttendArgs& args;
  const std::byte* page;
  int query, begin, end;  // begin < end
  float p[kPagePositions];

  [[nodiscard]] float half(int64_t at) const { return f16_to_f32(reinterpret_cast<const uint16_t*>(page)[at]); }
  // Element (or position) `index` of a lane's codes: words of runs of eight or four, `lanes` of them side by side.
  [[nodiscard]] int code(int64_t at, int index, int lanes, int lane) const {
    const int run = 32 / args.layout.bits;
    const std::byte* word = page + at + (int64_t{index / run} * lanes + lane) * 4;
    if (args.layout.bits == 8) return reinterpret_cast<const int8_t*>(word)[kPlaceInFour[index % 4]];
    uint32_t bits;
    std::memcpy(&bits, word, sizeof bits);
    return static_cast<int32_t>(bits << (28 - place_in_word(index % 8))) >> 28;
  }
  [[nodiscard]] float scale(int64_t at, int group, int j) const {
    if (args.layout.bits == 8) return reinterpret_cast<const float*>(page + at)[j];
    return half(at / 2 + int64_t{group} * kPagePositions + j);
  }
  // Elements that share a scale, from d on.
  [[nodiscard]] int group_end(int d) const {
    return args.layout.bits == 8 ? args.layout.head_dim : std::min(args.layout.head_dim, d + kGroupElements);
  }
  [[nodiscard]] const float* q() const { return args.q + int64_t{query} * args.layout.padded(); }
  [[nodiscard]] float* o() const { return args.o + int64_t{query} * args.layout.padded(); }

  // s of attend.h; returns the scale of the query's codes, 1 with f16.
  float scores() {
    const int dim = args.layout.head_dim;
    std::fill(p, p + kPagePositions, 0.0f);
    if (args.layout.bits == 16) {
      for (int d = 0; d < dim; ++d)
        for (int j = 0; j < kPagePositions; ++j) p[j] = std::fma(q()[d], half(int64_t{d} * kPagePositions + j), p[j]);
      return 1.0f;
    }
    std::vector<int16_t> codes(static_cast<size_t>(dim));
    const float scale = quantize(q(), dim, query_code(dim), codes.data());
    for (int j = 0; j < kPagePositions; ++j) {
      for (int first = 0; first < dim; first = group_end(first)) {
        int32_t sum = 0;
        for (int d = first; d < group_end(first); ++d)
          sum += codes[static_cast<size_t>(d)] * code(0, d, kPagePositions, j);
        p[j] =
            std::fma(static_cast<float>(sum), this->scale(args.layout.key_scales(), first / kGroupElements, j), p[j]);
      }
    }
    return scale;
  }

  // p of attend.h; returns a.
  float probabilities() {
    const float scale = scores() * (args.soft_cap != 0.0f ? args.scale : args.scale * kLog2E);
    float a = kNoScore;
    for (int j = begin; j < end; ++j) {
      p[j] *= scale;
      if (args.soft_cap != 0.0f) p[j] = tanh_f32(p[j] / args.soft_cap) * (args.soft_cap * kLog2E);
      a = p[j] > a ? p[j] : a;
    }
    a = std::ceil(a) + 0.0f;
    for (int j = 0; j < kPagePositions; ++j) p[j] = j >= begin && j < end ? exp2_below(p[j] - a) : 0.0f;
    return a;
  }

  void add_values(float c, float f) {
    const int dim = args.layout.head_dim;
    const int64_t values = args.layout.values() / 2, row = args.layout.padded();
    for (int d = 0; d < dim; ++d) {
      float sum = 0.0f;
      for (int j = begin; j < end; ++j) sum = std::fma(p[j], half(values + j * row + d), sum);
      o()[d] = std::fma(sum, f, o()[d] * c);
    }
  }

  void add_value_codes(float c, float f, int first) {
    int16_t codes[kPagePositions] = {};
    float w[kPagePositions] = {};
    for (int j = begin; j < end; ++j) w[j] = p[j] * scale(args.layout.value_scales(), first / kGroupElements, j);
    uint32_t bits = 0;
    for (const float each : w) bits = std::max(bits, std::bit_cast<uint32_t>(std::fabs(each)));
    const float largest = std::bit_cast<float>(bits);
    if (largest >= kCodeMin && bits < 0x7f800000u) quantize(w, kPagePositions, kProbabilityCode, codes);
    const float factor = f * (largest * (1.0f / kProbabilityCode));
    for (int d = first; d < group_end(first); ++d) {
      int32_t sum = 0;
      for (int j = 0; j < kPagePositions; ++j) sum += codes[j] * code(args.layout.values(), j, args.layout.padded(), d);
      o()[d] = std::fma(static_cast<float>(sum), factor, o()[d] * c);
    }
  }

  void run() {
    const float a = probabilities();
    const float old = args.m[query], m = a > old ? a : old;
    const float c = power_of_two(old - m), f = power_of_two(a - m);
    float lanes[8];
    for (int t = 0; t < 8; ++t) lanes[t] = (p[t] + p[t + 8]) + (p[t + 16] + p[t + 24]);
    args.l[query] = std::fma(sum8(lanes), f, args.l[query] * c);
    args.m[query] = m;
    if (args.layout.bits == 16) return add_values(c, f);
    for (int first = 0; first < args.layout.head_dim; first = group_end(first)) add_value_codes(c, f, first);
  }
};

}  // namespace

float quantize_i8(const float* x, int64_t n, int8_t* codes) { return quantize(x, n, 127, codes); }

uint16_t quantize_i4(const float* x, int8_t* codes) {
  std::fill(codes, codes + kGroupElements, int8_t{0});
  float most = 0.0f, least = 0.0f;
  for (int i = 0; i < kGroupElements; ++i) {
    if (!(std::fabs(x[i]) < kFourBitMax)) return kHalfNaN;
    most = std::max(most, x[i]);
    least = std::min(least, x[i]);
  }
  const float top = most >= -least ? most : least;
  if (std::fabs(top) < kFourBitMin) return 0;
  uint16_t best = 0;
  float best_error = std::numeric_limits<float>::infinity();
  for (const float factor : kScaleOfTop) {
    const uint16_t half = f32_to_f16(top * factor);
    const float d = f16_to_f32(half), inverse = 1.0f / d;
    float squares[kGroupElements], lanes[8], rounded[kGroupElements];
    for (int i = 0; i < kGroupElements; ++i) {
      rounded[i] = std::clamp(std::fma(x[i], inverse, kRound) - kRound, -8.0f, 7.0f);
      const float e = std::fma(-d, rounded[i], x[i]);
      squares[i] = e * e;
    }
    for (int t = 0; t < 8; ++t) lanes[t] = (squares[t] + squares[t + 8]) + (squares[t + 16] + squares[t + 24]);
    const float error = sum8(lanes);
    if (!(error < best_error)) continue;
    best_error = error;
    best = half;
    for (int i = 0; i < kGroupElements; ++i) codes[i] = static_cast<int8_t>(rounded[i]);
  }
  return best;
}

void hadamard(float* x, int64_t n, int block) {
  const float scale = hadamard_scale(block);
  for (int64_t at = 0; at < n; at += block, x += block) {
    for (int h = 1; h < block; h *= 2) {
      for (int i = 0; i < block; ++i) {
        if ((i & h) != 0) continue;
        const float a = x[i], b = x[i + h];
        x[i] = a + b;
        x[i + h] = a - b;
      }
    }
    for (int i = 0; i < block; ++i) x[i] *= scale;
  }
}

void attend(const AttendArgs& args) {
  for (int page = 0; page < args.n_pages; ++page) {
    for (int query = 0; query < args.n; ++query) {
      const int begin = std::clamp(args.begin[query] - page * kPagePositions, 0, kPagePositions);
      const int end = std::clamp(args.end[query] - page * kPagePositions, 0, kPagePositions);
      if (begin < end) Step{args, args.pages[page], query, begin, end, {}}.run();
    }
  }
}

void merge(const MergeArgs& args) {
  for (int i = 0; i < args.n; ++i) {
    const float m = args.part_m[i] > args.m[i] ? args.part_m[i] : args.m[i];
    const float c = power_of_two(args.m[i] - m), f = power_of_two(args.part_m[i] - m);
    args.m[i] = m;
    args.l[i] = std::fma(args.part_l[i], f, args.l[i] * c);
    float* o = args.o + int64_t{i} * args.padded;
    const float* part = args.part_o + int64_t{i} * args.padded;
    for (int d = 0; d < args.padded; ++d) o[d] = std::fma(part[d], f, o[d] * c);
  }
}

}  // namespace hearth::cpu::scalar
