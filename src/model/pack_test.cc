// Packs: the same bits as the original, nothing of a damaged or forged one believed, and the cache that keeps them.
#include "model/pack.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/mapped_guard.h"
#include "model/golden_models.h"
#include "model/model.h"
#include "model/pack_import.h"
#include "store/sha256.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

// "llama", or "llama/model.gguf" for the other form of the same model.
std::vector<std::string> all_models() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldenFolder)) {
    names.push_back(entry.path().filename().string());
    if (fs::exists(entry.path() / "model.gguf")) names.push_back(names.back() + "/model.gguf");
  }
  return names;
}

std::string content(const fs::path& path) { return golden_text(path); }

std::vector<float> logits_of(const Checkpoint& checkpoint) {
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  const auto loaded = Decoder::load(checkpoint, *backend, {.context = 32, .rows_max = 0, .progress = {}});
  if (!loaded) {
    ADD_FAILURE() << checkpoint.path() << ": " << loaded.error().message;
    return {};
  }
  Decoder& decoder = **loaded;
  const auto store = SequenceStore::create(*backend, decoder.config(),
                                           {.kv_type = KvType::kF16, .positions_max = 32, .sequences_max = 1})
                         .value();
  const SequenceId id = store->open().value();
  std::vector<int32_t> tokens, wanted;
  for (int i = 0; i < 12; ++i) {
    tokens.push_back((i * 37 + 11) % decoder.config().n_vocab);
    wanted.push_back(i);
  }
  EXPECT_TRUE(store->reserve(id, 12));
  const SequenceRows rows = store->rows(id, 0, 12);
  decoder.run({.tokens = tokens, .sequences = {&rows, 1}}, *store);
  std::vector<float> logits(wanted.size() * static_cast<size_t>(decoder.config().n_vocab));
  decoder.logits(wanted, logits);
  return logits;
}

// A model must answer from its pack exactly as from its own files, whatever the family and the form.
TEST(Pack, GivesTheLogitsOfTheOriginal) {
  const TestFolder folder;
  const fs::path path = folder.path() / "model.pack", other = folder.path() / "other.pack";
  for (const std::string& name : all_models()) {
    SCOPED_TRACE(name);
    const Checkpoint original = open_checkpoint(kGoldenFolder / name).value();
    ASSERT_EQ(message(write_pack(original, path, 1)), "");
    const auto pack = open_checkpoint(path);
    ASSERT_EQ(message(pack), "");
    EXPECT_TRUE(pack->packed() && pack->kind() == original.kind());
    EXPECT_EQ(logits_of(*pack), logits_of(original));
    ASSERT_EQ(message(write_pack(original, other, 3)), "");
    EXPECT_EQ(content(path), content(other)) << "threads change the file";
    const auto parsed = parse_pack(pack->files().front().bytes());
    ASSERT_EQ(message(parsed), "");
    EXPECT_EQ(message(verify_segments(pack->files().front().bytes(), parsed->manifest, {})), "");
  }
}

// Types of our own lie only in packs, nested ones with their low panels behind the others of each slice.
TEST(Pack, HoldsTypesOfOurOwn) {
  const TestFolder folder;
  const fs::path path = folder.path() / "model.pack";
  for (const char* name :
       {"llama", "mixtral", "phi3", "gemma3"}) {  // experts; a matrix that is taken apart; a tied head
    const Checkpoint original = open_checkpoint(kGoldenFolder / name).value();
    for (const TypeInfo& type : all_types()) {
      if (!is_own(type.type)) continue;
      SCOPED_TRACE(fmt::format("{} {}", name, type.name));
      std::vector<std::vector<std::byte>> memory;
      const Checkpoint own = encoded(original, type, memory);
      ASSERT_FALSE(memory.empty());
      ASSERT_EQ(message(write_pack(own, path, 2)), "");
      const auto pack = open_checkpoint(path);
      ASSERT_EQ(message(pack), "");
      EXPECT_EQ(logits_of(*pack), logits_of(own));
    }
  }
}

