#include "store/ollama_store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;

class OllamaStoreTest : public testing::Test {
 protected:
  OllamaStoreTest() {
    write(blob('a'), "GGUF");
    write(blob('b'), "Be brief.");
    write(blob('c'), R"({"stop":["<end>"],"temperature":0.5})");
    write(root_ / "secret", "GGUF");
  }

  static void write(const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static std::string digest(char digit) { return std::string(64, digit); }
  fs::path blob(char digit) const { return root_ / "blobs" / ("sha256-" + digest(digit)); }
  fs::path manifest(std::string_view place) const { return root_ / "manifests" / place; }
  static std::string layer(std::string_view kind, std::string_view digest, std::string_view size) {
    return std::string(R"({"mediaType":"application/vnd.ollama.image.)") + std::string(kind) + R"(","digest":")" +
           std::string(digest) + R"(","size":)" + std::string(size) + "}";
  }
  static std::string with_layers(std::string_view layers) {
    return R"({"schemaVersion":2,"config":{},"layers":[)" + std::string(layers) + "]}";
  }
  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(OllamaStoreTest, ModelsAreFoundByTheNamesOllamaShows) {
  const std::string layers =
      layer("model", "sha256:" + digest('a'), "4") + "," + layer("system", "sha256:" + digest('b'), "9") + "," +
      layer("params", "sha256:" + digest('c'), "36") + "," + layer("license", "sha256:" + digest('d'), "1");
  write(manifest("registry/library/llama3.2/1b"), with_layers(layers));
  write(manifest("registry/library/llama3.2/latest"), with_layers(layers));
  write(manifest("hub/Owner/Model-GGUF/Q4_K_M"), with_layers(layers));
  const OllamaStore store(root_);
  const auto all = store.list();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].name, "Owner/Model-GGUF:Q4_K_M");
  EXPECT_EQ(all[1].name, "llama3.2:1b");
  EXPECT_EQ(all[1].path, blob('a'));
  EXPECT_EQ(all[1].sha256, digest('a'));
  EXPECT_EQ(all[1].bytes, 4u);
  EXPECT_EQ(all[1].system, "Be brief.");
  EXPECT_EQ(all[1].parameters_json, R"({"stop":["<end>"],"temperature":0.5})");
  EXPECT_EQ(all[1].modified.size(), 20u);
  EXPECT_EQ(store.find("llama3.2")->name, "llama3.2:latest");
  EXPECT_EQ(store.find("owner/model-gguf:q4_k_m")->path, blob('a'));
  EXPECT_EQ(store.find("llama3.2:3b").error().code, Code::kNotFound);
  EXPECT_TRUE(OllamaStore(root_ / "nothing").list().empty());
}

TEST_F(OllamaStoreTest, CVE_2024_37032_NoManifestReachesAFileOutsideTheBlobs) {
  fs::create_symlink(root_ / "secret", blob('e'));
  const std::string whole = with_layers(layer("model", "sha256:" + digest('a'), "4"));
  const std::pair<const char*, std::string> hostile[] = {
      {"up", with_layers(layer("model", "sha256:../../secret", "4"))},
      {"up64", with_layers(layer("model", "sha256:" + std::string(57, 'a') + "/../x/.", "4"))},
      {"absolute", with_layers(layer("model", (root_ / "secret").string(), "4"))},
      {"link", with_layers(layer("model", "sha256:" + digest('e'), "4"))},
      {"upper", with_layers(layer("model", "sha256:" + digest('A'), "4"))},
      {"missing", with_layers(layer("model", "sha256:" + digest('f'), "4"))},
      {"size", with_layers(layer("model", "sha256:" + digest('a'), "5"))},
      {"negative", with_layers(layer("model", "sha256:" + digest('a'), "-1"))},
      {"huge", with_layers(layer("model", "sha256:" + digest('a'), "99999999999999999999"))},
      {"adapter", with_layers(layer("adapter", "sha256:" + digest('a'), "4"))},
      {"none", with_layers("")},
      {"no-list", R"({"layers":{}})"},
      {"no-objects", R"({"layers":[1,null,"x"]})"},
      {"no-json", "GGUF"},
      {"deep", std::string(100'000, '[')},
      {"long", std::string(2 << 20, ' ') + whole},
  };
  for (const auto& [name, text] : hostile) write(manifest(std::string("h/library/bad/") + name), text);
  write(root_ / "elsewhere/bad/outside", whole);
  fs::create_directory_symlink(root_ / "elsewhere/bad", manifest("h/library/linked"));
  fs::create_symlink(root_ / "elsewhere/bad/outside", manifest("h/library/bad/file-link"));
  const OllamaStore store(root_);
  EXPECT_TRUE(store.list().empty());
  for (const auto& [name, text] : hostile) EXPECT_FALSE(store.find(std::string("bad:") + name)) << name;
  for (const char* name : {"bad:../../../secret", "../bad:up", "linked:outside", "bad:file-link", "", ":", "/"})
    EXPECT_FALSE(store.find(name)) << name;
  fs::rename(root_ / "blobs", root_ / "moved");
  fs::create_directory_symlink(root_ / "moved", root_ / "blobs");
  write(manifest("h/library/good/latest"), whole);
  EXPECT_FALSE(store.find("good"));
}

}  // namespace
}  // namespace hearth
