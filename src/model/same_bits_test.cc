// The first promise across machines: the logits of the tiny models, as they are and quantised, are the same bits on every
// architecture. tests/data/same_bits.txt was written on x86-64; the arm64 preset reads the same file. When a change of the float steps
// is meant, the failing test prints the lines to put there.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <sstream>

#include "model/decoder.h"
#include "model/golden_models.h"

namespace hearth {
namespace {

// FNV-1a over the bits.
uint64_t digest(std::span<const float> values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const float value : values) hash = (hash ^ std::bit_cast<uint32_t>(value)) * 0x100000001b3u;
  return hash;
}

uint64_t digest_of(const Checkpoint& checkpoint) {
  auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto loaded = Decoder::load(checkpoint, *backend, {.context = 64, .rows_max = 0, .progress = {}});
  if (!loaded) {
    ADD_FAILURE() << checkpoint.path() << ": " << loaded.error().message;
    return 0;
  }
  const auto& decoder = *loaded;
  const auto store = SequenceStore::create(*backend, decoder->config(),
                                           {.kv_type = KvType::kF16, .positions_max = 64, .sequences_max = 1})
                         .value();
  const SequenceId id = store->open().value();
  constexpr int kRows = 60;
  std::vector<int32_t> tokens, wanted;
  for (int i = 0; i < kRows; ++i) {
    tokens.push_back((i * 37 + 11) % decoder->config().n_vocab);
    wanted.push_back(i);
  }
  EXPECT_TRUE(store->reserve(id, kRows));
  const SequenceRows rows = store->rows(id, 0, kRows);
  decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, *store);
  std::vector<float> logits(static_cast<size_t>(kRows) * static_cast<size_t>(decoder->config().n_vocab));
  decoder->logits(wanted, logits);
  return digest(logits);
}

TEST(SameBits, OnEveryArchitecture) {
  std::istringstream expected(golden_text(std::filesystem::path(HEARTH_TEST_DATA) / "same_bits.txt"));
  std::ostringstream actual;
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldenFolder))
    if (entry.is_directory()) folders.push_back(entry.path());
  std::ranges::sort(folders);
  for (const auto& folder : folders) {
    const Checkpoint original = open_checkpoint(folder).value();
    actual << folder.filename().string() << " as-it-is " << fmt::format("{:016x}", digest_of(original)) << "\n";
    for (const Type type :
         {Type::kQ4_0, Type::kQ5_1, Type::kQ8_0, Type::kIQ4_NL, Type::kI4, Type::kI5, Type::kI6, Type::kI8}) {
      std::vector<std::vector<std::byte>> memory;
      actual << folder.filename().string() << " " << info(type).name << " "
             << fmt::format("{:016x}", digest_of(encoded(original, info(type), memory))) << "\n";
    }
  }
  EXPECT_EQ(actual.str(), expected.str());
}

}  // namespace
}  // namespace hearth
