#include "net/http_download.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <set>

#include "base/mapped_file.h"
#include "support/fault_server.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;
using test::Connection;
using test::FaultServer;
using test::FileFaults;
using test::HttpRequest;
using test::serve_file;

class DownloadTest : public testing::Test {
 protected:
  [[nodiscard]] DownloadRequest request(const std::string& url) const {
    DownloadRequest request;
    request.url = *parse_url(url);
    request.part = root_ / "file.part";
    request.first_pause = std::chrono::milliseconds(1);
    request.http.stall_seconds_max = 1;
    return request;
  }
  [[nodiscard]] std::string part() const { return read_file(root_ / "file.part", 1 << 30).value_or("no part"); }

  // Downloads from a server with the same faults on every request.
  Result<uint64_t> download_with(const FileFaults& faults, std::optional<uint64_t> bytes = {}) {
    const FaultServer server(
        [&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, faults); });
    DownloadRequest wanted = request(server.url("/m.gguf"));
    wanted.bytes = bytes;
    return download(wanted);
  }

  std::string content_ = test::noise(300'000, 1);
  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(DownloadTest, AGoodServerGivesTheFile) {
  ASSERT_EQ(download_with({}).value(), content_.size());
  EXPECT_EQ(part(), content_);
}

TEST_F(DownloadTest, ConnectionsCutAtRandomPointsStillGiveTheFile) {
  std::mt19937 random(7);
  std::atomic<int> answers = 0;
  std::vector<uint64_t> cuts(40);
  for (uint64_t& cut : cuts) cut = random() % 60'000;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    const auto answer = static_cast<size_t>(answers++);
    if (answer < cuts.size()) faults.cut_after = cuts[answer];
    serve_file(asked, to, content_, faults);
  });
  const auto bytes = download(request(server.url("/m.gguf")));
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_EQ(part(), content_);
  // It went on where it stopped: only the first request asked for the whole file.
  const auto requests = server.requests();
  EXPECT_GT(requests.size(), 3u);
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_EQ(requests[i].header("if-range"), "\"v1\"");
}

TEST_F(DownloadTest, AStalledConnectionIsTakenUpAgain) {
  std::atomic<int> answers = 0;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    faults.stall = answers++ == 0;
    if (faults.stall) faults.cut_after = 100'000;
    serve_file(asked, to, content_, faults);
  });
  ASSERT_TRUE(download(request(server.url("/m.gguf"))));
  EXPECT_EQ(part(), content_);
}

TEST_F(DownloadTest, LC12207_AServerThatIgnoresRangeStartsAgainAtTheFirstByte) {
  std::atomic<int> answers = 0;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    faults.ignore_range = true;
    if (answers++ < 2) faults.cut_after = 120'000;
    serve_file(asked, to, content_, faults);
  });
  ASSERT_TRUE(download(request(server.url("/m.gguf"))));
  EXPECT_EQ(part(), content_);
}

TEST_F(DownloadTest, AFileThatChangesBetweenAttemptsIsNeverMixed) {
  const std::string other = test::noise(content_.size(), 2);
  for (const bool ignore_if_range : {false, true}) {
    std::atomic<int> answers = 0;
    const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
      FileFaults faults;
      const bool first = answers++ == 0;
      if (first) faults.cut_after = 100'000;
      if (!first) faults.etag = "\"v2\"";
      faults.ignore_if_range = ignore_if_range;
      serve_file(asked, to, first ? content_ : other, faults);
    });
    ASSERT_TRUE(download(request(server.url(ignore_if_range ? "/a" : "/b"))));
    EXPECT_EQ(part(), other);
  }
}

TEST_F(DownloadTest, ARestThatBeginsElsewhereIsNotAppended) {
  std::atomic<int> answers = 0;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    faults.range_lie = -5;
    if (answers++ == 0) faults.cut_after = 100'000;
    serve_file(asked, to, content_, faults);
  });
  ASSERT_TRUE(download(request(server.url("/m.gguf"))));
  EXPECT_EQ(part(), content_);
}

