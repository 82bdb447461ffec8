// Attention of a tile of queries over one page: scores with positions in lanes, outputs with head_dim in lanes.
#if defined(__x86_64__)
#include "backend/cpu/avx2_math.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace hearth::cpu::avx2 {
namespace {

constexpr int kVectors = kPagePositions / 8;
constexpr int kQueries = 3;  // that share each load of a key or value: 12 sums in registers

struct Tile {
  int first, n;
  alignas(32) float p[kQueries][kPagePositions];
};

// q times k for Q queries: s[i][j] = fma chain over head_dim.
template <int Q>
void scores(const AttendArgs& args, Tile& tile) {
  __m256 s[Q][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) s[i][v] = _mm256_setzero_ps();
  const float* q = args.q + tile.first * args.q_stride;
  const float* k = args.k;
  for (int64_t d = 0; d < args.head_dim; ++d, k += kPagePositions) {
    __m256 each[Q];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) each[i] = _mm256_broadcast_ss(q + i * args.q_stride + d);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __m256 keys = _mm256_loadu_ps(k + 8 * v);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) s[i][v] = _mm256_fmadd_ps(each[i], keys, s[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm256_store_ps(tile.p[i] + 8 * v, s[i][v]);
}

// Scores of one query to probabilities; updates m and l, scales what o has.
void softmax(const AttendArgs& args, int query, float* p) {
  const __m256i begin = _mm256_set1_epi32(args.begin[query] - 1), end = _mm256_set1_epi32(args.end[query]);
  const __m256 old = _mm256_set1_ps(args.m[query]),
               nothing = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xff800000u)));
  __m256 s[kVectors], counts[kVectors], most = old;
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    s[v] = _mm256_mul_ps(_mm256_load_ps(p + 8 * v), _mm256_set1_ps(args.scale));
    if (args.soft_cap != 0.0f) {
      const __m256 cap = _mm256_set1_ps(args.soft_cap);
      s[v] = _mm256_mul_ps(cap, tanh8(_mm256_div_ps(s[v], cap)));
    }
    const __m256i slot = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * v));
    counts[v] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(slot, begin), _mm256_cmpgt_epi32(end, slot)));
    most =
        _mm256_max_ps(_mm256_blendv_ps(nothing, s[v], counts[v]), most);  // the second operand where the first is NaN
  }
  most = _mm256_max_ps(most, _mm256_permute2f128_ps(most, most, 1));
  most = _mm256_max_ps(most, _mm256_permute_ps(most, 0x4e));
  most = _mm256_add_ps(_mm256_max_ps(most, _mm256_permute_ps(most, 0xb1)), _mm256_setzero_ps());
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    s[v] = _mm256_and_ps(exp8(_mm256_sub_ps(s[v], most)), counts[v]);
    _mm256_store_ps(p + 8 * v, s[v]);
  }
  const __m256 keep = exp8(_mm256_sub_ps(old, most));
  const float sum = sum_lanes(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
  args.m[query] = _mm256_cvtss_f32(most);
  args.l[query] = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(args.l[query]), _mm256_castps256_ps128(keep), _mm_set_ss(sum)));
  float* o = args.o + query * args.o_stride;
  for (int64_t d = 0; d < args.head_dim; d += 8) {
    const __m256i lanes = first_lanes(args.head_dim - d < 8 ? args.head_dim - d : 8);
    _mm256_maskstore_ps(o + d, lanes, _mm256_mul_ps(_mm256_maskload_ps(o + d, lanes), keep));
  }
}

// o += p v over positions [begin, end), for Q queries and D vectors of outputs from `d`.
template <int Q, int D>
void outputs(const AttendArgs& args, const Tile& tile, int from, int begin, int end, int64_t d) {
  float* o = args.o + (tile.first + from) * args.o_stride + d;
  __m256 sum[Q][D];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v) sum[i][v] = _mm256_loadu_ps(o + i * args.o_stride + 8 * v);
  for (int64_t j = begin; j < end; ++j) {
    const float* value = args.v + j * args.head_dim + d;
    __m256 each[Q];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) each[i] = _mm256_broadcast_ss(tile.p[from + i] + j);
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v) {
      const __m256 values = _mm256_loadu_ps(value + 8 * v);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) sum[i][v] = _mm256_fmadd_ps(each[i], values, sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < D; ++v) _mm256_storeu_ps(o + i * args.o_stride + 8 * v, sum[i][v]);
}

// The last lanes of a head_dim that is no multiple of 8.
void last_outputs(const AttendArgs& args, const Tile& tile, int i, int begin, int end, int64_t d) {
  const __m256i lanes = first_lanes(args.head_dim - d);
  float* o = args.o + (tile.first + i) * args.o_stride + d;
  __m256 sum = _mm256_maskload_ps(o, lanes);
  for (int64_t j = begin; j < end; ++j)
    sum = _mm256_fmadd_ps(_mm256_broadcast_ss(tile.p[i] + j), _mm256_maskload_ps(args.v + j * args.head_dim + d, lanes),
                          sum);
  _mm256_maskstore_ps(o, lanes, sum);
}

template <int Q>
void all_outputs(const AttendArgs& args, const Tile& tile, int from, int begin, int end) {
  if (begin >= end) return;
  int64_t d = 0;
  if constexpr (Q == 1)
    for (; d + 64 <= args.head_dim; d += 64) outputs<1, 8>(args, tile, from, begin, end, d);
  for (; d + 32 <= args.head_dim; d += 32) outputs<Q, 4>(args, tile, from, begin, end, d);
  for (; d + 8 <= args.head_dim; d += 8) outputs<Q, 1>(args, tile, from, begin, end, d);
  if (d < args.head_dim)
    for (int i = from; i < from + Q; ++i) last_outputs(args, tile, i, begin, end, d);
}

// Each query sees its own positions in their order: those all share are done together, the others before and after.
template <int Q>
void attend_tile(const AttendArgs& args, int first) {
  Tile tile;
  tile.first = first;
  tile.n = Q;
  scores<Q>(args, tile);
  int begin = 0, end = kPagePositions;
  for (int i = 0; i < Q; ++i) {
    softmax(args, first + i, tile.p[i]);
    begin = args.begin[first + i] > begin ? args.begin[first + i] : begin;
    end = args.end[first + i] < end ? args.end[first + i] : end;
  }
  if (begin >= end) {
    for (int i = 0; i < Q; ++i) all_outputs<1>(args, tile, i, args.begin[first + i], args.end[first + i]);
    return;
  }
  for (int i = 0; i < Q; ++i) all_outputs<1>(args, tile, i, args.begin[first + i], begin);
  all_outputs<Q>(args, tile, 0, begin, end);
  for (int i = 0; i < Q; ++i) all_outputs<1>(args, tile, i, end, args.end[first + i]);
}

}  // namespace

void attend(const AttendArgs& args) {
  int query = 0;
  while (query < args.n) {
    if (args.begin[query] >= args.end[query]) {
      ++query;
      continue;
    }
    int n = 1;  // queries from here that see something
    while (n < kQueries && query + n < args.n && args.begin[query + n] < args.end[query + n]) ++n;
    if (n == 3 && query + 4 == args.n) n = 2;  // two and two rather than three and one
    switch (n) {
      case 1:
        attend_tile<1>(args, query);
        break;
      case 2:
        attend_tile<2>(args, query);
        break;
      default:
        attend_tile<3>(args, query);
        break;
    }
    query += n;
  }
}

}  // namespace hearth::cpu::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
