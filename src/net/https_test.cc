// The two ends of TLS: what this client believes, on connections to this server.
#include <gtest/gtest.h>

#include <mutex>

#include "net/http_server.h"
#include "net/http_transfer.h"
#include "support/raw_client.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

class HttpsTest : public testing::Test {
 protected:
  HttpsTest() {
    EXPECT_TRUE(write_self_signed(certificate(), folder_.path() / "key.pem", {"127.0.0.1"}));
    start({});
  }
  void start(HttpServerOptions options) {
    options.listen = {{*parse_listen_address("127.0.0.1:0"), true}};
    options.tls = TlsContext::load(certificate(), folder_.path() / "key.pem").value();
    server_ = HttpServer::start(std::move(options), [this](const std::shared_ptr<HttpExchange>& exchange) {
                const std::scoped_lock lock(mutex_);
                received_ += exchange->request().header("authorization");
                EXPECT_TRUE(exchange->request().tls);
                if (exchange->request().path == "/away")
                  return exchange->reply(302, "", "", {{"Location", "http://127.0.0.1:1/x"}});
                exchange->reply(200, "text/plain", "hello");
              }).value();
  }
  [[nodiscard]] std::string certificate() const { return folder_.path() / "certificate.pem"; }
  [[nodiscard]] Url url(std::string_view host = "127.0.0.1", std::string_view path = "x") const {
    return *parse_url(fmt::format("https://{}:{}/{}", host, server_->ports()[0], path));
  }
  // Options that send a token and trust this server, or do not.
  [[nodiscard]] HttpOptions options(bool trusting = true) const {
    HttpOptions options;
    if (trusting) options.ca_file = certificate();
    options.bearer_token = "secret";
    return options;
  }
  std::string received() {
    const std::scoped_lock lock(mutex_);
    return received_;
  }

  TestFolder folder_;
  std::mutex mutex_;
  std::string received_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpsTest, ACertificateOfOnesOwnIsTrustedAndGetsTheToken) {
  const auto text = http_get_text(url(), options(), 100);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "hello");
  EXPECT_EQ(received(), "Bearer secret");
}

TEST_F(HttpsTest, AnUnknownCertificateIsRefusedBeforeAnythingIsSaid) {
  const auto text = http_get_text(url(), options(false), 100);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("SSL_CERT_FILE"), std::string::npos) << text.error().message;
  EXPECT_EQ(received(), "");
}

TEST_F(HttpsTest, ACertificateForAnotherNameIsRefused) {
  EXPECT_FALSE(http_get_text(url("localhost"), options(), 100));
  EXPECT_EQ(received(), "");
}

TEST_F(HttpsTest, H9_HttpsIsNeverLeftForHttp) {
  const auto text = http_get_text(url("127.0.0.1", "away"), options(), 100);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("unencrypted"), std::string::npos) << text.error().message;
}

TEST_F(HttpsTest, ANewCertificateHoldsForTheNextConnection) {
  const HttpOptions before = options();
  const std::string other = folder_.path() / "other.pem", key = folder_.path() / "other_key.pem";
  ASSERT_TRUE(write_self_signed(other, key, {"127.0.0.1"}));
  server_->set_tls(TlsContext::load(other, key).value());
  EXPECT_FALSE(http_get_text(url(), before, 100));
  HttpOptions after = before;
  after.ca_file = other;
  EXPECT_TRUE(http_get_text(url(), after, 100));
}

TEST_F(HttpsTest, WhoNeverShakesHandsOrSpeaksPlainlyIsSentAway) {
  HttpServerOptions short_of_time;
  short_of_time.head_time = std::chrono::milliseconds(500);
  start(std::move(short_of_time));
  test::RawClient silent(server_->ports()[0]), plain(server_->ports()[0]);
  plain.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_EQ(plain.read_until("").find("HTTP/1.1"), std::string::npos);
  EXPECT_TRUE(silent.closed());
  while (!http_get_text(url(), options(), 100)) {  // others are still served; a busy machine may need more than one try
  }
}

}  // namespace
}  // namespace hearth
