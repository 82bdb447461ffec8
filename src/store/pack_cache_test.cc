#include "store/pack_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "base/mapped_file.h"
#include "store/sha256.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

class PackCacheTest : public testing::Test {
 protected:
  static void write(const fs::path& path, std::string_view text) { std::ofstream(path, std::ios::trunc) << text; }
  // A pack of some bytes that was last used at a time.
  [[nodiscard]] fs::path pack(char digit, size_t bytes, int64_t last_use) const {
    fs::path path = cache_.place(std::string(64, digit), "1.1");
    write(path, std::string(bytes, 'x'));
    const timespec times[2] = {{last_use, 0}, {last_use, 0}};
    ::utimensat(AT_FDCWD, path.c_str(), times, 0);
    return path;
  }

  TestFolder home_;
  fs::path folder_ = home_.path();
  PackCache cache_ = PackCache::open(folder_ / "packs", folder_ / "models").value();
};

TEST_F(PackCacheTest, DeletesTheLeastRecentlyUsedButNeverOneInUse) {
  const fs::path oldest = pack('a', 100, 1000), old = pack('b', 100, 2000), young = pack('c', 100, 3000);
  const MappedFile used = MappedFile::open_in_use(oldest).value();
  ASSERT_TRUE(cache_.set_limit(200));
  EXPECT_EQ(cache_.keep_limit(), 100u);
  EXPECT_TRUE(fs::exists(oldest)) << "it is in use";
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
  cache_.touch(oldest);
  EXPECT_EQ(cache_.list().front().path, oldest);
  EXPECT_EQ(cache_.shrink_to(0), 100u);
  EXPECT_EQ(cache_.list().size(), 1u);
}

TEST_F(PackCacheTest, WhatWasMeasuredOfAPackGoesWithIt) {
  const fs::path first = pack('a', 100, 1000), second = pack('b', 100, 2000);
  for (const fs::path& each : {first, second}) write(cache_.notes(each), "{}");
  EXPECT_EQ(cache_.notes(folder_ / "elsewhere.pack"), fs::path()) << "nothing is written beside a user's own files";
  EXPECT_EQ(cache_.shrink_to(100), 100u);
  EXPECT_FALSE(fs::exists(cache_.notes(first)));
  EXPECT_TRUE(fs::exists(cache_.notes(second)));
  cache_.remove(std::string(64, 'b'));
  EXPECT_FALSE(fs::exists(cache_.notes(second)));
}

TEST_F(PackCacheTest, ReadsAFileOnceUntilItChanges) {
  const fs::path file = folder_ / "model.gguf";
  write(file, "one");
  int reads = 0;
  const auto count = [&](uint64_t) { return ++reads > 0; };
  const std::vector<fs::path> files{file};
  const std::string digest = cache_.source_digest(files, count).value();
  EXPECT_EQ(digest, sha256_of_file(file).value());
  EXPECT_EQ(cache_.source_digest(files, count).value(), digest);
  EXPECT_EQ(reads, 1);
  write(file, "two");
  EXPECT_NE(cache_.source_digest(files, count).value(), digest);
  write(cache_.folder() / "sources.json", "no JSON");
  EXPECT_EQ(cache_.source_digest(files, count).value(), sha256_of_file(file).value());
}

// What sha256sum prints, hashed: anyone can compute it.
TEST_F(PackCacheTest, DigestOfSeveralFilesIsThatOfTheirListing) {
  write(folder_ / "a", "1");
  write(folder_ / "b", "2");
  const std::string listing =
      sha256_of_file(folder_ / "a").value() + "  a\n" + sha256_of_file(folder_ / "b").value() + "  b\n";
  Sha256 hash;
  hash.update(std::as_bytes(std::span(listing)));
  EXPECT_EQ(cache_.source_digest(std::vector<fs::path>{folder_ / "b", folder_ / "a"}, {}).value(), hash.hex());
}

TEST_F(PackCacheTest, TakesAStoredModelsDigestFromItsManifest) {
  const fs::path model = folder_ / "models" / "m";
  fs::create_directories(model);
  write(model / "x.gguf", "content");
  const std::string said(64, 'd');
  write(model / "manifest.json", R"({"name":"m","source":"s","added":"2026-01-01T00:00:00Z","files":[)"
                                 R"({"name":"x.gguf","bytes":7,"sha256":")" +
                                     said + "\"}]}");
  const std::vector<fs::path> files{model / "x.gguf"};
  EXPECT_EQ(cache_.source_digest(files, {}).value(), said);
  // A hard link of the user's whose content changed afterwards.
  fs::last_write_time(files[0], fs::last_write_time(model / "manifest.json") + std::chrono::seconds(1));
  EXPECT_EQ(cache_.source_digest(files, {}).value(), sha256_of_file(files[0]).value());
}

TEST_F(PackCacheTest, AnImportThatEndsEarlyLeavesNothing) {
  const fs::path place = cache_.place(std::string(64, 'a'), "1.1"), leftover = folder_ / "packs" / "old.pack.part";
  write(leftover, "left behind by a killed process");
  {
    const PackClaim claim = cache_.claim(place).value();
    EXPECT_TRUE(fs::exists(claim.path()));
    EXPECT_FALSE(fs::exists(leftover));
  }
  EXPECT_TRUE(fs::is_empty(folder_ / "packs"));
  PackClaim claim = cache_.claim(place).value();
  ASSERT_TRUE(cache_.publish(claim, place));
  EXPECT_TRUE(cache_.list().at(0).in_use) << "until the claim ends nobody may delete it";
}

}  // namespace
}  // namespace hearth
