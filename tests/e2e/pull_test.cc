// hearth pull, list, show and rm against servers and files of every kind. A pull ends in the right file or in a clear
// error.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "store/sha256.h"
#include "support/fault_server.h"
#include "support/program.h"
#include "support/small_gguf.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;
using test::Connection;
using test::FaultServer;
using test::FileFaults;
using test::HttpRequest;
using test::Program;
using test::ProgramResult;
using test::serve_file;

std::string digest_of(std::string_view text) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(text)));
  return sha.hex();
}

class PullTest : public testing::Test {
 protected:
  [[nodiscard]] std::vector<std::string> command(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{HEARTH_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  [[nodiscard]] test::Environment environment() const {
    return {{"HEARTH_HOME", home_.path().string()},
            {"HF_TOKEN", ""},
            {"HF_ENDPOINT", ""},
            {"http_proxy", ""},
            {"no_proxy", "*"}};
  }
  [[nodiscard]] ProgramResult hearth(const std::vector<std::string>& arguments) const {
    return test::run_program(command(arguments), environment());
  }
  [[nodiscard]] std::string stored(const std::string& model, const std::string& file) const {
    return test::read_whole(home_.path().string() + "/models/" + model + "/" + file);
  }
  // True if no model is in the store: what a failed pull has to leave.
  [[nodiscard]] bool store_empty() const { return fs::is_empty(home_.path().string() + "/models"); }

  TestFolder home_;
  std::string content_ = test::small_gguf("pulled", 100'000);
};

TEST_F(PullTest, AUrlBecomesAModelThatIsListedShownAndRemoved) {
  const FaultServer server(
      [&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, {}); });
  const ProgramResult pulled =
      hearth({"pull", server.url("/path/My_Model.Q4_0.gguf?key=secret"), "--sha256", digest_of(content_)});
  ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
  EXPECT_EQ(pulled.out, "");
  EXPECT_EQ(stored("my_model.q4_0", "My_Model.Q4_0.gguf"), content_);
  EXPECT_NE(hearth({"list"}).out.find("my_model.q4_0"), std::string::npos);
  const ProgramResult shown = hearth({"show", "my_model.q4_0", "--json"});
  EXPECT_NE(shown.out.find(digest_of(content_)), std::string::npos);
  EXPECT_EQ(shown.out.find("secret"), std::string::npos);
  EXPECT_EQ(hearth({"pull", server.url("/path/My_Model.Q4_0.gguf")}).exit_code, 0);  // there already
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(hearth({"rm", "my_model.q4_0"}).exit_code, 0);
  EXPECT_TRUE(store_empty());
}

TEST_F(PullTest, AWrongDigestOrNoModelNeverEntersTheStore) {
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    if (asked.path == "/page.gguf") return to.reply(200, "<html>Please log in</html>");
    if (asked.path == "/empty.gguf") return to.reply(200, "");
    serve_file(asked, to, content_, {});
  });
  const ProgramResult wrong = hearth({"pull", server.url("/m.gguf"), "--sha256", std::string(64, 'a')});
  EXPECT_EQ(wrong.exit_code, 65);
  EXPECT_NE(wrong.err.find("SHA-256"), std::string::npos) << wrong.err;
  EXPECT_EQ(hearth({"pull", server.url("/page.gguf")}).exit_code, 65);
  EXPECT_EQ(hearth({"pull", server.url("/empty.gguf")}).exit_code, 65);
  EXPECT_EQ(hearth({"pull", server.url("/m.gguf"), "--sha256", "12"}).exit_code, 2);
  EXPECT_EQ(hearth({"pull", server.url("/m.gguf"), "--max-bytes", "1000"}).exit_code, 75);
  EXPECT_TRUE(store_empty());
}

TEST_F(PullTest, ACutBodyWithoutLengthOrDigestIsSeen) {
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    faults.no_length = true;
    if (asked.path == "/cut.gguf") faults.cut_after = 200'000;
    serve_file(asked, to, content_, faults);
  });
  const ProgramResult cut = hearth({"pull", server.url("/cut.gguf")});
  EXPECT_EQ(cut.exit_code, 65);
  EXPECT_NE(cut.err.find("not a whole GGUF file"), std::string::npos) << cut.err;
  EXPECT_TRUE(store_empty());
  EXPECT_EQ(hearth({"pull", server.url("/whole.gguf")}).exit_code, 0);
}

TEST_F(PullTest, ADamagedPartOfAnEarlierPullIsFetchedAgain) {
  const FaultServer server(
      [&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, {}); });
  const std::string folder = home_.path().string() + "/partial/m";
  fs::create_directories(folder);
  test::write_whole(folder + "/m.gguf.part", "GGUF" + std::string(100'000, 'x'));
  test::write_whole(folder + "/m.gguf.part.state",
                    R"({"url":")" + server.url("/m.gguf") + R"(","etag":"\"v1\"","last_modified":""})");
  const ProgramResult pulled = hearth({"pull", server.url("/m.gguf"), "--sha256", digest_of(content_)});
  ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
  EXPECT_EQ(stored("m", "m.gguf"), content_);
}