// Each expert and each layer can be fetched, checked and dropped alone.
TEST(Pack, HasASegmentForEachLayerAndExpert) {
  const TestFolder folder;
  ASSERT_EQ(message(write_pack(open_checkpoint(kGoldenFolder / "mixtral").value(), folder.path() / "p", 1)), "");
  const MappedFile file = MappedFile::open(folder.path() / "p").value();
  const PackManifest manifest = parse_pack(file.bytes()).value().manifest;
  std::vector<std::string> names;
  for (const PackSegment& segment : manifest.segments) names.push_back(describe(segment));
  EXPECT_EQ(names.front(), "text");
  EXPECT_EQ(names[1], "embedding");
  EXPECT_EQ(names[2], "layer 0");
  EXPECT_EQ(names[3], "expert 0 of layer 0");
  EXPECT_EQ(names.back(), "head");
}

class DamagedPack : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(message(write_pack(open_checkpoint(kGoldenFolder / "llama/model.gguf").value(), path_, 1)), "");
    bytes_ = content(path_);
    pack_ = parse_pack(std::as_bytes(std::span(bytes_))).value();
  }
  static std::string refusal(const std::string& bytes) { return message(parse_pack(std::as_bytes(std::span(bytes)))); }
  static void expect_refused(const std::string& bytes, std::string_view because) {
    const std::string why = refusal(bytes);
    EXPECT_NE(why.find(because), std::string::npos) << "'" << why << "' does not say '" << because << "'";
  }
  // The file with another manifest, all digests right: what someone would make who knows the format.
  [[nodiscard]] std::string forged(const std::function<void(PackManifest&)>& change) const {
    Pack pack = pack_;
    change(pack.manifest);
    const std::string json = to_json(pack.manifest);
    std::string bytes = bytes_;
    pack.header.manifest_bytes = json.size();
    Sha256 hash;
    hash.update(std::as_bytes(std::span(json)));
    pack.header.manifest_sha256 = digest_from_hex(hash.hex()).value();
    bytes.replace(pack.header.manifest_offset, json.size(), json);
    const auto header = to_bytes(pack.header);
    std::memcpy(bytes.data(), header.data(), header.size());
    return bytes;
  }
  static PackTensor& tensor(PackManifest& manifest, std::string_view name) {
    return *std::ranges::find(manifest.tensors, name, &PackTensor::name);
  }

  TestFolder folder_;
  fs::path path_ = folder_.path() / "model.pack";
  std::string bytes_;
  Pack pack_;
};

TEST_F(DamagedPack, IsRefusedWithItsReason) {
  std::string bytes = bytes_;
  bytes[20] ^= 1;
  expect_refused(bytes, "the header is damaged");
  bytes = bytes_;
  bytes[pack_.header.manifest_offset + 100] ^= 1;
  expect_refused(bytes, "the manifest is damaged");
  for (const size_t cut : {size_t{9}, size_t{4095}, size_t{5000}, bytes_.size() - 1})
    expect_refused(bytes_.substr(0, cut), "cut short");
  expect_refused(bytes_ + "x", "added to");
  expect_refused("GGUF" + bytes_.substr(4), "does not begin with");
  bytes = bytes_;
  bytes[8] = 2;
  expect_refused(bytes, "format version 2");
  PackHeader other = pack_.header;
  other.layout_version = kPanelLayoutVersion + 1;
  const auto header = to_bytes(other);
  std::memcpy(bytes.data(), header.data(), header.size());
  expect_refused(bytes, "panel layout version");
}

TEST_F(DamagedPack, VerifyFindsAChangedWeight) {
  const PackSegment& segment = pack_.manifest.segments[2];
  bytes_[segment.offset + 70] ^= 1;
  EXPECT_EQ(refusal(bytes_), "") << "opening reads no weights";
  const auto verified = verify_segments(std::as_bytes(std::span(bytes_)), pack_.manifest, {});
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, Code::kCorrupt);
  EXPECT_NE(verified.error().message.find(describe(segment)), std::string::npos) << verified.error().message;
}

