// attend.h on vectors, for the .cc files of the instruction sets: each includes it once, inside its target region,
// and gives as `I` its vectors and the few operations that differ.
//
// Scores and outputs are both products of a few rows `a` (queries, probabilities) and steps of lanes `b` (32
// positions, parts of head_dim): products of Q rows with D vectors of lanes stay in registers. A page is expanded
// once (floats from halves, int16 from codes) if more than one block of queries uses it; else it is read as it lies.
#pragma once

#include "backend/cpu/attend.h"
#include "backend/cpu/math8.h"

namespace hearth::cpu {
namespace {

constexpr int kBlockMax = 6;  // queries of a block
constexpr int kRawMax = 4;    // queries up to which a page is not expanded

template <class I>
inline constexpr int kPageVectors = kPagePositions / I::kLanes;

// Steps of one element a lane.
template <class I, bool kHalves>
struct Floats {
  using Element = float;
  using A = typename I::F;
  using B = typename I::F;
  using Acc = typename I::F;
  static constexpr bool kCodes = false, kRaw = kHalves;
  static constexpr int kElements = 1;                 // of `a` in a step
  static constexpr int kLaneBytes = kHalves ? 2 : 4;  // of `b` in a step
  [[gnu::always_inline]] static Acc zero() { return I::all(0.0f); }
  [[gnu::always_inline]] static A broadcast(const float* a) { return I::all(*a); }
  [[gnu::always_inline]] static B load(const std::byte* b) {
    if constexpr (kHalves) {
      return I::halves(reinterpret_cast<const uint16_t*>(b));
    } else {
      return I::load(reinterpret_cast<const float*>(b));
    }
  }
  [[gnu::always_inline]] static Acc add(Acc acc, B b, A a) { return I::fma(a, b, acc); }
  [[gnu::always_inline]] static typename I::F to_float(Acc acc) { return acc; }
};

// Into the first-level cache, there would be room for few lines under way at once: more than twice as slow here.
constexpr int kIntoSecondLevel = 1;

// A line of a later page at the place of each line that is read of this one.
template <class P, int D>
[[gnu::always_inline]] inline void prefetch(const std::byte* b, int64_t ahead, int64_t vector_bytes) {
  if constexpr (P::kRaw) {
#pragma GCC unroll 8
    for (int64_t at = 0; at < D * vector_bytes; at += 64) __builtin_prefetch(b + at + ahead, 0, kIntoSecondLevel);
  }
}

template <class P, int Q, int D>
[[gnu::always_inline]] inline void product(const typename P::Element* a, int64_t a_stride, const std::byte* b,
                                           int64_t b_step, int64_t vector_bytes, int steps, int64_t ahead,
                                           typename P::Acc (&acc)[Q][D]) {
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v) acc[i][v] = P::zero();
  for (int t = 0; t < steps; ++t, a += P::kElements, b += b_step) {
    prefetch<P, D>(b, ahead, vector_bytes);
    if constexpr (Q < D) {
      typename P::A each[Q];
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) each[i] = P::broadcast(a + i * a_stride);
#pragma GCC unroll 8
      for (int v = 0; v < D; ++v) {
        const typename P::B lanes = P::load(b + v * vector_bytes);
#pragma GCC unroll 8
        for (int i = 0; i < Q; ++i) acc[i][v] = P::add(acc[i][v], lanes, each[i]);
      }
    } else {
      typename P::B lanes[D];
#pragma GCC unroll 8
      for (int v = 0; v < D; ++v) lanes[v] = P::load(b + v * vector_bytes);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
        const typename P::A each = P::broadcast(a + i * a_stride);
#pragma GCC unroll 8
        for (int v = 0; v < D; ++v) acc[i][v] = P::add(acc[i][v], lanes[v], each);
      }
    }
  }
}

// A page as the products read it.
struct PageView {
  const std::byte *keys, *values;
  const std::byte *key_scales, *value_scales;  // of codes
  bool partial;                                // some query does not see all of it
  int start;
  int64_t ahead;  // bytes from here to the page to be fetched meanwhile
};

// What softmax leaves for a block's outputs; with codes, p and f of weigh() belong to one group of elements.
template <int Q>
struct Weights {
  alignas(64) float p[Q][kPagePositions], w[Q][kPagePositions];
  alignas(64) int16_t codes[Q][kPagePositions];
  float c[Q], f[Q], code_f[Q];
};

