#include "store/import.h"

#include <gtest/gtest.h>
#include <sys/file.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/mapped_file.h"
#include "store/sha256.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;

constexpr const char* kAbcSha256 =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // FIPS 180-2, appendix B.1

class ImportTest : public testing::Test {
 protected:
  static void write(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }
  static bool give_up() { return false; }

  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(ImportTest, AVerifiedModelMovesIntoTheStoreWhole) {
  const Store store = *Store::open(root_);
  auto import = Import::begin(store, "owner/m:q4", give_up);
  ASSERT_TRUE(import);
  const ExpectedFile file{"a.gguf", 3, kAbcSha256};
  write(*import->part(file), "abc");
  write(root_ / "partial/owner@m:q4/left-over.part", "x");
  ASSERT_TRUE(import->accept(file, {}));
  EXPECT_TRUE(store.list()->empty());
  const auto manifest = import->commit("a test");
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(store.find("owner/m:q4")->files[0].sha256, kAbcSha256);
  EXPECT_EQ(*read_file(*store.resolve("owner/m:q4"), 10), "abc");
  EXPECT_FALSE(fs::exists(store.folder("owner/m:q4") / "left-over.part"));
}

TEST_F(ImportTest, AWrongDigestOrSizeNeverEntersTheStore) {
  const Store store = *Store::open(root_);
  for (const ExpectedFile& file : {ExpectedFile{"a.gguf", 3, std::string(64, '0')}, ExpectedFile{"a.gguf", 4, ""}}) {
    auto import = Import::begin(store, "m", give_up);
    write(*import->part(file), "abc");
    EXPECT_EQ(import->accept(file, {}).error().code, Code::kCorrupt);
    EXPECT_FALSE(fs::exists(root_ / "partial/m/a.gguf.part"));  // or the next pull would go on with the wrong bytes
  }
  EXPECT_TRUE(store.list()->empty());
}

TEST_F(ImportTest, AnInterruptedImportFindsItsFinishedFiles) {
  const Store store = *Store::open(root_);
  const ExpectedFile file{"a.safetensors", 3, kAbcSha256};
  {
    auto import = Import::begin(store, "m", give_up);
    write(*import->part(file), "abc");
    ASSERT_TRUE(import->accept(file, {}));
  }
  auto again = Import::begin(store, "m", give_up);
  EXPECT_EQ(*read_file(*again->part(file), 10), "abc");
  EXPECT_TRUE(again->accept(file, {}));
}

TEST_F(ImportTest, TwoImportsOfOneNameTakeTurns) {
  const Store store = *Store::open(root_);
  auto first = Import::begin(store, "m", give_up);
  EXPECT_EQ(Import::begin(store, "m", give_up).error().code, Code::kBusy);
  EXPECT_EQ(store.remove("m").error().code, Code::kBusy);
  EXPECT_TRUE(Import::begin(store, "other", give_up));
  std::jthread holder([import = std::move(*first)] { std::this_thread::sleep_for(std::chrono::milliseconds(50)); });
  EXPECT_TRUE(Import::begin(store, "m", [] { return true; }));
}

TEST_F(ImportTest, H8_LinksAndNamesCannotLeadAnImportElsewhere) {
  const Store store = *Store::open(root_);
  EXPECT_EQ(Import::begin(store, "../m", give_up).error().code, Code::kInvalidArgument);
  fs::create_directories(root_ / "outside");
  fs::create_directory_symlink(root_ / "outside", root_ / "partial/m");
  EXPECT_EQ(Import::begin(store, "m", give_up).error().code, Code::kCorrupt);
  auto import = Import::begin(store, "n", give_up);
  EXPECT_FALSE(import->part({"../../x", {}, ""}));
  EXPECT_FALSE(import->part({"manifest.json", {}, ""}));
  // A link in the place of a part is not read through.
  write(root_ / "outside/secret", "abc");
  fs::create_symlink(root_ / "outside/secret", root_ / "partial/n/a.gguf.part");
  EXPECT_FALSE(import->accept({"a.gguf", {}, ""}, {}));
}

TEST_F(ImportTest, CopiesAndLinksLocalFiles) {
  write(root_ / "from", "abc");
  ASSERT_TRUE(copy_to_part(root_ / "from", root_ / "copy", CopyMode::kCopy, {}));
  ASSERT_TRUE(copy_to_part(root_ / "from", root_ / "link", CopyMode::kLink, {}));
  EXPECT_EQ(*sha256_of_file(root_ / "copy"), kAbcSha256);
  EXPECT_EQ(fs::hard_link_count(root_ / "copy"), 1u);
  EXPECT_EQ(fs::hard_link_count(root_ / "link"), 2u);
  EXPECT_EQ(copy_to_part(root_, root_ / "copy", CopyMode::kCopy, {}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(copy_to_part(root_ / "absent", root_ / "copy", CopyMode::kCopy, {}).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace hearth