// A manifest can say anything; no kernel may be sent outside its segment by it.
TEST_F(DamagedPack, ForgedPlacesAreRefused) {
  const std::string q = "blk.0.attn_q.weight";
  expect_refused(forged([&](auto& m) { tensor(m, q).at[0].offset = 1ull << 40; }), "do not lie in segment");
  expect_refused(forged([&](auto& m) { tensor(m, q).at[0].offset += 4; }), "at a multiple of 64");
  expect_refused(forged([&](auto& m) { tensor(m, q).at[0].segment = 999; }), "do not lie in segment");
  expect_refused(forged([&](auto& m) { tensor(m, q).at[0] = tensor(m, "blk.0.attn_k.weight").at[0]; }), "overlap");
  expect_refused(forged([&](auto& m) { tensor(m, q).at.push_back({}); }), "places");
  expect_refused(forged([&](auto& m) { tensor(m, q).shape[1] = 1ull << 39; }), "elements");
  expect_refused(forged([&](auto& m) { tensor(m, q).shape[1] *= 1024; }), "do not lie in segment");
  expect_refused(forged([&](auto& m) { tensor(m, q).type = Type::kI8, tensor(m, q).shape[1] *= 1024; }), "do not lie");
  expect_refused(forged([&](auto& m) { tensor(m, q).type = Type::kI8, tensor(m, q).shape[0] += 16; }), "no multiple");
  expect_refused(forged([&](auto& m) { m.segments[3].offset += 4096; }), "not at a multiple of");
  expect_refused(forged([&](auto& m) { m.segments[3].offset = m.segments[2].offset; }), "over another");
  expect_refused(forged([&](auto& m) { m.segments.back().bytes = 1ull << 43; }), "beyond the file");
  expect_refused(forged([&](auto& m) { m.text[0].bytes = 1ull << 40; }), "ends beyond the segment");
  expect_refused(forged([&](auto& m) { m.segments.erase(m.segments.begin()); }), "the first segment is not the text");
}

TEST_F(DamagedPack, ForgedShapesDoNotPassTheLoader) {
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  const auto refused = [&](const std::function<void(PackManifest&)>& change) {
    folder_.write("forged.pack", forged(change));
    const auto checkpoint = open_checkpoint(folder_.path() / "forged.pack");
    if (!checkpoint) return message(checkpoint);
    return message(Decoder::load(*checkpoint, *backend, {.context = 32, .rows_max = 0, .progress = {}}));
  };
  const std::string q = "blk.0.attn_q.weight";
  EXPECT_NE(refused([&](auto& m) { tensor(m, q).shape[1] -= 8; }).find("has the shape"), std::string::npos);
  EXPECT_NE(refused([&](auto& m) { tensor(m, q).name = "blk.0.attn_x.weight"; }).find("no tensor"), std::string::npos);
  EXPECT_NE(refused([&](auto& m) { tensor(m, "output_norm.weight").panels = true; }), "");
}

// An answer half given is worse than a clear end: no crash, no core, the file's name.
TEST_F(DamagedPack, CutShortWhileMappedEndsWithItsName) {
  const auto use = [&] {
    guard_mapped_files();
    const Checkpoint checkpoint = open_checkpoint(path_).value();
    fs::resize_file(path_, pack_.manifest.segments[1].offset);
    (void)logits_of(checkpoint);
  };
  EXPECT_EXIT(use(), testing::ExitedWithCode(info(Code::kIo).exit_code), "model.pack: it was cut short");
}

class CachedModel : public testing::Test {
 protected:
  static Result<Model> load(const PackCache* cache, uint64_t* imported = nullptr) {
    auto progress = [&](uint64_t done, uint64_t) {
      if (imported) *imported = done;
    };
    return load_model(kModel, create_backend("cpu", {.n_threads = 1, .isa = ""}).value(), {},
                      {.cache = cache, .n_threads = 2, .progress = progress});
  }
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }
  static inline const fs::path kModel = kGoldenFolder / "llama/model.gguf";
  TestFolder folder_;
  PackCache cache_ = PackCache::open(folder_.path(), {}).value();
};

