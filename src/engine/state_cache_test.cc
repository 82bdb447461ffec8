// States on disk: they come back as they were, or not at all.
#include "engine/state_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

Key key_of(unsigned char c) { return Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{c})).value(); }

// Sequences of an attention layer and a recurrent one, with states of more than one piece.
class StateTest : public testing::Test {
 protected:
  void SetUp() override {
    DecoderConfig config;
    config.d_model = 64;
    config.conv_taps = 3;
    config.layers = {{.mixer = Mixer::kAttention, .n_heads = 8, .n_kv_heads = 8, .head_dim = 128},
                     {.mixer = Mixer::kShortConv}};
    backend_ = create_backend("reference", {.n_threads = 1, .isa = {}}).value();
    store_ = SequenceStore::create(*backend_, config, {.positions_max = 1024, .sequences_max = 8}).value();
  }

  // A sequence of random content.
  SequenceId sequence(int length, unsigned seed) {
    const SequenceId id = store_->open_for_import(length).value();
    std::vector<std::byte> state = store_->export_state(id, 0, 2).value();
    for (size_t i = 24; i < state.size(); ++i) {
      seed = seed * 1664525 + 1013904223;
      state[i] = static_cast<std::byte>(seed >> 24);
    }
    EXPECT_TRUE(store_->bytes(id).write(0, state));
    return id;
  }
  [[nodiscard]] std::vector<std::byte> content(SequenceId id) const { return store_->export_state(id, 0, 2).value(); }
  static std::vector<Token> tokens(int length, Token first) {
    std::vector<Token> tokens;
    for (int i = 0; i < length; ++i) tokens.push_back(first + i);
    return tokens;
  }
  bool keep(StateCache& cache, SequenceId id, Token first) {
    const auto transfer = cache.keep(owner_, tokens(store_->length(id), first), store_->bytes(id), {});
    transfer->wait();
    return transfer->succeeded();
  }
  // The content that comes from disk, empty if none does.
  std::vector<std::byte> load(StateCache& cache, int length, Token first) {
    const auto found = cache.longest_prefix(owner_, tokens(length, first));
    if (found.length != length) return {};
    const SequenceId id = store_->open_for_import(length).value();
    const auto transfer = cache.load(owner_, found.name, store_->bytes(id), {});
    transfer->wait();
    auto loaded = transfer->succeeded() ? content(id) : std::vector<std::byte>();
    store_->release(id);
    return loaded;
  }

  TestFolder folder_;
  StateOwner owner_{"anna", "model f16"};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<SequenceStore> store_;
};

TEST_F(StateTest, ComesBackAsItWasAfterARestartToo) {
  const SequenceId a = sequence(300, 1), b = sequence(33, 2);
  {
    const auto cache = StateCache::open(folder_.path(), key_of(1), 1 << 30).value();
    ASSERT_TRUE(keep(*cache, a, 1000));
    ASSERT_TRUE(keep(*cache, b, 5000));
    EXPECT_EQ(load(*cache, 300, 1000), content(a));
  }
  const auto cache = StateCache::open(folder_.path(), key_of(1), 1 << 30).value();
  EXPECT_EQ(load(*cache, 300, 1000), content(a));
  EXPECT_EQ(load(*cache, 33, 5000), content(b));
  EXPECT_EQ(cache->longest_prefix({"bert", "model f16"}, tokens(300, 1000)).length, 0);
  EXPECT_EQ(cache->longest_prefix({"anna", "model i8"}, tokens(300, 1000)).length, 0);
  EXPECT_EQ(StateCache::open(folder_.path(), key_of(2), 1 << 30).value()->count(), 0) << "of another key";
}

TEST_F(StateTest, TheLimitHoldsAndWhatWasUsedLastStays) {
  const SequenceId a = sequence(200, 1);
  const uint64_t each = store_->bytes(a).size() + 32768;
  const auto cache = StateCache::open(folder_.path(), key_of(1), 3 * each).value();
  for (Token first : {1000, 2000, 3000}) ASSERT_TRUE(keep(*cache, a, first));
  EXPECT_FALSE(load(*cache, 200, 1000).empty());
  for (Token first : {4000, 5000}) ASSERT_TRUE(keep(*cache, a, first));
  EXPECT_LE(cache->bytes(), 3 * each);
  EXPECT_EQ(load(*cache, 200, 1000), content(a));
  EXPECT_TRUE(load(*cache, 200, 2000).empty());
  const auto small = StateCache::open(folder_.path() / "small", key_of(1), each / 2).value();
  EXPECT_FALSE(keep(*small, a, 1000)) << "larger than the limit";
  EXPECT_EQ(small->bytes(), 0u);
}

