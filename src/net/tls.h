// Certificates: of a server, and of the machines of a site, which believe each other by one authority.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"

struct ssl_ctx_st;

namespace hearth {

// What a TLS server shows and demands: TLS 1.2 or newer, no renegotiation, no compression. Immutable; any thread.
class TlsContext {
 public:
  // kNotFound, kMalformed or kInvalidArgument (key and certificate do not belong together) naming the file.
  static Result<std::shared_ptr<TlsContext>> load(const std::filesystem::path& certificate_pem,
                                                  const std::filesystem::path& key_pem);
  // As a machine of a site does: both sides show certificates of its authority.
  static std::shared_ptr<TlsContext> of(const class SiteTls& site);
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

// A site's authority: a key (P-256) and its own certificate. Both files have mode 0600 and appear whole or not at all.
Result<void> write_authority(const std::filesystem::path& certificate_pem, const std::filesystem::path& key_pem,
                             const std::string& name);
// A machine's new key, and what it asks the authority to sign.
struct CertificateRequest {
  std::string key_pem, request_pem;
};
Result<CertificateRequest> make_request(const std::string& name);
// The certificate for a request, which is not trusted: its key has to have signed it; of the rest only the name is taken over.
// `hosts`: names and addresses it is to be believed under by who does not know the site.
Result<std::string> sign_request(const std::filesystem::path& authority_pem, const std::filesystem::path& authority_key,
                                 std::string_view request_pem, const std::vector<std::string>& hosts = {});
// What the authority takes back: a list of certificates' serial numbers (hex), signed, with a number that only grows.
Result<std::string> sign_revoked(const std::filesystem::path& authority_pem, const std::filesystem::path& authority_key,
                                 const std::vector<std::string>& serials, uint64_t number);
// Hex, of the first certificate of a text; and the name in it.
struct CertificateName {
  std::string name, serial;
};
Result<CertificateName> certificate_name(std::string_view certificate_pem);
// SHA-256 of the first certificate of a file, 64 digits of lower-case hex.
Result<std::string> certificate_digest(const std::filesystem::path& certificate_pem);

// The newest list of revoked certificates a machine knows. Any thread.
class Revoked {
 public:
  // False for a list that is not newer. kMalformed, kCorrupt: it is none, or not the authority's.
  Result<bool> take(const std::filesystem::path& authority_pem, std::string_view list_pem);
  [[nodiscard]] bool has(const std::string& serial) const;
  [[nodiscard]] uint64_t number() const { return number_; }  // 0: none yet
  [[nodiscard]] std::vector<std::string> serials() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> serials_;
  std::atomic<uint64_t> number_{0};
};

// What a machine of a site shows and demands, whichever side dials: TLS 1.3. Any thread.
class SiteTls {
 public:
  // Another way to a machine that is not to be reached directly: a socket to what listens at that address.
  using Detour = std::function<Result<Descriptor>(const std::string& address, std::chrono::milliseconds patience)>;
  // Both sides show certificates of the authority.
  static Result<std::shared_ptr<SiteTls>> member(const std::filesystem::path& authority_pem,
                                                 const std::filesystem::path& certificate_pem,
                                                 const std::filesystem::path& key_pem);
  // For a machine that is not yet one: the server shows its certificate and the authority's, and demands none.
  static Result<std::shared_ptr<SiteTls>> host(const std::filesystem::path& authority_pem,
                                               const std::filesystem::path& certificate_pem,
                                               const std::filesystem::path& key_pem);
  // The client shows none, and believes the authority whose certificate has this digest.
  static Result<std::shared_ptr<SiteTls>> guest(std::string authority_digest);
  ~SiteTls();
  SiteTls(const SiteTls&) = delete;
  SiteTls& operator=(const SiteTls&) = delete;
  [[nodiscard]] ssl_ctx_st* handle() const { return handle_; }
  [[nodiscard]] const std::string& authority_digest() const { return authority_digest_; }
  // Connections look at it as long as they are.
  [[nodiscard]] const std::shared_ptr<Revoked>& revoked() const { return revoked_; }
  // Null: there is none. The earlier one does not run any more when this returns.
  void set_detour(Detour detour);
  [[nodiscard]] bool has_detour() const;
  // kIo, also if there is none.
  Result<Descriptor> detour(const std::string& address, std::chrono::milliseconds patience) const;

 private:
  SiteTls() = default;
  std::shared_ptr<Revoked> revoked_ = std::make_shared<Revoked>();
  ssl_ctx_st* handle_ = nullptr;
  std::string authority_digest_;
  mutable std::shared_mutex detour_mutex_;
  Detour detour_;
};

}  // namespace hearth