TEST_F(DownloadTest, LiesAboutTheLengthAreSeen) {
  FileFaults more, less;
  more.length_lie = 1000;
  less.length_lie = -1000;
  EXPECT_EQ(download_with(more).error().code, Code::kIo);
  fs::remove_all(root_ / "file.part");
  EXPECT_EQ(download_with(more, content_.size()).error().code, Code::kCorrupt);
  EXPECT_EQ(download_with(less, content_.size()).error().code, Code::kCorrupt);
}

TEST_F(DownloadTest, WithoutALengthTheExpectedSizeDecides) {
  FileFaults faults;
  faults.no_length = true;
  EXPECT_EQ(download_with(faults, content_.size()).value(), content_.size());
  EXPECT_EQ(part(), content_);
  EXPECT_EQ(download_with(faults, content_.size() - 1).error().code, Code::kLimit);
}

TEST_F(DownloadTest, EndlessDataIsCutOff) {
  const FaultServer server([&](const HttpRequest&, const Connection& to) {
    to.head(200, "");
    while (to.send(content_)) {
    }
  });
  DownloadRequest wanted = request(server.url("/m.gguf"));
  wanted.bytes_max = 1'000'000;
  EXPECT_EQ(download(wanted).error().code, Code::kLimit);
  EXPECT_LE(fs::file_size(wanted.part), wanted.bytes_max);
}

TEST_F(DownloadTest, EndlessHeadersAreCutOff) {
  const FaultServer server([&](const HttpRequest&, const Connection& to) {
    to.send("HTTP/1.1 200 -\r\n");
    while (to.send("X-Padding: " + std::string(1000, 'x') + "\r\n")) {
    }
  });
  EXPECT_EQ(download(request(server.url("/m.gguf"))).error().code, Code::kLimit);
}

TEST_F(DownloadTest, StatusesBecomeClearErrors) {
  for (const auto& [status, code] : {std::pair{404, Code::kNotFound},
                                     {401, Code::kInvalidArgument},
                                     {403, Code::kInvalidArgument},
                                     {500, Code::kIo},
                                     {400, Code::kIo}}) {
    const FaultServer server([&](const HttpRequest&, const Connection& to) { to.reply(status, "<html>no</html>"); });
    const auto result = download(request(server.url("/m.gguf")));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code) << result.error().message;
    EXPECT_NE(result.error().message.find(std::to_string(status)), std::string::npos) << result.error().message;
    EXPECT_EQ(server.requests().size(), status == 500 ? 6u : 1u);
  }
}

TEST_F(DownloadTest, ABusyServerIsAskedAgain) {
  std::atomic<int> answers = 0;
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    if (answers++ < 3) return to.reply(503, "later");
    serve_file(asked, to, content_, {});
  });
  ASSERT_TRUE(download(request(server.url("/m.gguf"))));
  EXPECT_EQ(part(), content_);
}

TEST_F(DownloadTest, RedirectLoopsEnd) {
  const FaultServer server(
      [&](const HttpRequest&, const Connection& to) { to.reply(302, "", "Location: /again\r\n"); });
  const auto result = download(request(server.url("/m.gguf")));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("redirects"), std::string::npos) << result.error().message;
  EXPECT_EQ(server.requests().size(), 11u);
}

TEST_F(DownloadTest, H9_ATokenStaysWithItsHost) {
  const FaultServer other([&](const HttpRequest& asked, const Connection& to) { serve_file(asked, to, content_, {}); });
  const FaultServer first([&](const HttpRequest& asked, const Connection& to) {
    const std::string to_self = "Location: /second\r\n", away = "Location: " + other.url("/file") + "\r\n";
    to.reply(302, "", asked.path == "/m.gguf" ? to_self : away);
  });
  DownloadRequest wanted = request(first.url("/m.gguf"));
  wanted.http.bearer_token = "secret";
  ASSERT_TRUE(download(wanted));
  EXPECT_EQ(part(), content_);
  for (const HttpRequest& asked : first.requests()) EXPECT_EQ(asked.header("authorization"), "Bearer secret");
  ASSERT_EQ(other.requests().size(), 1u);
  EXPECT_FALSE(other.requests()[0].headers.contains("authorization"));
}