TEST_F(StateTest, EveryChangedBitAndEveryCutIsNoticedAndTheFileIsGone) {
  const SequenceId a = sequence(300, 1);
  const auto cache = StateCache::open(folder_.path(), key_of(1), 1 << 30).value();
  ASSERT_TRUE(keep(*cache, a, 1000));
  const fs::path path = fs::directory_iterator(folder_.path())->path();
  const auto size = static_cast<int64_t>(fs::file_size(path));
  for (int64_t at = 0; at < size; at += at < 8000 ? 293 : 65521) {
    const bool padding = at > 1379 && at < 4096;  // behind the index: nothing is there
    ASSERT_TRUE(keep(*cache, a, 1000));
    {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(at);
      const int c = file.get();
      file.seekp(at);
      file.put(static_cast<char>(c ^ 4));
    }
    if (padding) continue;
    EXPECT_TRUE(load(*cache, 300, 1000).empty()) << "byte " << at;
    EXPECT_FALSE(fs::exists(path)) << "byte " << at;
    EXPECT_EQ(cache->bytes(), 0u);
  }
  for (const int64_t cut : {int64_t{0}, int64_t{10}, int64_t{4096}, size - 1, size - 300'000}) {
    ASSERT_TRUE(keep(*cache, a, 1000));
    fs::resize_file(path, static_cast<uintmax_t>(cut));
    EXPECT_TRUE(load(*cache, 300, 1000).empty()) << "cut at " << cut;
  }
  // Another state in its place, whole and of the same key.
  ASSERT_TRUE(keep(*cache, a, 1000));
  ASSERT_TRUE(keep(*cache, sequence(300, 7), 1300));
  for (const auto& file : fs::directory_iterator(folder_.path()))
    if (file.path() != path) fs::rename(file.path(), path);
  EXPECT_TRUE(load(*cache, 300, 1000).empty());
}

// As a disk that takes no more.
class NoRoom {
 public:
  NoRoom() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit none = before_;
    none.rlim_cur = 100'000;
    ::setrlimit(RLIMIT_FSIZE, &none);
  }
  NoRoom(const NoRoom&) = delete;
  NoRoom& operator=(const NoRoom&) = delete;
  ~NoRoom() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(StateTest, AFullDiskKeepsNothingAndLeavesNothingBehind) {
  const SequenceId a = sequence(300, 1);
  const auto cache = StateCache::open(folder_.path(), key_of(1), 1 << 30).value();
  {
    const NoRoom full;
    EXPECT_FALSE(keep(*cache, a, 1000));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
    EXPECT_EQ(cache->bytes(), 0u);
  }
  EXPECT_TRUE(keep(*cache, a, 1000)) << "there is room again";
  EXPECT_EQ(load(*cache, 300, 1000), content(a));
}

TEST_F(StateTest, ManyAtOnceGetEachTheirOwn) {
  const SequenceId a = sequence(200, 1), b = sequence(200, 2);
  const auto cache = StateCache::open(folder_.path(), key_of(1), 1 << 30).value();
  ASSERT_TRUE(keep(*cache, a, 1000));
  ASSERT_TRUE(keep(*cache, b, 2000));
  for (int round = 0; round < 5; ++round) {
    const SequenceId c = store_->open_for_import(200).value(), d = store_->open_for_import(200).value();
    const auto found = [&](Token first) { return cache->longest_prefix(owner_, tokens(200, first)).name; };
    const auto one = cache->load(owner_, found(1000), store_->bytes(c), {});
    const auto two = cache->load(owner_, found(2000), store_->bytes(d), {});
    const auto three = cache->keep(owner_, tokens(200, 3000 + 200 * round), store_->bytes(a), {});
    for (const auto& transfer : {one, two, three}) {
      transfer->wait();
      EXPECT_TRUE(transfer->succeeded());
    }
    EXPECT_EQ(content(c), content(a));
    EXPECT_EQ(content(d), content(b));
    store_->release(c), store_->release(d);
  }
}

TEST(StateIndex, OfHostileBytesIsAnError) {
  std::vector<std::byte> bytes(48, std::byte{0});
  EXPECT_FALSE(parse_state_index(bytes)) << "no state at all";
  bytes[32] = std::byte{1};
  EXPECT_FALSE(parse_state_index(bytes)) << "bytes at its end";
  EXPECT_TRUE(parse_state_index(std::span(bytes).first(40)));
  for (size_t n = 0; n < 40; ++n) EXPECT_FALSE(parse_state_index(std::span(bytes).first(n))) << n;
  bytes[0] = std::byte{0xff};
  EXPECT_FALSE(parse_state_index(std::span(bytes).first(40))) << "a part longer than all of it";
}

}  // namespace
}  // namespace hearth
