// What TLS is for: a server that cannot prove who it is gets nothing, and https never becomes http.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "net/http_transfer.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;

// A key and a certificate signed by it, for the address 127.0.0.1 and nothing else.
struct Identity {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();

  Identity() {
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME* name = X509_get_subject_name(certificate);
    const unsigned char text[] = "test";
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_EXTENSION* address = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
    X509_add_ext(certificate, address, -1);
    X509_EXTENSION_free(address);
    X509_sign(certificate, key, EVP_sha256());
  }
  ~Identity() {
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

  void write_certificate(const fs::path& path) const {
    std::FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
  }
};

// Answers every request with the same bytes, one connection after the other.
class TlsServer {
 public:
  explicit TlsServer(std::string answer) : answer_(std::move(answer)) {
    SSL_CTX_use_certificate(context_, identity_.certificate);
    SSL_CTX_use_PrivateKey(context_, identity_.key);
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 8);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] { run(); });
  }
  ~TlsServer() {
    stop_ = true;
    thread_.join();
    ::close(listener_);
    SSL_CTX_free(context_);
  }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  [[nodiscard]] Url url(const std::string& host = "127.0.0.1") const {
    return *parse_url(fmt::format("https://{}:{}/x", host, port_));
  }
  [[nodiscard]] const Identity& identity() const { return identity_; }
  [[nodiscard]] std::string received() const {
    const std::lock_guard lock(mutex_);
    return received_;
  }

 private:
  void run() {
    while (!stop_) {
      pollfd one{listener_, POLLIN, 0};
      if (::poll(&one, 1, 20) <= 0) continue;
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const timeval patience{5, 0};
      ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      serve(fd);
      ::close(fd);
    }
  }
  void serve(int fd) {
    SSL* tls = SSL_new(context_);
    SSL_set_fd(tls, fd);
    char buffer[4096];
    if (SSL_accept(tls) == 1) {
      const int count = SSL_read(tls, buffer, sizeof buffer);
      {
        const std::lock_guard lock(mutex_);
        if (count > 0) received_.append(buffer, static_cast<size_t>(count));
      }
      SSL_write(tls, answer_.data(), static_cast<int>(answer_.size()));
      SSL_shutdown(tls);
    }
    SSL_free(tls);
  }

  std::string answer_, received_;
  Identity identity_;
  SSL_CTX* context_ = SSL_CTX_new(TLS_server_method());
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::jthread thread_;
};

class HttpsTest : public testing::Test {
 protected:
  HttpsTest() {
    std::signal(SIGPIPE, SIG_IGN);  // for the server's thread
    std::string form = (fs::temp_directory_path() / "hearth-https-XXXXXX").string();
    root_ = ::mkdtemp(form.data());
  }
  ~HttpsTest() override { fs::remove_all(root_); }

  // Options that trust this server and send a token.
  [[nodiscard]] HttpOptions trusting(const TlsServer& server) const {
    server.identity().write_certificate(root_ / "ca.pem");
    HttpOptions options;
    options.ca_file = root_ / "ca.pem";
    options.bearer_token = "secret";
    return options;
  }
  fs::path root_;
};

constexpr const char* kHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

TEST_F(HttpsTest, ACertificateOfOnesOwnIsTrustedAndGetsTheToken) {
  const TlsServer server(kHello);
  const auto text = http_get_text(server.url(), trusting(server), 100);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "hello");
  EXPECT_NE(server.received().find("Authorization: Bearer secret"), std::string::npos);
}

TEST_F(HttpsTest, AnUnknownCertificateIsRefusedBeforeAnythingIsSaid) {
  const TlsServer server(kHello);
  HttpOptions options;
  options.bearer_token = "secret";
  const auto text = http_get_text(server.url(), options, 100);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("SSL_CERT_FILE"), std::string::npos) << text.error().message;
  EXPECT_EQ(server.received(), "");
}

TEST_F(HttpsTest, ACertificateForAnotherNameIsRefused) {
  const TlsServer server(kHello);
  EXPECT_FALSE(http_get_text(server.url("localhost"), trusting(server), 100));
  EXPECT_EQ(server.received(), "");
}

TEST_F(HttpsTest, H9_HttpsIsNeverLeftForHttp) {
  const TlsServer server(
      "HTTP/1.1 302 -\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  const auto text = http_get_text(server.url(), trusting(server), 100);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("unencrypted"), std::string::npos) << text.error().message;
}

}  // namespace
}  // namespace hearth
