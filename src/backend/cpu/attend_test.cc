// Attention of every table of kernels against the scalar one, bit for bit, and the scalar one against double
// precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math8.h"
#include "tensor/float16.h"

namespace hearth::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int kPages = 3;

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

// Queries over three pages, which hold random numbers (`extreme`: the largest codes only).
struct Attention {
  PageLayout layout;
  int n;
  std::vector<float> q, m, l, o;
  std::vector<std::byte> pages;
  std::vector<int> begin, end;

  Attention(int bits, int queries, int head_dim, uint32_t seed, bool extreme = false)
      : layout{bits, head_dim}, n(queries), pages(static_cast<size_t>(kPages * layout.bytes())) {
    const auto padded = static_cast<size_t>(layout.padded());
    q = random_floats(static_cast<size_t>(n) * padded, seed);
    for (size_t i = 0; i < q.size(); ++i)
      q[i] = static_cast<int>(i % padded) >= head_dim ? 0.0f : extreme ? 100.0f : q[i];
    std::mt19937 random(seed);
    for (int page = 0; page < kPages; ++page) {
      for (int64_t at = 0; at < layout.bytes(); ++at)
        this->page(page)[at] = static_cast<std::byte>(extreme ? 127 : random() % 255 - 127);
      for (int j = 0; j < kPagePositions; ++j) {
        if (bits < 16) {
          const float least = bits == 8 ? 0.002f : 0.03f;
          for (int group = 0; group < (bits == 8 ? 1 : layout.groups()); ++group) {
            set_scale(layout.key_scales(), page, j, group, least * static_cast<float>(1 + random() % 16));
            const float sign = bits == 4 && random() % 2 == 0 ? -1.0f : 1.0f;
            set_scale(layout.value_scales(), page, j, group, sign * least * static_cast<float>(1 + random() % 16));
          }
          continue;
        }
        for (int d = 0; d < layout.padded(); ++d) {
          if (d < head_dim) key_half(page, j, d) = half(random());
          value_half(page, j, d) = half(random());
        }
      }
    }
    m.assign(static_cast<size_t>(n), kNoScore);
    l.assign(static_cast<size_t>(n), 0.0f);
    o.assign(static_cast<size_t>(n) * padded, 0.0f);
    for (int i = 0; i < n; ++i) {
      begin.push_back(i % 3 == 0 ? 0 : i * 5 % 64 - 7);
      end.push_back(i % 4 == 1 ? 96 : std::min(96, 9 + i * 11));
    }
  }
  static uint16_t half(uint64_t random) { return f32_to_f16(static_cast<float>(random % 2001) / 1000.0f - 1.0f); }
  std::byte* page(int index) { return pages.data() + index * layout.bytes(); }
  uint16_t& key_half(int p, int j, int d) { return reinterpret_cast<uint16_t*>(page(p))[d * kPagePositions + j]; }
  uint16_t& value_half(int p, int j, int d) {
    return reinterpret_cast<uint16_t*>(page(p) + layout.values())[j * layout.padded() + d];
  }
  // At layout.key_scales() or value_scales(); the group counts in i4 only.
  void set_scale(int64_t at, int p, int j, int group, float scale) {
    if (layout.bits == 8) {
      reinterpret_cast<float*>(page(p) + at)[j] = scale;
    } else {
      reinterpret_cast<uint16_t*>(page(p) + at)[group * kPagePositions + j] = f32_to_f16(scale);
    }
  }
  void set_scales(int p, int j, float key, float value) {
    for (int group = 0; group < (layout.bits == 8 ? 1 : layout.groups()); ++group) {
      set_scale(layout.key_scales(), p, j, group, key);
      set_scale(layout.value_scales(), p, j, group, value);
    }
  }
  double scale(int64_t at, int p, int j, int group) {
    if (layout.bits == 8) return reinterpret_cast<float*>(page(p) + at)[j];
    return f16_to_f32(reinterpret_cast<uint16_t*>(page(p) + at)[group * kPagePositions + j]);
  }
  // Of `lanes` lanes of codes at `at` of a page.
  double code(int64_t at, int p, int index, int lanes, int lane) {
    const int byte = (index / 4 * lanes + lane) * 4 + kPlaceInFour[index % 4];
    if (layout.bits == 8) return reinterpret_cast<int8_t*>(page(p) + at)[byte];
    const uint32_t word = reinterpret_cast<uint32_t*>(page(p) + at)[index / 8 * lanes + lane];
    const int four = static_cast<int>(word >> place_in_word(index % 8) & 15u);
    return four < 8 ? four : four - 16;
  }
  double key(int p, int j, int d) {
    if (layout.bits == 16) return f16_to_f32(key_half(p, j, d));
    return scale(layout.key_scales(), p, j, d / kGroupElements) * code(0, p, d, kPagePositions, j);
  }
  double value(int p, int j, int d) {
    if (layout.bits == 16) return f16_to_f32(value_half(p, j, d));
    return scale(layout.value_scales(), p, j, d / kGroupElements) * code(layout.values(), p, j, layout.padded(), d);
  }