TEST_F(DownloadTest, H9_ATokenIsNotSentInTheClearOrWithALineBreak) {
  DownloadRequest wanted = request("http://hub.invalid/m.gguf");
  wanted.http.bearer_token = "secret";
  EXPECT_EQ(download(wanted).error().code, Code::kInvalidArgument);
  wanted = request("http://127.0.0.1:1/m.gguf");
  wanted.http.bearer_token = "a\r\nX-Evil: 1";
  EXPECT_EQ(download(wanted).error().code, Code::kInvalidArgument);
}

TEST_F(DownloadTest, RedirectsToOtherSchemesAreRefused) {
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/x"}) {
    const FaultServer server(
        [&](const HttpRequest&, const Connection& to) { to.reply(302, "", fmt::format("Location: {}\r\n", target)); });
    EXPECT_FALSE(download(request(server.url("/m.gguf")))) << target;
  }
  EXPECT_EQ(part(), "");
}

TEST_F(DownloadTest, AnEncodingNobodyAskedForIsRefused) {
  const FaultServer server(
      [&](const HttpRequest&, const Connection& to) { to.reply(200, "zzzz", "Content-Encoding: gzip\r\n"); });
  EXPECT_EQ(download(request(server.url("/m.gguf"))).error().code, Code::kUnsupported);
}

TEST_F(DownloadTest, AnotherUrlDoesNotContinueThisPart) {
  const std::string other = test::noise(content_.size(), 2);
  const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
    FileFaults faults;
    if (asked.path == "/a") faults.cut_after = 100'000;
    serve_file(asked, to, asked.path == "/a" ? content_ : other, faults);
  });
  DownloadRequest wanted = request(server.url("/a"));
  wanted.attempts_without_progress_max = 1;
  wanted.bytes_max = 400'000;
  std::atomic<bool> cancel = false;
  wanted.http.cancel = &cancel;
  wanted.retrying = [&](const std::string&) { cancel = true; };
  EXPECT_EQ(download(wanted).error().code, Code::kCancelled);
  EXPECT_GT(part().size(), 0u);
  ASSERT_TRUE(download(request(server.url("/b"))));
  EXPECT_EQ(part(), other);
}

TEST_F(DownloadTest, WithoutAnETagOnlyADigestAllowsResuming) {
  for (const bool digest_follows : {false, true}) {
    std::atomic<int> answers = 0;
    const FaultServer server([&](const HttpRequest& asked, const Connection& to) {
      FileFaults faults;
      faults.etag.clear();
      if (answers++ == 0) faults.cut_after = 100'000;
      serve_file(asked, to, content_, faults);
    });
    DownloadRequest wanted = request(server.url(digest_follows ? "/a" : "/b"));
    wanted.digest_follows = digest_follows;
    ASSERT_TRUE(download(wanted));
    EXPECT_EQ(part(), content_);
    EXPECT_EQ(server.requests()[1].range().has_value(), digest_follows);
  }
}

TEST_F(DownloadTest, ALinkInPlaceOfThePartIsNotWrittenThrough) {
  std::ofstream(root_ / "precious") << "precious";
  fs::create_symlink(root_ / "precious", root_ / "file.part");
  EXPECT_FALSE(download_with({}));
  EXPECT_EQ(*read_file(root_ / "precious", 100), "precious");
}

TEST_F(DownloadTest, TextIsBoundedAndTriedAgain) {
  std::atomic<int> answers = 0;
  const FaultServer server([&](const HttpRequest&, const Connection& to) {
    if (answers++ == 0) return to.reply(500, "");
    to.reply(200, "[]");
  });
  EXPECT_EQ(http_get_text(*parse_url(server.url("/")), {}, 100).value(), "[]");
  EXPECT_EQ(http_get_text(*parse_url(server.url("/")), {}, 1).error().code, Code::kLimit);
}

}  // namespace
}  // namespace hearth