// Products over codes in groups that have scales of their own, in f16.
template <class P>
struct Nibbles : P {
  static constexpr bool kGroups = true;
};
template <class P>
constexpr bool in_groups() {
  return requires { P::kGroups; };
}
template <class I, class P>
[[gnu::always_inline]] inline typename I::F load_scales(const std::byte* scales, int group, int first) {
  if constexpr (in_groups<P>()) {
    return I::halves(reinterpret_cast<const uint16_t*>(scales) + group * kPagePositions + first);
  } else {
    return I::load(reinterpret_cast<const float*>(scales) + first);
  }
}

template <class I, class P, int Q>
[[gnu::always_inline]] inline void scores(const AttendArgs& args, const typename P::Element* q, const PageView& page,
                                          float (&s)[Q][kPagePositions]) {
  constexpr int kVectors = kPageVectors<I>;
  constexpr int D = I::template block_vectors<P, Q>() < kVectors ? I::template block_vectors<P, Q>() : kVectors;
  constexpr int64_t kVectorBytes = I::kLanes * P::kLaneBytes;
  const int elements = P::kCodes ? 32 / args.layout.bits * args.layout.key_words() : args.layout.head_dim;
  const int group = in_groups<P>() ? kGroupElements : elements;
#pragma GCC unroll 1
  for (int v = 0; v < kVectors; v += D) {
    int first = 0;
    do {
      const int count = elements - first < group ? elements - first : group;
      typename P::Acc acc[Q][D];
      product<P, Q, D>(q + first, args.layout.padded(),
                       page.keys + first / P::kElements * kPagePositions * P::kLaneBytes + v * kVectorBytes,
                       kPagePositions * P::kLaneBytes, kVectorBytes, count / P::kElements, page.ahead, acc);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
        for (int u = 0; u < D; ++u) {
          float* to = s[i] + (v + u) * I::kLanes;
          typename I::F each = P::to_float(acc[i][u]);
          if constexpr (P::kCodes) {
            const typename I::F scale = load_scales<I, P>(page.key_scales, first / kGroupElements, (v + u) * I::kLanes);
            each = first == 0 ? I::mul(each, scale) : I::fma(each, scale, I::load(to));
          }
          I::store(to, each);
        }
      }
    } while ((first += group) < elements);
  }
}

[[gnu::always_inline]] inline float power(float x) {
  const int32_t bits = static_cast<int32_t>((x > -127.0f ? x : -127.0f) + 127.0f) << 23;
  float out;
  __builtin_memcpy(&out, &bits, sizeof out);
  return out;
}

// Scores to probabilities, in three passes over the block's queries: each query is one long chain of steps, and only
// the chains of several keep the machine busy.
template <class I, bool kPartial, int Q>
[[gnu::always_inline]] inline void softmax(const AttendArgs& args, int first, const PageView& page, const float* scales,
                                           Weights<Q>& weights) {
  using F = typename I::F;
  constexpr int kVectors = kPageVectors<I>;
  float top[Q];  // a of attend.h
#pragma GCC unroll 1
  for (int i = 0; i < Q; ++i) {
    float* s = weights.p[i];
    const int begin = args.begin[first + i] - page.start, end = args.end[first + i] - page.start;
    F t[kVectors], most = I::all(kNoScore);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      t[v] = I::mul(I::load(s + v * I::kLanes), I::all(scales[i]));
      if (args.soft_cap != 0.0f) [[unlikely]]
        t[v] = I::mul(I::tanh(I::div(t[v], I::all(args.soft_cap))), I::all(args.soft_cap * kLog2E));
      if constexpr (kPartial) t[v] = I::inside(t[v], v * I::kLanes, begin, end, -__builtin_inff());
      most = I::max(t[v], most);
      I::store(s + v * I::kLanes, t[v]);
    }
    const float a = I::ceil(I::largest(most)) + 0.0f, old = args.m[first + i], m = a > old ? a : old;
    top[i] = a;
    weights.c[i] = power(old - m);
    weights.f[i] = power(a - m);
    args.m[first + i] = m;
  }
#pragma GCC unroll 1
  for (int i = 0; i < Q; ++i) {
    float* s = weights.p[i];
    F p[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) p[v] = I::exp2_below(I::sub(I::load(s + v * I::kLanes), I::all(top[i])));
    args.l[first + i] = __builtin_fmaf(I::sum(p), weights.f[i], args.l[first + i] * weights.c[i]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) I::store(s + v * I::kLanes, p[v]);
  }
}