  void run(const Kernels& kernels, float soft_cap = 0.0f) {
    std::vector<std::byte> memory(static_cast<size_t>(attend_scratch_bytes(layout, n)) + 64);
    std::byte* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    std::vector<const std::byte*> data;
    for (int i = 0; i < kPages; ++i) data.push_back(page(i));
    kernels.attend({.layout = layout,
                    .pages = data.data(),
                    .n_pages = kPages,
                    .n_listed = kPages,
                    .n = n,
                    .q = q.data(),
                    .begin = begin.data(),
                    .end = end.data(),
                    .scale = 0.3f,
                    .soft_cap = soft_cap,
                    .m = m.data(),
                    .l = l.data(),
                    .o = o.data(),
                    .scratch = scratch});
  }
  // o / l of query i, computed anew.
  std::vector<double> expected(int i, double soft_cap) {
    const auto dim = static_cast<size_t>(layout.head_dim), query = static_cast<size_t>(i);
    std::vector<double> out(dim);
    double sum = 0;
    std::vector<double> scores;
    for (int at = std::max(0, begin[query]); at < end[query]; ++at) {
      double s = 0;
      for (int d = 0; d < layout.head_dim; ++d)
        s += static_cast<double>(q[static_cast<size_t>(i * layout.padded() + d)]) * key(at / 32, at % 32, d);
      s *= static_cast<double>(0.3f);
      scores.push_back(soft_cap != 0 ? soft_cap * std::tanh(s / soft_cap) : s);
    }
    double most = scores[0];
    for (const double s : scores) most = std::max(most, s);
    for (int at = std::max(0, begin[query]), j = 0; at < end[query]; ++at, ++j) {
      const double weight = std::exp(scores[static_cast<size_t>(j)] - most);
      sum += weight;
      for (size_t d = 0; d < dim; ++d) out[d] += weight * value(at / 32, at % 32, static_cast<int>(d));
    }
    for (double& x : out) x /= sum;
    return out;
  }
};

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a + 0.0f) == std::bit_cast<uint32_t>(b + 0.0f) || (std::isnan(a) && std::isnan(b));
}

// What attend() defines is the same: everything but padding, and outputs of queries with NaN.
testing::AssertionResult equal(const Attention& got, const Attention& want) {
  for (size_t i = 0; i < want.m.size(); ++i) {
    if (!same(got.m[i], want.m[i]) || !same(got.l[i], want.l[i]))
      return testing::AssertionFailure() << "query " << i << ": m " << got.m[i] << ", l " << got.l[i] << ", not "
                                         << want.m[i] << ", " << want.l[i];
    for (size_t d = 0; d < static_cast<size_t>(want.layout.head_dim) && !std::isnan(want.l[i]); ++d) {
      const size_t at = i * static_cast<size_t>(want.layout.padded()) + d;
      if (!same(got.o[at], want.o[at]))
        return testing::AssertionFailure()
               << "query " << i << ", element " << d << ": " << got.o[at] << ", not " << want.o[at];
    }
  }
  return testing::AssertionSuccess();
}

std::vector<const Kernels*> fast_kernels() {
  std::vector<const Kernels*> out;
  for (const Kernels* each : all_kernels())
    if (each != &kScalar && each->supported()) out.push_back(each);
  return out;
}

