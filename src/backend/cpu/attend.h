// Pages of keys and values, and attention of a tile of queries over a run of pages: what the kernels of every
// instruction set compute. scalar_attend.cc is the definition to the bit (rules: kernels.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace hearth::cpu {

inline constexpr int kPagePositions = 32;
inline constexpr int kGroupElements = 32;  // that share a scale in i4

// One KV head's part of a page. Rows of values are padded, so that no kernel needs a tail; what lies in the padding
// is never looked at.
//   f16: keys [head_dim][32], values [32][padded]
//   i8: codes of keys [fours][32][4], 32 float scales, codes of values [8][padded][4], 32 float scales.
//   i4: codes of keys [eights][32] words, scales [groups][32] in f16, codes of values [4][padded] words, scales
//       [groups][32] in f16: one scale for 32 elements of a position.
// Four codes side by side are elements (for values: positions) 0, 2, 1, 3 of a run of four: the even and the odd
// bytes of a vector are then pairs of neighbours, and dot products of bytes may use them as they are. A word has a run
// of eight: pairs of neighbours in the same four bits of its two halves.
struct PageLayout {
  int bits;  // of an element: 16, 8 or 4
  int head_dim;
  [[nodiscard]] constexpr int padded() const { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] constexpr int groups() const { return (head_dim + kGroupElements - 1) / kGroupElements; }
  // Words of 32 bits that a position's key takes.
  [[nodiscard]] constexpr int key_words() const { return (head_dim * bits + 31) / 32; }
  [[nodiscard]] constexpr int64_t scale_bytes() const {
    return bits == 16 ? 0 : kPagePositions * (bits == 8 ? int64_t{4} : int64_t{2} * groups());
  }
  [[nodiscard]] constexpr int64_t key_scales() const {
    return int64_t{kPagePositions} * (bits == 16 ? 2 * head_dim : 4 * key_words());
  }
  [[nodiscard]] constexpr int64_t values() const { return key_scales() + scale_bytes(); }
  [[nodiscard]] constexpr int64_t value_scales() const {
    return values() + int64_t{padded()} * kPagePositions * bits / 8;
  }
  [[nodiscard]] constexpr int64_t bytes() const { return (value_scales() + scale_bytes() + 63) / 64 * 64; }
};
inline constexpr int kPlaceInFour[4] = {0, 2, 1, 3};
constexpr int place_in_word(int index) { return index % 2 * 16 + index / 2 * 4; }  // bits

// Largest codes of queries and of probabilities: sums over head_dim (or 32 positions) of their products with codes of
// 7 bits fit 32 bits, and 256 times a signed byte plus a signed byte can be any of them.
inline constexpr int kProbabilityCode = 32512;
constexpr int query_code(int head_dim) { return head_dim <= 512 ? 32512 : 16256; }
// Scales that are tried for four bits: the largest magnitude becomes code -8, or a little less or more than that.
inline constexpr float kScaleOfTop[4] = {-1.0f / 8.0f, -1.0f / 8.5f, -1.0f / 7.5f, -1.0f / 9.0f};
inline constexpr float kFourBitMin = 0x1p-20f, kFourBitMax = 0x1p18f;  // their scales in f16: not 0, finite
inline constexpr float kRound = 0x1.8p+23f;  // x + kRound - kRound rounds x to a whole number, half to even
inline constexpr uint16_t kHalfNaN = 0x7e00;
// Heads are rotated in blocks of the largest power of two that divides their dimension; 0: smaller than 16, not rotated.
constexpr int hadamard_block(int head_dim) {
  const int block = head_dim & -head_dim;
  return block >= 16 ? block : 0;
}
// 1 / sqrt(block) of a power of two.
constexpr float hadamard_scale(int block) {
  float scale = 1.0f;
  for (; block >= 4; block /= 4) scale *= 0.5f;
  return block == 2 ? scale * 0x1.6a09e6p-1f : scale;
}
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
//   i4:  the same codes; s[j] = fma chain from 0 over groups of 32 d of float(sum over d of code * k code) * k scale[j]
//   t[j] = s[j] * (scale * log2e), with codes: s[j] * (dq * (scale * log2e));
//        with soft_cap: t[j] = tanh(s[j] * scale / soft_cap) * (soft_cap * log2e), with codes dq * scale for scale
//   a = ceil(max(kNoScore, max t ignoring NaN)) + 0;  p[j] = exp2_below(t[j] - a), 0 where not seen
//   m' = max(m, a), c = power_of_two(m - m'), f = power_of_two(a - m')
//   l = fma(sum of p over lanes j % 8 added as (p[j]+p[j+8])+(p[j+16]+p[j+24]), then sum8, f, l * c)
//   f16: o[d] = fma(fma chain from 0 over j seen of p[j] * v[j][d], f, o[d] * c)
//   i8:  w[j] = p[j] * v scale[j]; codes of w: w * (kProbabilityCode / largest w), rounded to even; 0 if the largest
//        is below kCodeMin; the largest by bit patterns, so that NaN is above all
//        o[d] = fma(float(sum over j of code * v code), f * (largest * (1 / kProbabilityCode)), o[d] * c)
//   i4:  as i8 for each group of d; scales may be negative, so the largest is that of magnitudes
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
