// hearth pull from a model hub: a listing server and, behind a redirect, a second one with the files.
#include <gtest/gtest.h>

#include <filesystem>

#include "store/sha256.h"
#include "support/fault_server.h"
#include "support/notify_socket.h"
#include "support/program.h"
#include "support/raw_client.h"
#include "support/small_gguf.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;
using test::Connection;
using test::FaultServer;
using test::HttpRequest;
using test::ProgramResult;
using test::serve_file;
using test::small_gguf;

std::string digest_of(std::string_view text) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(text)));
  return sha.hex();
}

class HubTest : public testing::Test {
 protected:
  [[nodiscard]] ProgramResult hearth(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{HEARTH_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return test::run_program(all, environment());
  }
  [[nodiscard]] test::Environment environment() const {
    return {{"HEARTH_HOME", home_.path().string()},
            {"HF_TOKEN", "secret"},
            {"HF_ENDPOINT", hub_.url("")},
            {"http_proxy", ""},
            {"no_proxy", "*"}};
  }

  void answer_hub(const HttpRequest& asked, const Connection& to) const {
    if (asked.path.starts_with("/api/models/owner/Model-GGUF/")) return to.reply(200, listing_);
    const std::string prefix = "/owner/Model-GGUF/resolve/c0ffee/";
    if (!asked.path.starts_with(prefix)) return to.reply(404, "");
    to.reply(302, "", "Location: " + files_.url("/" + asked.path.substr(prefix.size()) + "?signature=x") + "\r\n");
  }

  void answer_files(const HttpRequest& asked, const Connection& to) const {
    for (const auto& [path, content] : contents_) {
      if (asked.path == "/" + path + "?signature=x") return serve_file(asked, to, content, {});
    }
    to.reply(404, "");
  }

  void offer(const std::string& path, const std::string& content, const std::string& digest, bool lfs = true) {
    contents_[path] = content;
    entries_ +=
        fmt::format("{}{{\"rfilename\":\"{}\",\"size\":{}{}}}", entries_.empty() ? "" : ",", path, content.size(),
                    lfs ? fmt::format(",\"lfs\":{{\"sha256\":\"{}\",\"size\":{}}}", digest, content.size()) : "");
    listing_ = R"({"sha":"c0ffee","siblings":[)" + entries_ + "]}";
  }
  void offer(const std::string& path, const std::string& content) { offer(path, content, digest_of(content)); }

  [[nodiscard]] std::string stored(const std::string& path) const {
    return test::read_whole(home_.path().string() + "/models/" + path);
  }

  TestFolder home_;
  std::map<std::string, std::string> contents_;
  std::string entries_, listing_ = "{}";
  FaultServer files_{[this](const HttpRequest& asked, const Connection& to) { answer_files(asked, to); }};
  FaultServer hub_{[this](const HttpRequest& asked, const Connection& to) { answer_hub(asked, to); }};
};

TEST_F(HubTest, TakesTheBestQuantAndKeepsTheTokenAtTheHub) {
  offer("m-Q8_0.gguf", small_gguf("q8"));
  offer("m-Q4_K_M.gguf", small_gguf("q4"));
  const ProgramResult pulled = hearth({"pull", "owner/Model-GGUF"});
  ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
  EXPECT_EQ(stored("owner@model-gguf/m-Q4_K_M.gguf"), small_gguf("q4"));
  for (const HttpRequest& asked : hub_.requests()) EXPECT_EQ(asked.header("authorization"), "Bearer secret");
  for (const HttpRequest& asked : files_.requests()) EXPECT_FALSE(asked.headers.contains("authorization"));
  EXPECT_EQ(hearth({"pull", "hf.co/owner/Model-GGUF:q8_0"}).exit_code, 0);
  EXPECT_EQ(stored("owner@model-gguf:q8_0/m-Q8_0.gguf"), small_gguf("q8"));
  EXPECT_NE(hearth({"list"}).out.find("owner/model-gguf:q8_0"), std::string::npos);
}

TEST_F(HubTest, ClientsOfTheServerFetchModelsOfTheHubAndNothingElse) {
  offer("m-Q4_K_M.gguf", small_gguf("q4"));
  test::NotifySocket notified;
  test::Environment with_socket = environment();
  with_socket.emplace("NOTIFY_SOCKET", notified.path());
  const std::string door = home_.path() / "door";
  const test::Program server({HEARTH_PROGRAM, "serve", "--listen", "unix:" + door}, with_socket);
  ASSERT_EQ(notified.next(), "READY=1") << server.err();
  const auto pull = [&](const std::string& body) {
    test::RawClient client(door);
    client.send(
        fmt::format("POST /api/pull HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                    body.size(), body));
    return client.read_until("");
  };
  const std::string pulled = pull(R"({"model":"owner/Model-GGUF"})");
  EXPECT_TRUE(pulled.contains(R"("digest":"sha256:)" + digest_of(small_gguf("q4")))) << pulled;
  EXPECT_TRUE(pulled.contains(R"({"status":"success"})")) << pulled;
  EXPECT_EQ(stored("owner@model-gguf/m-Q4_K_M.gguf"), small_gguf("q4"));
  EXPECT_TRUE(pull(R"({"model":"owner/Model-GGUF","stream":false})").ends_with("{\"status\":\"success\"}"));
  EXPECT_TRUE(pull(R"({"model":"owner/absent"})").contains("\"error\""));
  for (const std::string& elsewhere : {hub_.url("/x.gguf"), std::string("/etc/passwd"), "file://" + door}) {
    const std::string refused = pull(R"({"stream":false,"model":")" + elsewhere + "\"}");
    EXPECT_EQ(test::status_of(refused), 400) << elsewhere << refused;
  }
}

TEST_F(HubTest, ASplitModelAndASafetensorsFolderComeWhole) {
  offer("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", small_gguf("one"));
  offer("Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", small_gguf("two"));
  offer("tensors/readme.md", "x", "", false);
  ASSERT_EQ(hearth({"pull", "owner/Model-GGUF", "--name", "split"}).exit_code, 0);
  EXPECT_EQ(stored("split/m-Q4_K_M-00002-of-00002.gguf"), small_gguf("two"));
  entries_.clear();
  offer("config.json", "{}", "", false);
  offer("tokenizer.json", "{ }", "", false);
  offer("model.safetensors", "weights");
  ASSERT_EQ(hearth({"pull", "owner/Model-GGUF", "--name", "folder"}).exit_code, 0);
  EXPECT_EQ(stored("folder/model.safetensors"), "weights");
  EXPECT_EQ(stored("folder/config.json"), "{}");
}

TEST_F(HubTest, AFileThatIsNotWhatTheListingPromisesIsRefused) {
  offer("m-Q4_K_M.gguf", small_gguf("forged"), digest_of(small_gguf("honest")));
  const ProgramResult forged = hearth({"pull", "owner/Model-GGUF"});
  EXPECT_EQ(forged.exit_code, 65);
  EXPECT_NE(forged.err.find("SHA-256"), std::string::npos) << forged.err;
  EXPECT_TRUE(fs::is_empty(home_.path().string() + "/models"));
}

TEST_F(HubTest, ErrorsNameWhatIsThere) {
  offer("m-Q8_0.gguf", small_gguf("q8"));
  const ProgramResult none = hearth({"pull", "owner/Model-GGUF:Q2_K"});
  EXPECT_EQ(none.exit_code, 66);
  EXPECT_NE(none.err.find("m-Q8_0"), std::string::npos) << none.err;
  EXPECT_EQ(hearth({"pull", "owner/absent"}).exit_code, 66);
  EXPECT_EQ(hearth({"pull", "no such thing"}).exit_code, 2);
  listing_ = "<html>";
  EXPECT_EQ(hearth({"pull", "owner/Model-GGUF"}).exit_code, 65);
}

TEST_F(HubTest, AListingThatPointsOutsideIsRefused) {
  listing_ = R"({"sha":"c0ffee","siblings":[{"rfilename":"../../../etc/cron.d/x.gguf","size":1}]})";
  EXPECT_EQ(hearth({"pull", "owner/Model-GGUF"}).exit_code, 65);
  listing_ = R"({"sha":"../../x","siblings":[]})";
  EXPECT_EQ(hearth({"pull", "owner/Model-GGUF"}).exit_code, 65);
}

}  // namespace
}  // namespace hearth
