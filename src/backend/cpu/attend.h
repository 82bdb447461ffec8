// Pages of keys and values, and attention of a tile of queries over a run of pages: what the kernels of every
// instruction set compute. scalar_attend.cc is the definition to the bit (rules: kernels.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace hearth::cpu {

inline constexpr int kPagePositions = 32;

// One KV head's part of a page. Rows of values are padded, so that no kernel needs a tail; what lies in the padding
// is never looked at.
//   f16: keys [head_dim][32], values [32][padded]
//   i8: codes of keys [fours][32][4], 32 float scales, codes of values [8][padded][4], 32 float scales.
// Four codes side by side are elements (for values: positions) 0, 2, 1, 3 of a run of four: the even and the odd
// bytes of a vector are then pairs of neighbours, and dot products of bytes may use them as they are.
struct PageLayout {
  bool i8;
  int head_dim;
  [[nodiscard]] constexpr int padded() const { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] constexpr int fours() const { return (head_dim + 3) / 4; }
  [[nodiscard]] constexpr int64_t key_scales() const { return int64_t{4} * fours() * kPagePositions; }
  [[nodiscard]] constexpr int64_t values() const {
    return i8 ? key_scales() + 4 * kPagePositions : int64_t{2} * head_dim * kPagePositions;
  }
  [[nodiscard]] constexpr int64_t value_scales() const { return values() + int64_t{padded()} * kPagePositions; }
  [[nodiscard]] constexpr int64_t bytes() const {
    const int64_t end = i8 ? value_scales() + 4 * kPagePositions : values() + int64_t{2} * padded() * kPagePositions;
    return (end + 63) / 64 * 64;
  }
};
inline constexpr int kPlaceInFour[4] = {0, 2, 1, 3};

// Largest codes of queries and of probabilities: sums over head_dim (or 32 positions) of their products with codes of
// 7 bits fit 32 bits, and 256 times a signed byte plus a signed byte can be any of them.
inline constexpr int kProbabilityCode = 32512;
constexpr int query_code(int head_dim) { return head_dim <= 512 ? 32512 : 16256; }
// Below it, kProbabilityCode / x might be infinite.
inline constexpr float kCodeMin = 0x1p-112f;
static_assert(int64_t{512} * query_code(512) * 127 < INT32_MAX && int64_t{1024} * query_code(1024) * 127 < INT32_MAX);

// m before any position was seen; a score of minus infinity is not more.
inline constexpr float kNoScore = -3.40282347e38f;

// Pages between the one that is worked on and the one that is fetched from memory meanwhile.
inline constexpr int kPagesAhead = 2;

// Online softmax (Milakov and Gimelshein 2018; FlashAttention's recurrence) in powers of two, with whole numbers as
// maxima: what was summed is rescaled exactly. Per query, page by page, over the positions [begin, end) it sees there
// (a page of which it sees nothing is left out), j in 0..31 and d in 0..head_dim-1:
//   f16: s[j] = fma chain over d of q[d] * k[j][d]
//   i8:  q's codes are made as by quantize_i8, the largest query_code(head_dim), scale dq:
//        s[j] = float(sum over d of code * k code) * k scale[j]
//   t[j] = s[j] * (scale * log2e), with i8: s[j] * (dq * (scale * log2e));
//        with soft_cap: t[j] = tanh(s[j] * scale / soft_cap) * (soft_cap * log2e), with i8 dq * scale for scale
//   a = ceil(max(kNoScore, max t ignoring NaN)) + 0;  p[j] = exp2_below(t[j] - a), 0 where not seen
//   m' = max(m, a), c = power_of_two(m - m'), f = power_of_two(a - m')
//   l = fma(sum of p over lanes j % 8 added as (p[j]+p[j+8])+(p[j+16]+p[j+24]), then sum8, f, l * c)
//   f16: o[d] = fma(fma chain from 0 over j seen of p[j] * v[j][d], f, o[d] * c)
//   i8:  w[j] = p[j] * v scale[j]; codes of w: w * (kProbabilityCode / largest w), rounded to even; 0 if the largest
//        is below kCodeMin; the largest by bit patterns, so that NaN is above all
//        o[d] = fma(float(sum over j of code * v code), f * (largest * (1 / kProbabilityCode)), o[d] * c)
// l of a query with a NaN anywhere is NaN; its o is then undefined. Zeros of o may have either sign.
struct AttendArgs {
  PageLayout layout;
  const std::byte* const* pages;  // [n_listed], the KV head's part of each
  int n_pages;                    // of these, those to attend to; the others are likely to be read next
  int n_listed;
  int n;                  // queries: all heads of the group, several tokens
  const float* q;         // [n][padded], zeros in the padding
  const int* begin;       // [n] first position seen, counted from the first page's start; may lie outside of the pages
  const int* end;         // [n]
  float scale, soft_cap;  // soft_cap 0: none
  float* m;               // [n] running maximum, kNoScore at start
  float* l;               // [n] running sum
  float* o;               // [n][padded] running output, not yet divided by l
  std::byte* scratch;     // attend_scratch_bytes(layout, n), 64-byte aligned
};
// A page expanded to floats, and codes of the queries.
constexpr int64_t attend_scratch_bytes(const PageLayout& layout, int64_t n) {
  return int64_t{2} * 4 * kPagePositions * layout.padded() + n * (layout.padded() * 2 + 4) + 64;
}

// The states of n queries over two runs of pages put together: the recurrence above with a run in the place of a
// page.
//   m' = max(m, part.m), c = power_of_two(m - m'), f = power_of_two(part.m - m'), l = fma(part.l, f, l * c), o likewise
struct MergeArgs {
  int n, padded;
  float *m, *l, *o;  // the earlier positions; becomes the result
  const float *part_m, *part_l, *part_o;
};

}  // namespace hearth::cpu
