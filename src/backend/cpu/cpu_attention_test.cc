// A row's attention depends on its position alone: not on how the rows before it came in, on threads or instruction
// set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "backend/cpu/cpu_backend.h"

namespace hearth::cpu {
namespace {

constexpr int kPositions = 330, kGroup = 3, kKvHeads = 2;

struct Setting {
  std::string_view isa;
  int n_threads;
  int chunk;  // rows a step
  KvType type;
  AttentionParams params;
  int dim = 24;
};

std::vector<float> outputs(const Setting& setting) {
  const auto backend = create_cpu_backend({.n_threads = setting.n_threads, .isa = std::string(setting.isa)}).value();
  KvLayer layer{.buffer = nullptr,
                .page_stride = 0,
                .offset = 0,
                .type = setting.type,
                .n_kv_heads = kKvHeads,
                .head_dim = setting.dim};
  layer.page_stride = backend->kv_page_bytes(layer);
  constexpr int kPages = (kPositions + kKvPagePositions - 1) / kKvPagePositions;
  const auto pages = backend->allocate(kPages * layer.page_stride).value();
  layer.buffer = pages.get();
  std::vector<int32_t> ids(kPages);  // not in order of memory
  for (int i = 0; i < kPages; ++i) ids[static_cast<size_t>(i)] = i * 5 % kPages;

  const int64_t kv_cols = int64_t{kKvHeads} * setting.dim, cols = kGroup * kv_cols, row = 2 * cols + 2 * kv_cols;
  const auto buffer = backend->allocate(kPositions * row * 4).value();
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(kPositions * row));
  for (float& x : values) x = normal(random);
  backend->upload(*buffer, 0, std::as_bytes(std::span(values)));
  for (int at = 0; at < kPositions; at += setting.chunk) {
    const int n = std::min(setting.chunk, kPositions - at);
    const Rows all{.buffer = buffer.get(), .offset = at * row, .n = n, .cols = row, .stride = row};
    const SequenceRows sequence{.first_row = 0, .count = n, .position = at, .pages = ids};
    const Rows q = all.columns(0, cols), out = all.columns(cols, cols);
    backend->kv_write(layer, q, all.columns(2 * cols, kv_cols), all.columns(2 * cols + kv_cols, kv_cols),
                      {&sequence, 1}, {});
    backend->attention(layer, q, {&sequence, 1}, setting.params, out);
  }
  backend->download(*buffer, 0, std::as_writable_bytes(std::span(values)));
  std::vector<float> out;
  for (int64_t i = 0; i < kPositions; ++i)
    out.insert(out.end(), values.begin() + i * row + cols, values.begin() + i * row + 2 * cols);
  return out;
}

TEST(CpuAttention, ChunksThreadsAndInstructionSetsChangeNothing) {
  for (const KvType type : kAllKvTypes) {
    for (const int window : {0, 120}) {
      const AttentionParams params{.scale = 0.2f, .soft_cap = 0.0f, .window = window};
      const int dim = window == 0 ? 24 : 48;  // of i4, the one is not rotated, the other in blocks
      const std::vector<float> want = outputs({"scalar", 1, kPositions, type, params, dim});
      for (const Kernels* kernels : all_kernels()) {
        if (!kernels->supported() || kernels == &kScalar) continue;
        for (const auto& [n_threads, chunk] : {std::pair(3, 1), {2, 5}, {3, 23}, {2, kPositions}}) {
          const std::vector<float> got = outputs({kernels->isa, n_threads, chunk, type, params, dim});
          ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
              << kernels->isa << ", " << n_threads << " threads, " << chunk << " rows a step, window " << window;
        }
      }
    }
  }
}

TEST(CpuAttention, FewerBitsGiveNearlyTheSame) {
  for (const int dim : {24, 48, 64, 80}) {  // what is rotated is rotated back
    const AttentionParams params{.scale = 0.1f, .soft_cap = 0.0f, .window = 0};
    const std::vector<float> want = outputs({"", 2, 64, KvType::kF16, params, dim});
    for (const auto& [type, most] : {std::pair(KvType::kI8, 0.01), {KvType::kI4, 0.11}}) {
      const std::vector<float> got = outputs({"", 2, 64, type, params, dim});
      double error = 0, size = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        error += std::pow(got[i] - want[i], 2);
        size += std::pow(want[i], 2);
      }
      EXPECT_LT(std::sqrt(error / size), most) << name(type) << ", head_dim " << dim;
      EXPECT_GT(error, 0.0);
    }
  }
}

TEST(CpuAttention, FourBitsTakeLessThanAThirdOfTheBytes) {
  const auto backend = create_cpu_backend({.n_threads = 1, .isa = ""}).value();
  for (const int dim : {64, 80, 96, 128, 256}) {
    KvLayer layer;
    layer.n_kv_heads = 2;
    layer.head_dim = dim;
    const double halves = static_cast<double>(backend->kv_page_bytes(layer));
    layer.type = KvType::kI4;
    EXPECT_LE(static_cast<double>(backend->kv_page_bytes(layer)), 0.30 * halves) << dim;
  }
}

TEST(CpuAttention, AWindowSeesItsPositionsOnly) {
  const Setting all{"", 2, 64, KvType::kF16, {.scale = 0.2f, .soft_cap = 0.0f, .window = 0}};
  Setting windowed = all;
  windowed.params.window = 120;
  const std::vector<float> without = outputs(all), with = outputs(windowed);
  const auto row = static_cast<size_t>(kGroup * kKvHeads * all.dim);
  EXPECT_TRUE(std::equal(with.begin(), with.begin() + static_cast<int64_t>(120 * row), without.begin()));
  for (size_t i = 120; i < kPositions; ++i) EXPECT_NE(with[i * row], without[i * row]) << "row " << i;
}

}  // namespace
}  // namespace hearth::cpu
