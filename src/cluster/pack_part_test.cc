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
    return open_pack_part(folder_.path() / "parts", assignment(layers), sources());
  }
  PackSources sources() {
    return {
        .owner = [this](uint64_t offset, uint32_t bytes) { return fetch(offset, bytes); }, .peer = {}, .fetched = {}};
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

TEST_F(PackPart, OfAHeadNothingElseIsFetched) {
  for (const std::string family : {"llama", "gemma2"}) {
    EXPECT_TRUE(write_pack(open_checkpoint(kGoldenFolder / family / "model.gguf").value(), path(), 1));
    whole_ = golden_text(path());
    const Pack pack = parse_pack(std::as_bytes(std::span(whole_))).value();
    Assign head = assignment({});
    head.kind = Assign::Kind::kHead, head.model = pack.header.source_sha256;
    fetched_.clear();
    const auto part = open_pack_part(folder_.path() / family, head, sources());
    ASSERT_TRUE(part) << part.error().message;
    const bool tied = family == "gemma2";  // its embedding is its head
    for (const PackSegment& segment : pack.manifest.segments) {
      if (segment.kind == SegmentKind::kLayer) {
        EXPECT_FALSE(was_fetched(segment)) << describe(segment);
      }
      if (segment.kind == SegmentKind::kEmbedding) {
        EXPECT_EQ(was_fetched(segment), tied) << family;
      }
    }
    const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    EXPECT_TRUE(HeadStage::create(*part, *backend));
  }
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
    std::filesystem::remove_all(folder_.path() / "parts");
    EXPECT_FALSE(open({0, 1})) << "header or manifest, byte " << at;
  }
  whole_ = right;
  Assign other = assignment({0, 1});
  other.model[0] = std::byte{1};
  EXPECT_FALSE(open_pack_part(folder_.path() / "parts", other, sources())) << "the pack of another model";
  other.pack_bytes = 100;
  EXPECT_FALSE(open_pack_part(folder_.path() / "parts", other, sources()));
}

// Two that fetch the same: what one is to take from the owner, the other takes from it, and each byte leaves the owner once.
TEST_F(PackPart, MachinesGiveItToEachOther) {
  const auto one = [&](int self) {
    Assign mine = assignment({});
    mine.keep = true;
    mine.peers = {{"one", {}}, {"two", {}}};
    mine.self = static_cast<uint32_t>(self);
    return mine;
  };
  const auto place = [&](int self) { return folder_.path() / (self == 0 ? "one" : "two"); };
  // The first alone: its peer has nothing yet, so all comes from the owner.
  int asked = 0;
  PackSources sources = this->sources();
  sources.peer = [&](const PartPeer& peer, const Want&) {
    EXPECT_EQ(peer.address, "two");
    ++asked;
    return std::vector<std::byte>();
  };
  ASSERT_TRUE(open_pack_part(place(0), one(0), sources));
  EXPECT_GT(asked, 0);
  EXPECT_FALSE(read_pack_part(place(0), {Digest{}, 1, 1})) << "no piece";
  // The second takes what is the first's from there.
  const size_t all = fetched_.size();
  fetched_.clear();
  sources.peer = [&](const PartPeer&, const Want& want) {
    return read_pack_part(place(0), want).value_or(std::vector<std::byte>());
  };
  ASSERT_TRUE(open_pack_part(place(1), one(1), sources));
  EXPECT_LT(fetched_.size(), all);
  // Another that gives something else is not believed, and the owner asked instead.
  std::filesystem::remove_all(place(1));
  int lies = 0;
  sources.peer = [&](const PartPeer&, const Want& want) {
    ++lies;
    return std::vector<std::byte>(want.bytes, std::byte{7});
  };
  const auto opened = open_pack_part(place(1), one(1), sources);
  EXPECT_TRUE(opened) << opened.error().message;
  EXPECT_GT(lies, 0);
}

}  // namespace
}  // namespace hearth::cluster