TEST(Attend, AgreesWithDoublePrecision) {
  for (const int bits : {16, 8, 4}) {
    for (const float soft_cap : {0.0f, 2.0f}) {
      Attention page(bits, 7, 24, 20);
      page.run(kScalar, soft_cap);
      for (int i = 0; i < page.n; ++i) {
        const std::vector<double> want = page.expected(i, static_cast<double>(soft_cap));
        for (size_t d = 0; d < 24; ++d)
          EXPECT_NEAR(page.o[static_cast<size_t>(i) * 32 + d] / page.l[static_cast<size_t>(i)], want[d], 5e-4)
              << bits << " bits, query " << i;
      }
    }
  }
}

TEST(Attend, GivesTheScalarBits) {
  for (const Kernels* kernels : fast_kernels()) {
    for (const int bits : {16, 8, 4}) {
      for (const int head_dim : {1, 7, 16, 20, 64, 80, 100, 128, 131, 256}) {
        for (const int n : {1, 2, 3, 4, 5, 6, 8, 11, 27}) {
          const float soft_cap = n % 3 == 2 ? 2.0f : 0.0f;
          Attention want(bits, n, head_dim, 30), got(bits, n, head_dim, 30);
          if (n % 2 == 0) want.begin.assign(want.begin.size(), 0), want.end.assign(want.end.size(), 96);
          if (n == 4) want.begin.assign(want.begin.size(), 40);  // a page that nobody sees, and part of one
          got.begin = want.begin;
          got.end = want.end;
          for (const int turn : {0, 1}) {  // the running state is taken up
            want.run(kScalar, soft_cap);
            got.run(*kernels, soft_cap);
            ASSERT_TRUE(equal(got, want)) << kernels->isa << " " << bits << " bits, head_dim " << head_dim << ", " << n
                                          << " queries, run " << turn;
          }
        }
      }
    }
  }
}

TEST(Attend, TheLargestCodesDoNotOverflow) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const int head_dim : {64, 256, 512, 1024}) {
      Attention page(8, 7, head_dim, 50, true), four(4, 7, head_dim, 50, true);
      for (int i = 0; i < kPages * kPagePositions; ++i) page.set_scales(i / 32, i % 32, 1e-6f, 0.01f);
      page.run(*kernels);
      EXPECT_NEAR(page.o[0] / page.l[0], 1.27, 1e-3) << kernels->isa << " head_dim " << head_dim;
      EXPECT_GT(page.m[0], 0.0f);
      for (int p = 0; p < kPages; ++p) {
        std::memset(four.page(p), 0x88, static_cast<size_t>(four.layout.bytes()));  // codes -8
        for (int j = 0; j < kPagePositions; ++j) four.set_scales(p, j, -1e-5f, -0.1f);
      }
      four.run(*kernels);
      EXPECT_NEAR(four.o[0] / four.l[0], 0.8, 1e-3) << kernels->isa << " head_dim " << head_dim;
      EXPECT_GT(four.m[0], 0.0f);
    }
  }
}

TEST(Attend, ReadsNothingOutsideItsRangeAndShowsNaN) {
  for (const int bits : {16, 8, 4}) {
    for (const Kernels* kernels : all_kernels()) {
      if (!kernels->supported()) continue;
      for (const int n : {3, 7}) {
        Attention want(bits, n, 40, 40), got(bits, n, 40, 40);
        for (Attention* each : {&want, &got}) {
          each->begin.assign(static_cast<size_t>(n), 4);
          each->end.assign(static_cast<size_t>(n), 52);
          each->end[2] = 96;
        }
        want.run(kScalar);
        for (int j = 52; j < 96; ++j) {  // as left behind by whoever had the page before
          for (int d = 0; d < 40; ++d) {
            if (bits == 16) got.key_half(j / 32, j % 32, d) = 0x7e00, got.value_half(j / 32, j % 32, d) = 0x7c00;
          }
          if (bits < 16) got.set_scales(j / 32, j % 32, kNaN, kNaN);
        }
        got.run(*kernels);
        EXPECT_TRUE(std::isnan(got.l[2]));
        want.l[2] = kNaN;
        want.m[2] = got.m[2];
        EXPECT_TRUE(equal(got, want)) << kernels->isa;
      }
    }
  }
}

