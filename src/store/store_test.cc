#include "store/store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "store/known_models.h"
#include "store/model_name.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  static void write(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }

  // A model as a finished pull leaves it.
  void put(const std::string& name, const std::string& file, const std::string& content) {
    const fs::path folder = root_ / "models" / model_folder(name);
    fs::create_directories(folder);
    write(folder / file, content);
    Manifest manifest{name, "test", {{file, content.size(), std::string(64, '0')}}, "2026-01-31T12:00:00Z"};
    write(folder / "manifest.json", to_json(manifest));
  }

  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(StoreTest, FindsAModelByNameAnyCaseAndAlias) {
  put("smollm2-135m-instruct", "a.gguf", "GGUF");
  put("qwen/qwen3:q4_k_m", "b.gguf", "GGUF!");
  const Store store = *Store::open(root_);
  EXPECT_EQ(store.find("tiny")->name, "smollm2-135m-instruct");
  EXPECT_EQ(store.find("Qwen/Qwen3:Q4_K_M")->bytes(), 5u);
  EXPECT_EQ(*store.resolve("tiny"), root_ / "models/smollm2-135m-instruct/a.gguf");
  EXPECT_EQ(store.list()->size(), 2u);
}

TEST_F(StoreTest, AnUnknownNameSuggestsNearOnes) {
  put("qwen2.5-coder", "a.gguf", "GGUF");
  const Store store = *Store::open(root_);
  const auto missing = store.resolve("qwen2.5-codre");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find("did you mean qwen2.5-coder"), std::string::npos) << missing.error().message;
  EXPECT_NE(store.resolve("default").error().message.find("hearth pull default"), std::string::npos);
}

TEST_F(StoreTest, H8_NamesThatLeaveTheStoreAreRefused) {
  for (const char* name : {"",   ".",  "..",    "../x", "a/../b", "a/b/c", "/etc",        "a//b", ".hidden", "a/.b",
                           "a:", ":b", "a:b:c", "a\\b", "a\nb",   "a@b",   "caf\xc3\xa9", "A",    "-rf",     "a/-b"}) {
    EXPECT_FALSE(check_model_name(name)) << name;
  }
  EXPECT_FALSE(check_model_name(std::string(129, 'a')));
  EXPECT_FALSE(check_model_name(std::string_view("a\0b", 3)));
  for (const char* name : {"a", "qwen2.5-coder", "owner/name", "owner/name:q4_k_m", "name:tag", "0"}) {
    EXPECT_TRUE(check_model_name(name)) << name;
  }
  for (const char* name : {"", "..", "a/b", "../a", "manifest.json", ".ssh", "a b", "a%2f"}) {
    EXPECT_FALSE(check_file_name(name)) << name;
  }
}

TEST_F(StoreTest, H8_LinksInTheStoreAreNotFollowed) {
  put("real", "a.gguf", "GGUF");
  const fs::path outside = root_ / "outside";
  fs::create_directories(outside);
  write(outside / "secret.gguf", "GGUF");
  fs::create_directory_symlink(outside, root_ / "models/linked");
  const Store store = *Store::open(root_);
  EXPECT_EQ(store.find("linked").error().code, Code::kCorrupt);
  EXPECT_EQ(store.list()->size(), 1u);
  // Removing the link leaves its target alone.
  EXPECT_TRUE(store.remove("linked"));
  EXPECT_TRUE(fs::exists(outside / "secret.gguf"));
  // A file that became a link is refused too.
  fs::remove(root_ / "models/real/a.gguf");
  fs::create_symlink(outside / "secret.gguf", root_ / "models/real/a.gguf");
  EXPECT_EQ(store.resolve("real").error().code, Code::kCorrupt);
}

TEST_F(StoreTest, ACutFileOfAModelIsReportedBeforeLoading) {
  put("m", "a.gguf", "GGUF and more");
  fs::resize_file(root_ / "models/m/a.gguf", 4);
  const auto result = Store::open(root_)->resolve("m");
  EXPECT_EQ(result.error().code, Code::kCorrupt);
  EXPECT_NE(result.error().message.find("4 bytes instead of 13"), std::string::npos) << result.error().message;
}

TEST_F(StoreTest, RemovedModelsAreGone) {
  put("m", "a.gguf", "GGUF");
  const Store store = *Store::open(root_);
  EXPECT_TRUE(store.remove("m"));
  EXPECT_FALSE(fs::exists(root_ / "models/m"));
  EXPECT_EQ(store.remove("m").error().code, Code::kNotFound);
  EXPECT_EQ(store.remove("../m").error().code, Code::kInvalidArgument);
}

TEST_F(StoreTest, PathsAndFoldersResolveWithoutTheStore) {
  const Store store = *Store::open(root_);
  write(root_ / "x.gguf", "GGUF");
  EXPECT_EQ(*store.resolve((root_ / "x.gguf").string()), root_ / "x.gguf");
  EXPECT_EQ(store.resolve((root_ / "y.gguf").string()).error().code, Code::kNotFound);
  const fs::path hub = root_ / "hub";
  fs::create_directories(hub);
  EXPECT_EQ(store.resolve(hub.string() + "/").error().code, Code::kNotFound);
  write(hub / "config.json", "{}");
  EXPECT_EQ(*store.resolve(hub.string()), hub);
  const fs::path split = root_ / "split";
  fs::create_directories(split);
  write(split / "m-00002-of-00002.gguf", "GGUF");
  write(split / "m-00001-of-00002.gguf", "GGUF");
  EXPECT_EQ(*store.resolve(split.string()), split / "m-00001-of-00002.gguf");
  write(split / "other.gguf", "GGUF");
  EXPECT_EQ(store.resolve(split.string()).error().code, Code::kInvalidArgument);
}

TEST(ManifestTest, BrokenManifestsAreRefused) {
  for (const char* text : {"", "[]", "{}", R"({"name":"../x","source":"","added":"","files":[]})",
                           R"({"name":"a","source":"","added":"","files":[]})",
                           R"({"name":"a","source":"","added":"","files":[{"name":"../b","bytes":1,"sha256":""}]})",
                           R"({"name":"a","source":"","added":"","files":[{"name":"b","bytes":-1,"sha256":""}]})"}) {
    EXPECT_FALSE(parse_manifest(text)) << text;
  }
  EXPECT_FALSE(parse_manifest(std::string(100'000, '[')));
}

TEST(KnownModelsTest, NamesAndDigestsAreWellFormed) {
  for (const KnownModel& model : known_models()) {
    EXPECT_TRUE(check_model_name(model.name)) << model.name;
    EXPECT_TRUE(check_file_name(model.file)) << model.file;
    EXPECT_EQ(model.sha256.size(), 64u);
    EXPECT_EQ(find_known_model(model.alias), &model);
  }
}

}  // namespace
}  // namespace hearth
