// Certificates of a server.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

struct ssl_ctx_st;

namespace hearth {

// What a TLS server shows and demands: TLS 1.2 or newer, no renegotiation, no compression. Immutable; any thread.
class TlsContext {
 public:
  // kNotFound, kMalformed or kInvalidArgument (key and certificate do not belong together) naming the file.
  static Result<std::shared_ptr<TlsContext>> load(const std::filesystem::path& certificate_pem,
                                                  const std::filesystem::path& key_pem);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  [[nodiscard]] ssl_ctx_st* handle() const { return handle_; }
  // SHA-256 of the certificate: "AB:CD:...", for people to compare.
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }

 private:
  TlsContext() = default;
  ssl_ctx_st* handle_ = nullptr;
  std::string fingerprint_;
};

// Makes a key (P-256) and a certificate signed with it, valid for ten years for these names and addresses. Both files are
// written with mode 0600 and appear whole or not at all.
Result<void> write_self_signed(const std::filesystem::path& certificate_pem, const std::filesystem::path& key_pem,
                               const std::vector<std::string>& hosts);

}  // namespace hearth
