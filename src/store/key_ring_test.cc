#include "store/key_ring.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "base/mapped_file.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

class KeyRingTest : public testing::Test {
 protected:
  TestFolder folder_;
  std::filesystem::path file_ = folder_.path() / "made" / "keys.json";
};

TEST_F(KeyRingTest, KeysAreFoundAfterwardsButNeverKept) {
  KeyRing keys = *KeyRing::open(file_);
  EXPECT_TRUE(keys.entries().empty());
  const std::string kitchen =
      *keys.add("kitchen", {.models = {"tiny"}, .requests_per_minute = 5, .class_max = "batch"});
  const std::string ops = *keys.add("ops", {.admin = true});
  EXPECT_EQ(keys.add("ops", {}).error().code, Code::kInvalidArgument) << "the name is taken";

  const KeyRing read = *KeyRing::open(file_);
  ASSERT_NE(read.find(kitchen), nullptr);
  EXPECT_EQ(read.find(kitchen)->rights.models, std::vector<std::string>{"tiny"});
  EXPECT_EQ(read.find(kitchen)->rights.class_max, "batch");
  EXPECT_TRUE(read.find(ops)->rights.admin);
  for (const std::string& wrong : {std::string(), std::string("x"), ops.substr(1), ops + "0", read.find(ops)->sha256})
    EXPECT_EQ(read.find(wrong), nullptr) << wrong;

  EXPECT_FALSE(read_file(file_, 1 << 20)->contains(ops.substr(10))) << "only digests are on disk";
  struct stat status{};
  ASSERT_EQ(::stat(file_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);

  EXPECT_TRUE(keys.revoke("ops"));
  EXPECT_EQ(KeyRing::open(file_)->find(ops), nullptr);
  EXPECT_EQ(keys.revoke("ops").error().code, Code::kNotFound);
}

TEST_F(KeyRingTest, NamesAndFilesOfAnotherFormAreRefused) {
  KeyRing keys = *KeyRing::open(file_);
  for (const char* name : {"", "a b", "a/b", "a\n", "\xc3\xa9"}) EXPECT_FALSE(keys.add(name, {})) << name;
  EXPECT_FALSE(keys.add("x", {.class_max = "best"}));
  EXPECT_FALSE(keys.add("x", {.concurrent = -1}));

  const std::string digest(64, 'a');
  std::filesystem::create_directories(file_.parent_path());
  for (const std::string& text :
       {std::string("x"), std::string("[]"), std::string(R"({"keys":{}})"), std::string(R"({"keys":[{"name":"a"}]})"),
        R"({"keys":[{"name":"a","sha256":")" + digest + R"(","admin":"no"}]})",
        R"({"keys":[{"name":"a","sha256":")" + digest + R"(","models":"tiny"}]})",
        R"({"keys":[{"name":"a","sha256":")" + digest + R"(","concurrent":1.5}]})"}) {
    std::ofstream(file_) << text;
    EXPECT_FALSE(KeyRing::open(file_)) << text;
  }
}

}  // namespace
}  // namespace hearth