// Codes of probabilities times the scales of a group's values.
template <class I, class P, bool kPartial, int Q>
[[gnu::always_inline]] inline void weigh(const AttendArgs& args, int first, const PageView& page, int group,
                                         Weights<Q>& weights) {
  constexpr int kVectors = kPageVectors<I>;
  float top[Q];
#pragma GCC unroll 1
  for (int i = 0; i < Q; ++i) {
    const int begin = args.begin[first + i] - page.start, end = args.end[first + i] - page.start;
    typename I::F w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      w[v] = I::mul(I::load(weights.p[i] + v * I::kLanes), load_scales<I, P>(page.value_scales, group, v * I::kLanes));
      if constexpr (kPartial) w[v] = I::inside(w[v], v * I::kLanes, begin, end, 0.0f);
      I::store(weights.w[i] + v * I::kLanes, w[v]);
      if constexpr (in_groups<P>()) w[v] = I::abs(w[v]);
    }
    top[i] = I::largest_bits(w);
  }
#pragma GCC unroll 1
  for (int i = 0; i < Q; ++i) {
    weights.code_f[i] = weights.f[i] * (top[i] * (1.0f / kProbabilityCode));
    I::store_codes(weights.w[i], I::all(top[i] >= kCodeMin ? kProbabilityCode / top[i] : 0.0f), weights.codes[i]);
  }
}

// o = (p v) f + o c, for D vectors of head_dim from `d`.
template <class I, class P, int Q, int D>
[[gnu::always_inline]] inline void outputs(const AttendArgs& args, const typename P::Element* p, const PageView& page,
                                           const Weights<Q>& weights, int first, int begin, int end, int d) {
  constexpr int64_t kVectorBytes = I::kLanes * P::kLaneBytes;
  const int64_t padded = args.layout.padded(), step = padded * P::kLaneBytes;
  typename P::Acc acc[Q][D];
  product<P, Q, D>(p + begin, kPagePositions, page.values + begin / P::kElements * step + d * P::kLaneBytes, step,
                   kVectorBytes, (end - begin) / P::kElements, page.ahead, acc);
  float* o = args.o + first * padded + d;
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i, o += padded) {
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v)
      I::store(o + v * I::kLanes, I::fma(P::to_float(acc[i][v]), I::all(P::kCodes ? weights.code_f[i] : weights.f[i]),
                                         I::mul(I::load(o + v * I::kLanes), I::all(weights.c[i]))));
  }
}

template <class I, class P, int Q>
[[gnu::always_inline]] inline void outputs_between(const AttendArgs& args, const typename P::Element* p,
                                                   const PageView& page, const Weights<Q>& weights, int first,
                                                   int begin, int end, int d, int d_end) {
  constexpr int D = I::template block_vectors<P, Q>(), kRest = 16 / I::kLanes < D ? 16 / I::kLanes : D;
  for (; d + D * I::kLanes <= d_end; d += D * I::kLanes)
    outputs<I, P, Q, D>(args, p, page, weights, first, begin, end, d);
  if constexpr (kRest < D)
    for (; d < d_end; d += kRest * I::kLanes) outputs<I, P, Q, kRest>(args, p, page, weights, first, begin, end, d);
}

template <class I, class P, int Q>
void block(const AttendArgs& args, const typename P::Element* q, const float* scales, const PageView& page, int first) {
  Weights<Q> weights;
  scores<I, P, Q>(args, q + int64_t{first} * args.layout.padded(), page, weights.p);
  if (page.partial) {
    softmax<I, true>(args, first, page, scales, weights);
  } else {
    softmax<I, false>(args, first, page, scales, weights);
  }
  int begin = 0, end = kPagePositions;
  const int padded = args.layout.padded();
  if constexpr (P::kCodes) {
    const int group = in_groups<P>() ? kGroupElements : padded;
    for (int d = 0; d < padded; d += group) {
      if (page.partial) {
        weigh<I, P, true>(args, first, page, d / kGroupElements, weights);
      } else {
        weigh<I, P, false>(args, first, page, d / kGroupElements, weights);
      }
      outputs_between<I, P, Q>(args, weights.codes[0], page, weights, first, begin, end, d,
                               padded - d < group ? padded : d + group);
    }
  } else {  // all queries of a block see the same positions of a partial page
    if (page.partial) {
      begin = args.begin[first] > page.start ? args.begin[first] - page.start : 0;
      end = args.end[first] < page.start + kPagePositions ? args.end[first] - page.start : kPagePositions;
    }
    outputs_between<I, P, Q>(args, weights.p[0], page, weights, first, begin, end, 0, padded);
  }
}

[[gnu::always_inline]] inline bool sees(const AttendArgs& args, const PageView& page, int query) {
  return args.begin[query] < page.start + kPagePositions && args.end[query] > page.start &&
         args.begin[query] < args.end[query];
}