TEST_F(CachedModel, IsImportedOnceAndMappedFromThenOn) {
  uint64_t imported = 0;
  EXPECT_TRUE(load(&cache_, &imported).value().checkpoint->packed());
  EXPECT_GT(imported, 0u);
  imported = 0;
  const auto again = load(&cache_, &imported);
  ASSERT_EQ(message(again), "");
  EXPECT_TRUE(again->checkpoint->packed());
  EXPECT_EQ(imported, 0u) << "nothing is read of the original, nothing imported";
  EXPECT_FALSE(load(nullptr).value().checkpoint->packed());
  // As its own path it is the same model.
  const auto direct = load_model(pack_place(kModel, cache_).value(),
                                 create_backend("cpu", {.n_threads = 1, .isa = ""}).value(), {}, {.cache = &cache_});
  ASSERT_EQ(message(direct), "");
  EXPECT_EQ(direct->text.tokenizer->data().tokens, again->text.tokenizer->data().tokens);
  ASSERT_EQ(cache_.list().size(), 1u);
  EXPECT_TRUE(cache_.list()[0].in_use);
}

TEST_F(CachedModel, IsMadeAnewWhenDamaged) {
  (void)load(&cache_).value();
  const fs::path pack = pack_place(kModel, cache_).value();
  const std::string whole = content(pack);
  fs::resize_file(pack, 100'000);
  EXPECT_TRUE(load(&cache_).value().checkpoint->packed());
  EXPECT_EQ(content(pack), whole);
  folder_.write(pack.filename().string(), "something else");
  EXPECT_TRUE(load(&cache_).value().checkpoint->packed());
  EXPECT_EQ(content(pack), whole);
  // The pack of another model, by a mistake of whoever copied it.
  ASSERT_EQ(message(write_pack(open_checkpoint(kGoldenFolder / "qwen2").value(), pack, 1)), "");
  EXPECT_TRUE(load(&cache_).value().checkpoint->packed());
  EXPECT_EQ(content(pack), whole);
}

TEST_F(CachedModel, IsLaidOutInMemoryWhereNoPackCanBe) {
  ASSERT_TRUE(cache_.set_limit(1000));
  EXPECT_FALSE(load(&cache_).value().checkpoint->packed());
  EXPECT_EQ(files(), (std::vector<std::string>{"limit", "sources.json"}));
  ASSERT_TRUE(cache_.set_limit(1 << 30));
  // A folder where the pack would go: it can be neither opened nor replaced.
  fs::create_directories(pack_place(kModel, cache_).value() / "x");
  EXPECT_FALSE(load(&cache_).value().checkpoint->packed());
}

TEST_F(CachedModel, IsImportedByTwoAtOnce) {
  Result<Model> first = fail(Code::kInternal, "not run"), second = fail(Code::kInternal, "not run");
  {
    const std::jthread a([&] { first = load(&cache_); }), b([&] { second = load(&cache_); });
  }
  ASSERT_EQ(message(first) + message(second), "");
  EXPECT_TRUE(first->checkpoint->packed() && second->checkpoint->packed());
  EXPECT_EQ(files().size(), 2u) << "one pack and sources.json";
}

// A disk that fills up while a pack is written leaves nothing that could be taken for a pack.
TEST_F(CachedModel, FullDiskIsAnErrorOfTheImport) {
  const Checkpoint checkpoint = open_checkpoint(kModel).value();
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  PackPlan plan = PackPlan::create(checkpoint, *backend, Digest{}).value();
  const Descriptor full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  const auto written = plan.write(full.get(), folder_.path() / "p", 2, {});
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message.find("the disk is full"), std::string::npos) << written.error().message;
  int calls = 0;
  const Descriptor fd(::open((folder_.path() / "p").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  EXPECT_EQ(plan.write(fd.get(), folder_.path() / "p", 1, [&](uint64_t) { return ++calls < 3; }).error().code,
            Code::kCancelled);
}

}  // namespace
}  // namespace hearth