TEST(Attend, NaNAndInfinityInAQueryStayVisibleAndAlone) {
  for (const int bits : {16, 8, 4}) {
    for (const Kernels* kernels : all_kernels()) {
      if (!kernels->supported()) continue;
      Attention want(bits, 8, 64, 60), got(bits, 8, 64, 60);
      got.q[2 * 64 + 5] = kNaN;
      got.q[4 * 64 + 7] = kInf;
      got.q[5 * 64] = -kInf;
      want.run(kScalar);
      got.run(*kernels);
      for (const size_t i : {2u, 4u, 5u}) {
        EXPECT_TRUE(std::isnan(got.l[i])) << kernels->isa << " query " << i;
        want.l[i] = kNaN;
        want.m[i] = got.m[i];
      }
      EXPECT_TRUE(equal(got, want)) << kernels->isa;
    }
  }
}

TEST(Attend, SmallestAndLargestNumbers) {
  for (const float size : {1e-44f, 1e-30f, 1e30f}) {
    for (const Kernels* kernels : fast_kernels()) {
      for (const int bits : {16, 8, 4}) {
        Attention want(bits, 6, 48, 70), got(bits, 6, 48, 70);
        for (size_t i = 0; i < want.q.size(); ++i) got.q[i] = want.q[i] *= size;
        for (int j = 0; bits == 8 && j < 96; ++j) {
          const float scale = static_cast<float>(want.scale(want.layout.value_scales(), j / 32, j % 32, 0));
          for (Attention* each : {&want, &got})
            each->set_scale(want.layout.value_scales(), j / 32, j % 32, 0, scale * size * 1e-3f);
        }
        want.run(kScalar);
        got.run(*kernels);
        EXPECT_TRUE(equal(got, want)) << kernels->isa << " " << bits << " bits, " << size;
      }
    }
  }
}

TEST(Attend, MergedRunsAreWhatOneRunGives) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    Attention all(16, 5, 64, 80), first(16, 5, 64, 80), second(16, 5, 64, 80);
    for (Attention* each : {&all, &first, &second}) each->begin.assign(5, 3), each->end.assign(5, 90);
    first.end.assign(5, 64);
    second.begin.assign(5, 64);
    all.run(*kernels);
    first.run(*kernels);
    second.run(*kernels);
    Attention scalar = first;
    kernels->merge(
        {5, 64, first.m.data(), first.l.data(), first.o.data(), second.m.data(), second.l.data(), second.o.data()});
    kScalar.merge(
        {5, 64, scalar.m.data(), scalar.l.data(), scalar.o.data(), second.m.data(), second.l.data(), second.o.data()});
    EXPECT_TRUE(equal(first, scalar)) << kernels->isa;
    for (size_t i = 0; i < first.o.size(); ++i) EXPECT_NEAR(first.o[i], all.o[i], 1e-4) << kernels->isa;
  }
}

TEST(Attend, CodesOfRowsAreTheSame) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const int64_t n : {1, 8, 31, 64, 129}) {
      for (const float special : {1.0f, 0.0f, 1e-40f, 1e38f, kInf, kNaN}) {
        std::vector<float> x = random_floats(static_cast<size_t>(n), 90);
        if (special == 0.0f || special == 1e-40f) x.assign(x.size(), special);
        x.back() = special;
        std::vector<int8_t> want(x.size()), got(x.size(), 1);
        EXPECT_TRUE(same(kernels->quantize_i8(x.data(), n, got.data()), kScalar.quantize_i8(x.data(), n, want.data())));
        EXPECT_EQ(got, want) << kernels->isa << " " << n << " " << special;
      }
    }
  }
}