// Queries from `first` that may share a block.
template <class P>
[[gnu::always_inline]] inline int run_length(const AttendArgs& args, const PageView& page, int first) {
  int n = 1;
  if (!page.partial) return args.n - first;
  while (n < 2 * kBlockMax && first + n < args.n && sees(args, page, first + n) &&
         (P::kCodes || (args.begin[first + n] == args.begin[first] && args.end[first + n] == args.end[first])))
    ++n;
  return n;
}

template <class I, class P>
void all_blocks(const AttendArgs& args, const typename P::Element* q, const float* scales, int scale_step,
                const PageView& page) {
  for (int first = 0; first < args.n;) {
    if (page.partial && !sees(args, page, first)) {
      ++first;
      continue;
    }
    const int n = run_length<P>(args, page, first);
    float each[kBlockMax];
    for (int i = 0; i < kBlockMax && i < n; ++i) each[i] = scales[(first + i) * scale_step];
    if (n == 6 || n >= 9) {
      block<I, P, 6>(args, q, each, page, first);
      first += 6;
    } else if (n == 4 || n >= 7) {
      block<I, P, 4>(args, q, each, page, first);
      first += 4;
    } else if (n == 3 || n == 5) {
      block<I, P, 3>(args, q, each, page, first);
      first += 3;
    } else if (n == 2) {
      block<I, P, 2>(args, q, each, page, first);
      first += 2;
    } else {
      block<I, P, 1>(args, q, each, page, first);
      first += 1;
    }
  }
}

template <class I, class Raw, class Expanded>
[[gnu::always_inline]] inline void attend_pages(const AttendArgs& args, const typename Raw::Element* q,
                                                const float* scales, int scale_step, std::byte* scratch) {
  const PageLayout layout = args.layout;
  const int64_t page_bytes = layout.bytes(), n_keys = int64_t{layout.head_dim} * kPagePositions,
                n_values = int64_t{layout.padded()} * kPagePositions;
  int last_begin = args.begin[0], first_end = args.end[0];
  for (int i = 1; i < args.n; ++i) {
    last_begin = args.begin[i] > last_begin ? args.begin[i] : last_begin;
    first_end = args.end[i] < first_end ? args.end[i] : first_end;
  }
  constexpr bool kReadable = !Raw::kCodes || I::kReadsCodes;
  const bool raw = kReadable && args.n <= kRawMax;
  std::byte* expanded_values = scratch + int64_t{4} * layout.padded() * kPagePositions;
  for (int i = 0; i < args.n_pages; ++i) {
    const std::byte* data = args.pages[i];
    const int start = i * kPagePositions;
    PageView page{data,
                  data + layout.values(),
                  data + layout.key_scales(),
                  data + layout.value_scales(),
                  last_begin > start || first_end < start + kPagePositions,
                  start,
                  (i + kPagesAhead < args.n_listed ? args.pages[i + kPagesAhead] : data) - data};
    if constexpr (kReadable) {
      if (raw) {
        all_blocks<I, Raw>(args, q, scales, scale_step, page);
        continue;
      }
    }
    if constexpr (Raw::kCodes) {
      const auto expand = in_groups<Raw>() ? I::expand_nibbles : I::expand_codes;
      expand(page.keys, layout.key_words(), kPagePositions, scratch);
      expand(page.values, kPagePositions * layout.bits / 32, layout.padded(), expanded_values);
    } else {
      for (int64_t at = 0; at < n_keys; at += I::kLanes)
        I::store(reinterpret_cast<float*>(scratch) + at, I::halves(reinterpret_cast<const uint16_t*>(page.keys) + at));
      for (int64_t at = 0; at < n_values; at += I::kLanes)
        I::store(reinterpret_cast<float*>(expanded_values) + at,
                 I::halves(reinterpret_cast<const uint16_t*>(page.values) + at));
    }
    for (int64_t at = 0; at < page_bytes; at += 64) __builtin_prefetch(data + page.ahead + at, 0, kIntoSecondLevel);
    page.keys = scratch;
    page.values = expanded_values;
    all_blocks<I, Expanded>(args, q, scales, scale_step, page);
  }
}

// Codes of n floats: x times `largest` / amax.
template <class I, typename T>
[[gnu::always_inline]] inline float quantize(const float* x, int64_t n, int largest, T* codes) {
  const float amax = I::largest_magnitude(x, n);
  const bool finite = amax < __builtin_inff();
  if (!finite || amax < kCodeMin) {
    __builtin_memset(codes, 0, static_cast<size_t>(n) * sizeof(T));
    return finite ? 0.0f : __builtin_nanf("");
  }
  I::store_rounded(x, n, static_cast<float>(largest) / amax, codes);
  return amax / static_cast<float>(largest);
}

