#include "net/model_hub.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

HubListing listing_of(std::initializer_list<const char*> paths) {
  HubListing listing{"abc", {}};
  for (const char* path : paths) listing.files.push_back({path, 1, ""});
  return listing;
}

std::vector<std::string> chosen(const HubListing& listing, std::string_view quant, std::string_view pattern = "") {
  std::vector<std::string> paths;
  if (auto files = choose_hub_files(listing, quant, pattern)) {
    for (const HubFile& file : *files) paths.push_back(file.path);
  }
  return paths;
}

using Paths = std::vector<std::string>;

TEST(ModelHubTest, RepositoriesAreOwnerAndName) {
  const auto repository = parse_hub_repository("hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0");
  ASSERT_TRUE(repository);
  EXPECT_EQ(repository->owner, "Qwen");
  EXPECT_EQ(repository->name, "Qwen3-0.6B-GGUF");
  EXPECT_EQ(repository->quant, "Q8_0");
  for (const char* text :
       {"", "a", "a/", "/a", "a/b/c", "../a", "a/..", "a/b:", "a/b:c/d", "a/b?x", "a b/c", "a/b#c", "-a/b"}) {
    EXPECT_FALSE(parse_hub_repository(text)) << text;
  }
}

TEST(ModelHubTest, TakesTheQuantAskedForAndNoOther) {
  const auto listing =
      listing_of({"README.md", "m-Q4_K_S.gguf", "m-Q4_K_M.gguf", "m-q8_0.gguf", "m-IQ4_XS.gguf", "mmproj-Q4_K_M.gguf"});
  EXPECT_EQ(chosen(listing, ""), Paths{"m-Q4_K_M.gguf"});
  EXPECT_EQ(chosen(listing, "q4_k_s"), Paths{"m-Q4_K_S.gguf"});
  EXPECT_EQ(chosen(listing, "Q8_0"), Paths{"m-q8_0.gguf"});
  EXPECT_EQ(chosen(listing, "Q4_K"), Paths{});  // not the first name that merely contains it
  EXPECT_NE(choose_hub_files(listing, "Q6_K", "").error().message.find("m-Q4_K_M"), std::string::npos);
}

TEST(ModelHubTest, ASplitModelComesWhole) {
  const auto whole = listing_of({"Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf"});
  EXPECT_EQ(chosen(whole, ""), (Paths{"Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf"}));
  const auto torn = listing_of({"m-Q4_K_M-00002-of-00003.gguf", "m-Q4_K_M-00001-of-00003.gguf"});
  EXPECT_NE(choose_hub_files(torn, "", "").error().message.find("3 files and the repository has 2"), std::string::npos);
}

TEST(ModelHubTest, WithoutGgufTheSafetensorsFolderIsTaken) {
  const auto listing = listing_of({"config.json", "tokenizer.json", "model.safetensors", "onnx/model.onnx",
                                   "pytorch_model.bin", "sub/other.safetensors", "run.py"});
  EXPECT_EQ(chosen(listing, ""), (Paths{"config.json", "tokenizer.json", "model.safetensors"}));
  EXPECT_FALSE(choose_hub_files(listing_of({"README.md"}), "", ""));
}

TEST(ModelHubTest, APatternChoosesByPath) {
  const auto listing = listing_of({"a/x.gguf", "b/x.gguf", "b/y.gguf"});
  EXPECT_EQ(chosen(listing, "", "b/*.gguf"), (Paths{"b/x.gguf", "b/y.gguf"}));
  EXPECT_FALSE(choose_hub_files(listing, "", "c/*"));
}

TEST(ModelHubTest, ListingsAreNotTrusted) {
  const std::string digest(64, 'a');
  const auto good =
      parse_hub_listing(R"({"sha":"c0ffee","siblings":[{"rfilename":"m.gguf","size":7,"lfs":{"sha256":")" + digest +
                        R"(","size":7}},{"rfilename":"config.json","size":2}]})");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->files[0].sha256, digest);
  EXPECT_EQ(good->files[0].bytes, 7u);
  EXPECT_EQ(hub_file_url("https://h", {"o", "n", ""}, *good, good->files[0]), "https://h/o/n/resolve/c0ffee/m.gguf");
  for (const char* text :
       {"", "[]", "{}", R"({"sha":"../x","siblings":[]})", R"({"sha":"c"})", R"({"sha":"c","siblings":[1]})",
        R"({"sha":"c","siblings":[{"rfilename":"../../etc/passwd"}]})",
        R"({"sha":"c","siblings":[{"rfilename":"/etc/passwd"}]})",
        R"({"sha":"c","siblings":[{"rfilename":"a\u0000b"}]})",
        R"({"sha":"c","siblings":[{"rfilename":"a","lfs":{"sha256":"short"}}]})"}) {
    EXPECT_FALSE(parse_hub_listing(text)) << text;
  }
  EXPECT_FALSE(parse_hub_listing(std::string(100'000, '[')));
}

}  // namespace
}  // namespace hearth