TEST(Attend, CodesOfFourBitsAreTheSame) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const float special : {1.0f, 0.0f, -8.0f, 1e-40f, 2e-6f, 1e5f, 3e5f, -1e38f, kInf, kNaN}) {
      for (uint32_t seed = 0; seed < 50; ++seed) {
        std::vector<float> x = random_floats(kGroupElements, seed);
        if (special == 0.0f || std::fabs(special) < 1e-5f) x.assign(x.size(), special);
        x[seed % kGroupElements] = special;
        x[(seed + 9) % kGroupElements] = -special;  // as large: which of the two becomes -8 is settled
        std::vector<int8_t> want(x.size()), got(x.size(), 1);
        const uint16_t scale = kernels->quantize_i4(x.data(), got.data());
        EXPECT_EQ(scale, kScalar.quantize_i4(x.data(), want.data())) << kernels->isa << " " << special;
        EXPECT_EQ(got, want) << kernels->isa << " " << special;
        for (size_t i = 0; i < x.size() && std::fabs(special) < 10; ++i) {
          EXPECT_LE(std::abs(got[i]), 8);
          EXPECT_NEAR(f16_to_f32(scale) * static_cast<float>(got[i]), x[i], 0.25f * std::max(4.0f, std::fabs(special)))
              << kernels->isa << " " << special;
        }
        EXPECT_EQ(std::isnan(f16_to_f32(scale)), !(std::fabs(special) < kFourBitMax));
      }
    }
  }
}

TEST(Attend, TheBestOfSeveralScalesIsTaken) {
  // A plain scale maps the largest magnitude to -8; over random numbers the search has to be better by a tenth of the squares.
  double plain = 0, searched = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const std::vector<float> x = random_floats(kGroupElements, seed);
    float top = 0;
    for (const float each : x) top = std::fabs(each) > std::fabs(top) ? each : top;
    std::vector<int8_t> codes(x.size());
    const float d = f16_to_f32(kScalar.quantize_i4(x.data(), codes.data())), p = top / -8.0f;
    for (size_t i = 0; i < x.size(); ++i) {
      searched += std::pow(d * static_cast<float>(codes[i]) - x[i], 2);
      plain += std::pow(p * std::min(7.0f, std::nearbyint(x[i] / p)) - x[i], 2);
    }
  }
  EXPECT_LT(searched, 0.95 * plain);
}

TEST(Attend, HadamardIsTheSameItsOwnInverseAndKeepsLengths) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const auto& [n, block] : {std::pair(64, 64), {48, 16}, {192, 64}, {256, 256}, {96, 32}, {1024, 1024}}) {
      const std::vector<float> x = random_floats(static_cast<size_t>(n), 3);
      std::vector<float> want = x, got = x;
      kScalar.hadamard(want.data(), n, block);
      kernels->hadamard(got.data(), n, block);
      EXPECT_EQ(std::memcmp(want.data(), got.data(), x.size() * sizeof(float)), 0) << kernels->isa << " " << block;
      double before = 0, after = 0, sum = 0;
      for (size_t i = 0; i < x.size(); ++i) before += x[i] * x[i], after += got[i] * got[i];
      for (size_t i = 0; i < static_cast<size_t>(block); ++i) sum += x[i];
      EXPECT_NEAR(after / before, 1.0, 1e-5);
      EXPECT_NEAR(got[0], sum / std::sqrt(block), 1e-4);  // the first row of H is all ones
      kernels->hadamard(got.data(), n, block);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(got[i], x[i], 1e-5) << kernels->isa << " " << block;
    }
  }
}

TEST(Attend, PowersOfTwo) {
  for (float x = -126.0f; x <= 0.0f; x += 0.00731f)
    ASSERT_NEAR(exp2_below(x) / std::exp2(static_cast<double>(x)), 1.0, 2e-7) << x;
  EXPECT_EQ(exp2_below(0.0f), 1.0f);
  EXPECT_EQ(exp2_below(-127.0f), 0.0f);
  EXPECT_EQ(exp2_below(-kInf), 0.0f);
  EXPECT_TRUE(std::isnan(exp2_below(kNaN)));
  EXPECT_EQ(power_of_two(-3.0f), 0.125f);
  EXPECT_EQ(power_of_two(-kInf), 0.0f);
  EXPECT_EQ(power_of_two(kNaN), 0.0f);
}

}  // namespace
}  // namespace hearth::cpu