template <class I>
[[gnu::always_inline]] inline uint16_t quantize_nibbles(const float* x, int8_t* codes) {
  using F = typename I::F;
  constexpr int kVectors = kPageVectors<I>;
  __builtin_memset(codes, 0, kGroupElements);
  F magnitudes[kVectors], most = I::all(0.0f);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    magnitudes[v] = I::abs(I::load(x + v * I::kLanes));
    most = I::max(I::load(x + v * I::kLanes), most);
  }
  const float amax = I::largest_bits(magnitudes);
  if (!(amax < kFourBitMax)) return kHalfNaN;
  if (amax < kFourBitMin) return 0;
  const float top = I::largest(most) == amax ? amax : -amax;
  float rounded[kGroupElements], best_error = __builtin_inff();
  uint16_t best = 0;
  for (const float factor : kScaleOfTop) {
    const uint16_t half = I::half_of(top * factor);
    const float d = I::float_of(half), inverse = 1.0f / d;
    F r[kVectors], squares[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F each = I::load(x + v * I::kLanes);
      r[v] = I::sub(I::fma(each, I::all(inverse), I::all(kRound)), I::all(kRound));
      r[v] = I::max(I::min(r[v], I::all(7.0f)), I::all(-8.0f));
      const F e = I::fma(I::all(-d), r[v], each);
      squares[v] = I::mul(e, e);
    }
    const float error = I::sum(squares);
    if (!(error < best_error)) continue;
    best_error = error;
    best = half;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) I::store(rounded + v * I::kLanes, r[v]);
  }
  for (int i = 0; i < kGroupElements; ++i) codes[i] = static_cast<int8_t>(rounded[i]);
  return best;
}

template <class I>
[[gnu::always_inline]] inline void rotate(float* x, int64_t n, int block) {
  const typename I::F scale = I::all(hadamard_scale(block));
  for (int64_t first = 0; first < n; first += block, x += block) {
    for (int i = 0; i < block; i += I::kLanes) I::store(x + i, I::butterflies(I::load(x + i)));
    for (int h = I::kLanes; h < block; h *= 2) {
      for (int run = 0; run < block; run += 2 * h) {
        for (float *at = x + run, *end = at + h; at < end; at += I::kLanes) {
          const typename I::F a = I::load(at), b = I::load(at + h);
          I::store(at, I::add(a, b));
          I::store(at + h, I::sub(a, b));
        }
      }
    }
    for (int i = 0; i < block; i += I::kLanes) I::store(x + i, I::mul(I::load(x + i), scale));
  }
}

// What scores are multiplied by, beside the scale of codes.
inline float score_scale(const AttendArgs& args) { return args.soft_cap != 0.0f ? args.scale : args.scale * kLog2E; }

template <class I>
[[gnu::always_inline]] inline void attend_floats(const AttendArgs& args) {
  const float scale = score_scale(args);
  attend_pages<I, Floats<I, true>, Floats<I, false>>(args, args.q, &scale, 0, args.scratch);
}

template <class I, class Raw, class Expanded>
[[gnu::always_inline]] inline void attend_codes(const AttendArgs& args) {
  const int64_t padded = args.layout.padded();
  std::byte* at = args.scratch + 8 * kPagePositions * padded;
  auto* codes = reinterpret_cast<int16_t*>(at);
  auto* scales = reinterpret_cast<float*>(at + 2 * args.n * padded);
  for (int64_t i = 0; i < args.n; ++i)  // the padding of q is zeros, so are its codes
    scales[i] = score_scale(args) *
                quantize<I>(args.q + i * padded, padded, query_code(args.layout.head_dim), codes + i * padded);
  attend_pages<I, Raw, Expanded>(args, codes, scales, 1, args.scratch);
}

template <class I>
[[gnu::always_inline]] inline void merge_lanes(const MergeArgs& args) {
  for (int64_t i = 0; i < args.n; ++i) {
    const float m = args.part_m[i] > args.m[i] ? args.part_m[i] : args.m[i];
    const float c = power(args.m[i] - m), f = power(args.part_m[i] - m);
    args.m[i] = m;
    args.l[i] = __builtin_fmaf(args.part_l[i], f, args.l[i] * c);
    float* o = args.o + i * args.padded;
    const float* part = args.part_o + i * args.padded;
    for (int d = 0; d < args.padded; d += I::kLanes)
      I::store(o + d, I::fma(I::load(part + d), I::all(f), I::mul(I::load(o + d), I::all(c))));
  }
}

}  // namespace
}  // namespace hearth::cpu
