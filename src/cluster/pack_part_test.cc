// What a node fetches of a model: only what it needs, each byte once, and nothing that is not what the manifest says.
#include "cluster/pack_part.h"

#include <gtest/gtest.h>

#include "cluster/stage.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth::cluster {
namespace {

class PackPart : public testing::Test {
 protected:
  PackPart() {
    EXPECT_TRUE(write_pack(open_checkpoint(kGoldenFolder / "llama/model.gguf").value(), path(), 1));
    whole_ = golden_text(path());
    manifest_ = parse_pack(std::as_bytes(std::span(whole_))).value().manifest;
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_.path() / "model.pack"; }
  [[nodiscard]] Assign assignment(LayerRange layers) const {
    return {.model = Digest{}, .pack_bytes = whole_.size(), .layers = layers, .next = ""};
  }
  [[nodiscard]] const PackSegment& layer(int index) const {
    return *std::ranges::find_if(manifest_.segments, [&](const PackSegment& segment) {
      return segment.kind == SegmentKind::kLayer && segment.layer == index;
    });
  }
  Result<Checkpoint> open(LayerRange layers) {
    fetched_.clear();
    return open_pack_part(folder_.path() / "parts", assignment(layers),
                          [this](uint64_t offset, uint32_t bytes) { return fetch(offset, bytes); });
  }
  Result<std::vector<std::byte>> fetch(uint64_t offset, uint32_t bytes) {
    fetched_.emplace_back(offset, bytes);
    if (offset == fails_at_) return fail(Code::kIo, "the owner is gone");
    const auto piece = std::as_bytes(std::span(whole_)).subspan(offset, bytes);
    return std::vector<std::byte>(piece.begin(), piece.end());
  }
  [[nodiscard]] bool was_fetched(const PackSegment& segment) const {
    return std::ranges::any_of(fetched_, [&](const auto& part) { return part.first == segment.offset; });
  }

  TestFolder folder_;
  std::string whole_;
  PackManifest manifest_;
  std::vector<std::pair<uint64_t, uint32_t>> fetched_;
  uint64_t fails_at_ = ~0ull;
};

TEST_F(PackPart, OnlyWhatIsNeededAndOnce) {
  ASSERT_TRUE(open({0, 1}));
  EXPECT_TRUE(was_fetched(layer(0)));
  EXPECT_FALSE(was_fetched(layer(1)));
  for (const PackSegment& segment : manifest_.segments) {
    if (segment.kind == SegmentKind::kEmbedding || segment.kind == SegmentKind::kHead) {
      EXPECT_FALSE(was_fetched(segment)) << describe(segment);
    }
  }
  const auto more = open({0, 2});
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_FALSE(was_fetched(layer(0))) << "it is there";
  EXPECT_TRUE(was_fetched(layer(1)));
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const StageOptions options{.layers = {0, 2},
                             .context = 32,
                             .rows_max = 4,
                             .sequences = {.kv_type = KvType::kF16, .positions_max = 32, .sequences_max = 1}};
  EXPECT_TRUE(Stage::create(*more, *backend, options));
}

TEST_F(PackPart, GoesOnWhereItWasCutOff) {
  fails_at_ = layer(1).offset;
  EXPECT_EQ(open({0, 2}).error().message, "the owner is gone");
  fails_at_ = ~0ull;
  ASSERT_TRUE(open({0, 2}));
  EXPECT_FALSE(was_fetched(layer(0)));
  EXPECT_TRUE(was_fetched(layer(1)));
}

TEST_F(PackPart, WhatIsNotTheModelIsRefused) {
  const std::string right = whole_;
  whole_[layer(1).offset + 100] ^= 1;
  const auto damaged = open({0, 2});
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Code::kCorrupt);
  EXPECT_TRUE(damaged.error().message.contains("layer 1")) << damaged.error().message;
  whole_ = right;
  EXPECT_TRUE(open({0, 2})) << "and it is fetched again";
  for (const size_t at : {size_t{20}, size_t{kPackHeaderBytes + 10}}) {
    whole_ = right;
    whole_[at] ^= 1;
    EXPECT_FALSE(open({0, 1})) << "header or manifest, byte " << at;
  }
  whole_ = right;
  Assign other = assignment({0, 1});
  other.model[0] = std::byte{1};
  EXPECT_FALSE(open_pack_part(folder_.path() / "parts", other, [this](uint64_t offset, uint32_t bytes) {
    return fetch(offset, bytes);
  })) << "the pack of another model";
  other.pack_bytes = 100;
  EXPECT_FALSE(open_pack_part(folder_.path() / "parts", other,
                              [this](uint64_t offset, uint32_t bytes) { return fetch(offset, bytes); }));
}

}  // namespace
}  // namespace hearth::cluster
