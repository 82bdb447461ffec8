// Attention of a tile of queries over one page: scores with positions in lanes, outputs with head_dim in lanes.
#if defined(__aarch64__)
#include <limits>

#include "backend/cpu/neon.h"
#include "backend/cpu/neon_math.h"

namespace hearth::cpu::neon {
namespace {

constexpr int kVectors = kPagePositions / 4;

// q times k for Q queries: s[i][j] = fma chain over head_dim.
template <int Q>
void scores(const AttendArgs& args, int first, float (&p)[Q][kPagePositions]) {
  float32x4_t s[Q][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) s[i][v] = vdupq_n_f32(0.0f);
  const float* q = args.q + first * args.q_stride;
  const float* k = args.k;
  for (int64_t d = 0; d < args.head_dim; ++d, k += kPagePositions) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float32x4_t keys = vld1q_f32(k + 4 * v);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) s[i][v] = vfmaq_n_f32(s[i][v], keys, q[i * args.q_stride + d]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) vst1q_f32(p[i] + 4 * v, s[i][v]);
}

// Scores of one query to probabilities; updates m and l. Returns the factor of what o has.
float softmax(const AttendArgs& args, int query, float* p) {
  const int32x4_t begin = vdupq_n_s32(args.begin[query]), end = vdupq_n_s32(args.end[query]);
  const int32x4_t lanes = {0, 1, 2, 3};
  const float old = args.m[query];
  float32x4_t s[kVectors], most = vdupq_n_f32(old);
  uint32x4_t counts[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    s[v] = vmulq_n_f32(vld1q_f32(p + 4 * v), args.scale);
    if (args.soft_cap != 0.0f) s[v] = vmulq_n_f32(tanh4(vdivq_f32(s[v], vdupq_n_f32(args.soft_cap))), args.soft_cap);
    const int32x4_t slot = vaddq_s32(lanes, vdupq_n_s32(4 * v));
    counts[v] = vandq_u32(vcgeq_s32(slot, begin), vcltq_s32(slot, end));
    most = vmaxnmq_f32(most, vbslq_f32(counts[v], s[v], vdupq_n_f32(-std::numeric_limits<float>::infinity())));
  }
  const float m = vmaxnmvq_f32(most) + 0.0f;
  for (int v = 0; v < kVectors; ++v) {
    const float32x4_t weight = exp4(vsubq_f32(s[v], vdupq_n_f32(m)));
    s[v] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(weight), counts[v]));
    vst1q_f32(p + 4 * v, s[v]);
  }
  const float keep = exp_f32(old - m);
  const float sum = sum_lanes(vaddq_f32(vaddq_f32(s[0], s[2]), vaddq_f32(s[4], s[6])),
                              vaddq_f32(vaddq_f32(s[1], s[3]), vaddq_f32(s[5], s[7])));
  args.l[query] = __builtin_fmaf(args.l[query], keep, sum);
  args.m[query] = m;
  return keep;
}

// o = o * keep + p v, D vectors of outputs from `d`.
template <int D>
void outputs(const AttendArgs& args, int query, const float* p, float keep, int64_t d) {
  float* o = args.o + query * args.o_stride + d;
  float32x4_t sum[D];
#pragma GCC unroll 8
  for (int v = 0; v < D; ++v) sum[v] = vmulq_n_f32(vld1q_f32(o + 4 * v), keep);
  for (int64_t j = args.begin[query]; j < args.end[query]; ++j) {
    const float* value = args.v + j * args.head_dim + d;
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v) sum[v] = vfmaq_n_f32(sum[v], vld1q_f32(value + 4 * v), p[j]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < D; ++v) vst1q_f32(o + 4 * v, sum[v]);
}

void all_outputs(const AttendArgs& args, int query, const float* p, float keep) {
  int64_t d = 0;
  for (; d + 32 <= args.head_dim; d += 32) outputs<8>(args, query, p, keep, d);
  for (; d + 4 <= args.head_dim; d += 4) outputs<1>(args, query, p, keep, d);
  float* o = args.o + query * args.o_stride;
  for (; d < args.head_dim; ++d) {
    float sum = o[d] * keep;
    for (int64_t j = args.begin[query]; j < args.end[query]; ++j)
      sum = __builtin_fmaf(p[j], args.v[j * args.head_dim + d], sum);
    o[d] = sum;
  }
}

template <int Q>
void attend_tile(const AttendArgs& args, int first) {
  float p[Q][kPagePositions];
  scores<Q>(args, first, p);
  for (int i = 0; i < Q; ++i) all_outputs(args, first + i, p[i], softmax(args, first + i, p[i]));
}

bool sees(const AttendArgs& args, int query) { return query < args.n && args.begin[query] < args.end[query]; }

}  // namespace

void attend(const AttendArgs& args) {
  for (int query = 0; query < args.n;) {
    if (sees(args, query) && sees(args, query + 1)) {
      attend_tile<2>(args, query);
      query += 2;
    } else {
      if (sees(args, query)) attend_tile<1>(args, query);
      ++query;
    }
  }
}

}  // namespace hearth::cpu::neon
#endif