TEST_F(PullTest, KilledInTheMiddleItContinuesWhereItWas) {
  std::atomic<bool> held = true;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    if (held) {
      faults.cut_after = 250'000;
      faults.stall = true;
    }
    serve_file(asked, to, content_, faults);
  });
  const std::string part = home_.path().string() + "/partial/m/m.gguf.part";
  {
    Program first(command({"pull", server.url("/m.gguf")}), environment());
    std::error_code error;
    while (!fs::exists(part, error) || fs::file_size(part, error) < 250'000) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    first.signal(SIGKILL);
    EXPECT_EQ(first.wait().exit_code, 128 + SIGKILL);
  }
  EXPECT_TRUE(store_empty());
  held = false;
  const ProgramResult second = hearth({"pull", server.url("/m.gguf")});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(stored("m", "m.gguf"), content_);
  EXPECT_EQ(server.requests().back().range(), 250'000u);
}

TEST_F(PullTest, CtrlCStopsInGoodOrder) {
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    faults.cut_after = 1000;
    faults.stall = true;
    serve_file(asked, to, content_, faults);
  });
  Program pull(command({"pull", server.url("/m.gguf")}), environment());
  while (server.requests().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  pull.signal(SIGINT);
  const ProgramResult stopped = pull.wait();
  EXPECT_EQ(stopped.exit_code, 130);
  EXPECT_NE(stopped.err.find("the same command continues"), std::string::npos) << stopped.err;
}

TEST_F(PullTest, TwoPullsOfOneModelFetchItOnce) {
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    serve_file(asked, to, content_, {});
  });
  Program first(command({"pull", server.url("/m.gguf")}), environment());
  Program second(command({"pull", server.url("/m.gguf")}), environment());
  EXPECT_EQ(first.wait().exit_code, 0);
  EXPECT_EQ(second.wait().exit_code, 0);
  EXPECT_EQ(stored("m", "m.gguf"), content_);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(PullTest, H8_NamesFromOutsideCannotLeaveTheStore) {
  const FaultServer server(
      [&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, {}); });
  for (const char* name : {"../x", "a/../../x", "/tmp/x", ".x", "a b", "tiny"}) {
    EXPECT_EQ(hearth({"pull", server.url("/m.gguf"), "--name", name}).exit_code, 2) << name;
  }
  for (const char* path : {"/%2e%2e%2fpasswd", "/a%00.gguf", "/.bashrc", "/manifest.json", "/"}) {
    EXPECT_EQ(hearth({"pull", server.url(path), "--name", "m"}).exit_code, 2) << path;
  }
  EXPECT_TRUE(server.requests().empty());
  EXPECT_TRUE(store_empty());
}

TEST_F(PullTest, AnotherModelOfTheSameNameIsNotReplaced) {
  const FaultServer server(
      [&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, {}); });
  ASSERT_EQ(hearth({"pull", server.url("/a.gguf"), "--name", "m"}).exit_code, 0);
  const ProgramResult again = hearth({"pull", server.url("/b.gguf"), "--name", "m"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("hearth rm m"), std::string::npos) << again.err;
}

TEST_F(PullTest, LocalFilesAndFoldersComeIn) {
  const TestFolder from;
  test::write_whole(from.path().string() + "/x.gguf", content_);
  EXPECT_EQ(hearth({"pull", "file://" + from.path().string() + "/x.gguf", "--name", "copied", "--sha256",
                    digest_of(content_)})
                .exit_code,
            0);
  EXPECT_EQ(stored("copied", "x.gguf"), content_);
  EXPECT_EQ(hearth({"pull", from.path().string() + "/x.gguf", "--name", "linked", "--link"}).exit_code, 0);
  EXPECT_EQ(fs::hard_link_count(from.path().string() + "/x.gguf"), 2u);
  EXPECT_EQ(hearth({"pull", from.path().string() + "/absent.gguf"}).exit_code, 66);
  EXPECT_EQ(
      hearth({"pull", from.path().string() + "/x.gguf", "--name", "other", "--sha256", std::string(64, '0')}).exit_code,
      65);
  fs::create_directories(from.path().string() + "/folder");
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors", "notes.txt"}) {
    test::write_whole(from.path().string() + "/folder/" + file, file);
  }
  EXPECT_EQ(hearth({"pull", from.path().string() + "/folder"}).exit_code, 0);
  EXPECT_EQ(stored("folder", "model.safetensors"), "model.safetensors");
  EXPECT_FALSE(fs::exists(home_.path().string() + "/models/folder/notes.txt"));
}

TEST_F(PullTest, AFullDiskIsSaidClearlyAndThePartIsKept) {
  for (const bool length_known : {true, false}) {
    const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
      FileFaults faults;
      faults.no_length = !length_known;
      serve_file(asked, to, test::small_gguf("large", 750'000), faults);
    });
    const std::string disk = home_.path().string() + "/disk";
    fs::create_directories(disk);
    // A disk of 1 MB of its own, gone with the process.
    const std::string script = "mount -t tmpfs -o size=1m none " + disk + " || exit 99; HEARTH_HOME=" + disk +
                               " " HEARTH_PROGRAM " pull " + server.url("/m.gguf") + "; code=$?; stat -c %s " + disk +
                               "/partial/m/m.gguf.part; exit $code";
    const ProgramResult full = test::run_program({"unshare", "-rm", "sh", "-c", script}, environment());
    if (full.exit_code != 74 && full.err.find("hearth:") == std::string::npos)
      GTEST_SKIP() << "no mount namespace here: " << full.err;
    EXPECT_EQ(full.exit_code, 74) << full.err;
    EXPECT_NE(full.err.find("free some space or set HEARTH_HOME"), std::string::npos) << full.err;
    if (!length_known) {
      EXPECT_GT(std::atoll(full.out.c_str()), 500'000);
    }
  }
}

}  // namespace
}  // namespace hearth
