// A row's attention depends on its position alone: not on how the rows before it came in, on threads or instruction
// set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "backend/cpu/cpu_backend.h"

namespace hearth::cpu {
namespace {

constexpr int kPositions = 330, kDim = 24, kGroup = 3, kKvHeads = 2;

struct Setting {
  std::string_view isa;
  int n_threads;
  int chunk;  // rows a step
  KvType type;
  AttentionParams params;
};

std::vector<float> outputs(const Setting& setting) {
  const auto backend = create_cpu_backend({.n_threads = setting.n_threads, .isa = std::string(setting.isa)}).value();
  KvLayer layer{
      .buffer = nullptr, .page_stride = 0, .offset = 0, .type = setting.type, .n_kv_heads = kKvHeads, .head_dim = kDim};
  layer.page_stride = backend->kv_page_bytes(layer);
  constexpr int kPages = (kPositions + kKvPagePositions - 1) / kKvPagePositions;
  const auto pages = backend->allocate(kPages * layer.page_stride).value();
  layer.buffer = pages.get();
  std::vector<int32_t> ids(kPages);  // not in order of memory
  for (int i = 0; i < kPages; ++i) ids[static_cast<size_t>(i)] = i * 5 % kPages;

  constexpr int64_t kKvCols = kKvHeads * kDim, kCols = kGroup * kKvCols, kRow = 2 * kCols + 2 * kKvCols;
  const auto buffer = backend->allocate(kPositions * kRow * 4).value();
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(kPositions * kRow);
  for (float& x : values) x = normal(random);
  backend->upload(*buffer, 0, std::as_bytes(std::span(values)));
  for (int at = 0; at < kPositions; at += setting.chunk) {
    const int n = std::min(setting.chunk, kPositions - at);
    const Rows all{.buffer = buffer.get(), .offset = at * kRow, .n = n, .cols = kRow, .stride = kRow};
    const SequenceRows sequence{.first_row = 0, .count = n, .position = at, .pages = ids};
    const Rows q = all.columns(0, kCols), out = all.columns(kCols, kCols);
    backend->kv_write(layer, q, all.columns(2 * kCols, kKvCols), all.columns(2 * kCols + kKvCols, kKvCols),
                      {&sequence, 1}, {});
    backend->attention(layer, q, {&sequence, 1}, setting.params, out);
  }
  backend->download(*buffer, 0, std::as_writable_bytes(std::span(values)));
  std::vector<float> out;
  for (int64_t i = 0; i < kPositions; ++i)
    out.insert(out.end(), values.begin() + i * kRow + kCols, values.begin() + i * kRow + 2 * kCols);
  return out;
}

TEST(CpuAttention, ChunksThreadsAndInstructionSetsChangeNothing) {
  for (const KvType type : {KvType::kF16, KvType::kI8}) {
    for (const int window : {0, 120}) {
      const AttentionParams params{.scale = 0.2f, .soft_cap = 0.0f, .window = window};
      const std::vector<float> want = outputs({"scalar", 1, kPositions, type, params});
      for (const Kernels* kernels : all_kernels()) {
        if (!kernels->supported() || kernels == &kScalar) continue;
        for (const auto& [n_threads, chunk] : {std::pair(3, 1), {2, 5}, {3, 23}, {2, kPositions}}) {
          const std::vector<float> got = outputs({kernels->isa, n_threads, chunk, type, params});
          ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
              << kernels->isa << ", " << n_threads << " threads, " << chunk << " rows a step, window " << window;
        }
      }
    }
  }
}

TEST(CpuAttention, AWindowSeesItsPositionsOnly) {
  const Setting all{"", 2, 64, KvType::kF16, {.scale = 0.2f, .soft_cap = 0.0f, .window = 0}};
  Setting windowed = all;
  windowed.params.window = 120;
  const std::vector<float> without = outputs(all), with = outputs(windowed);
  const auto row = static_cast<size_t>(kGroup * kKvHeads * kDim);
  EXPECT_TRUE(std::equal(with.begin(), with.begin() + static_cast<int64_t>(120 * row), without.begin()));
  for (size_t i = 120; i < kPositions; ++i) EXPECT_NE(with[i * row], without[i * row]) << "row " << i;
}

}  // namespace
}  // namespace hearth::cpu
