#include "net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/freed.h"
#include "base/limits.h"
#include "base/mapped_file.h"

namespace hearth {
namespace {

using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Request = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;

// The reason OpenSSL gives last; its queue of errors is emptied.
std::string reason() {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  const char* text = ERR_reason_error_string(error);
  return text ? text : "unknown reason";
}

std::string fingerprint_of(SSL_CTX* context) {
  unsigned char digest[32];
  unsigned int bytes = 0;
  std::string text;
  if (X509_digest(SSL_CTX_get0_certificate(context), EVP_sha256(), digest, &bytes) != 1) return text;
  for (unsigned int i = 0; i < bytes; ++i) text += fmt::format("{}{:02X}", i ? ":" : "", digest[i]);
  return text;
}

// Alternative names, as "IP:10.0.0.1,DNS:box".
std::string alternative_names(const std::vector<std::string>& hosts) {
  std::string names;
  for (const std::string& host : hosts) {
    in6_addr address;
    const bool number =
        ::inet_pton(AF_INET, host.c_str(), &address) == 1 || ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
    // Whatever else a name holds would be read as a further entry.
    if (host.empty() || host.find_first_of(", \n;") != std::string::npos) continue;
    names += fmt::format("{}{}:{}", names.empty() ? "" : ",", number ? "IP" : "DNS", host);
  }
  return names;
}

bool add_extension(X509* issuer, X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Valid for ten years from an hour ago; still to be named and signed.
Certificate begin_certificate(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  uint64_t serial = 0;
  if (!certificate || RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) != 1) return nullptr;
  X509* made = certificate.get();
  const bool done = X509_set_version(made, 2) == 1 &&
                    ASN1_INTEGER_set_uint64(X509_get_serialNumber(made), serial >> 1) == 1 &&
                    X509_gmtime_adj(X509_getm_notBefore(made), -3600) &&
                    X509_time_adj_ex(X509_getm_notAfter(made), 3650, 0, nullptr) && X509_set_pubkey(made, key) == 1;
  return done ? std::move(certificate) : nullptr;
}

bool set_name(X509_NAME* subject, const std::string& name) {
  return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.c_str()),
                                    -1, -1, 0) == 1;
}

// Signed by its own key; `names`: alternative ones, may be empty.
Certificate make_own_certificate(EVP_PKEY* key, const std::string& name, const std::string& names) {
  Certificate certificate = begin_certificate(key);
  X509* made = certificate.get();
  const bool done = made && set_name(X509_get_subject_name(made), name) &&
                    X509_set_issuer_name(made, X509_get_subject_name(made)) == 1 &&
                    (names.empty() || add_extension(made, made, NID_subject_alt_name, names)) &&
                    add_extension(made, made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    add_extension(made, made, NID_key_usage, "critical,digitalSignature,keyCertSign,cRLSign") &&
                    (names.empty() || add_extension(made, made, NID_ext_key_usage, "serverAuth")) &&
                    X509_sign(made, key, EVP_sha256()) > 0;
  return done ? std::move(certificate) : nullptr;
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<size_t>(size)};
}

Result<void> write_private(const std::filesystem::path& path, std::string_view text) {
  return write_file_atomically(path, std::as_bytes(std::span(text)), 0600);
}

// A certificate signed by its own key, and that key, into two files.
Result<void> write_own(const std::filesystem::path& certificate_pem, const std::filesystem::path& key_pem,
                       const std::string& name, const std::string& names) {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = key ? make_own_certificate(key.get(), name, names) : nullptr;
  const Bio key_text(BIO_new(BIO_s_mem())), certificate_text(BIO_new(BIO_s_mem()));
  if (!certificate || !key_text || !certificate_text ||
      PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509(certificate_text.get(), certificate.get()) != 1)
    return fail(Code::kInternal, "making a certificate: {}", reason());
  TRY(write_private(key_pem, text_of(key_text.get())));
  return write_private(certificate_pem, text_of(certificate_text.get()));
}

Result<std::string> read_pem(const std::filesystem::path& path) { return read_file(path, limits::kPemBytes); }

Bio view(std::string_view text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

Result<Certificate> read_certificate(const std::filesystem::path& path) {
  const std::string text = TRY(read_pem(path));
  const Bio bio = view(text);
  Certificate certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!certificate) return fail(Code::kMalformed, "{}: no certificate in PEM form: {}", path.string(), reason());
  return certificate;
}

Result<Key> read_key(const std::filesystem::path& path) {
  const std::string text = TRY(read_pem(path));
  const Bio bio = view(text);
  Key key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!key) return fail(Code::kMalformed, "{}: no private key in PEM form: {}", path.string(), reason());
  return key;
}

std::string digest_of(const X509* certificate) {
  unsigned char digest[32];
  unsigned int bytes = 0;
  std::string text;
  if (X509_digest(certificate, EVP_sha256(), digest, &bytes) != 1) return text;
  for (unsigned int i = 0; i < bytes; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

// The whole of a guest's trust: the leaf is signed by the authority it was told of.
int believe_authority(X509_STORE_CTX* chain, void* digest) {
  X509* leaf = X509_STORE_CTX_get0_cert(chain);
  STACK_OF(X509)* others = X509_STORE_CTX_get0_untrusted(chain);
  for (int i = 0; leaf && i < sk_X509_num(others); ++i) {
    X509* other = sk_X509_value(others, i);
    if (digest_of(other) == *static_cast<const std::string*>(digest) &&
        X509_verify(leaf, X509_get0_pubkey(other)) == 1 && X509_cmp_current_time(X509_get0_notAfter(leaf)) > 0)
      return 1;
  }
  X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_UNTRUSTED);
  return 0;
}

SSL_CTX* new_site_context() {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  if (!context) return nullptr;
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_num_tickets(context, 0);  // connections stay; there is nothing to go on from
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

}  // namespace

std::shared_ptr<TlsContext> TlsContext::of(const SiteTls& site) {
  std::shared_ptr<TlsContext> tls(new TlsContext);
  tls->handle_ = site.handle();
  SSL_CTX_up_ref(tls->handle_);
  return tls;
}

TlsContext::~TlsContext() { SSL_CTX_free(handle_); }

Result<std::shared_ptr<TlsContext>> TlsContext::load(const std::filesystem::path& certificate_pem,
                                                     const std::filesystem::path& key_pem) {
  std::error_code error;
  for (const auto& path : {certificate_pem, key_pem}) {
    if (!std::filesystem::exists(path, error)) return fail(Code::kNotFound, "{}: no such file", path.string());
  }
  std::shared_ptr<TlsContext> tls(new TlsContext);
  tls->handle_ = SSL_CTX_new(TLS_server_method());
  SSL_CTX* context = tls->handle_;
  if (!context) return fail(Code::kInternal, "TLS: {}", reason());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);  // an idle connection keeps no 32 KiB
  if (SSL_CTX_use_certificate_chain_file(context, certificate_pem.c_str()) != 1)
    return fail(Code::kMalformed, "{}: no certificate in PEM form: {}", certificate_pem.string(), reason());
  if (SSL_CTX_use_PrivateKey_file(context, key_pem.c_str(), SSL_FILETYPE_PEM) != 1)
    return fail(Code::kMalformed, "{}: no private key for {}: {}", key_pem.string(), certificate_pem.string(),
                reason());
  if (SSL_CTX_check_private_key(context) != 1)
    return fail(Code::kInvalidArgument, "{} does not belong to {}", key_pem.string(), certificate_pem.string());
  tls->fingerprint_ = fingerprint_of(context);
  return tls;
}

Result<void> write_self_signed(const std::filesystem::path& certificate_pem, const std::filesystem::path& key_pem,
                               const std::vector<std::string>& hosts) {
  return write_own(certificate_pem, key_pem, "hearth", alternative_names(hosts));
}

Result<void> write_authority(const std::filesystem::path& certificate_pem, const std::filesystem::path& key_pem,
                             const std::string& name) {
  return write_own(certificate_pem, key_pem, name, "");
}

Result<CertificateRequest> make_request(const std::string& name) {
  const Key key(EVP_EC_gen("P-256"));
  const Request request(X509_REQ_new());
  const Bio key_text(BIO_new(BIO_s_mem())), request_text(BIO_new(BIO_s_mem()));
  if (!key || !request || !key_text || !request_text || !set_name(X509_REQ_get_subject_name(request.get()), name) ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) <= 0 ||
      PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509_REQ(request_text.get(), request.get()) != 1)
    return fail(Code::kInternal, "a request for a certificate named {}: {}", name, reason());
  return CertificateRequest{text_of(key_text.get()), text_of(request_text.get())};
}

Result<std::string> sign_request(const std::filesystem::path& authority_pem, const std::filesystem::path& authority_key,
                                 std::string_view request_pem, const std::vector<std::string>& hosts) {
  const Certificate authority = TRY(read_certificate(authority_pem));
  const Key signer = TRY(read_key(authority_key));
  const Bio bio = request_pem.size() <= limits::kPemBytes ? view(request_pem) : nullptr;
  const Request request(bio ? PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  EVP_PKEY* key = request ? X509_REQ_get0_pubkey(request.get()) : nullptr;
  if (!key || X509_REQ_verify(request.get(), key) != 1)
    return fail(Code::kMalformed, "a request for a certificate that its own key did not sign");
  const Certificate certificate = begin_certificate(key);
  X509* made = certificate.get();
  const Bio out(BIO_new(BIO_s_mem()));
  const bool done =
      made && out && X509_set_subject_name(made, X509_REQ_get_subject_name(request.get())) == 1 &&
      X509_set_issuer_name(made, X509_get_subject_name(authority.get())) == 1 &&
      add_extension(authority.get(), made, NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(authority.get(), made, NID_key_usage, "critical,digitalSignature") &&
      add_extension(authority.get(), made, NID_ext_key_usage, "serverAuth,clientAuth") &&
      (hosts.empty() || add_extension(authority.get(), made, NID_subject_alt_name, alternative_names(hosts))) &&
      X509_sign(made, signer.get(), EVP_sha256()) > 0 && PEM_write_bio_X509(out.get(), made) == 1;
  if (!done) return fail(Code::kInternal, "signing a certificate: {}", reason());
  return text_of(out.get());
}

Result<std::string> certificate_digest(const std::filesystem::path& certificate_pem) {
  const Certificate certificate = TRY(read_certificate(certificate_pem));
  return digest_of(certificate.get());
}

SiteTls::~SiteTls() { SSL_CTX_free(handle_); }

void SiteTls::set_detour(Detour detour) {
  const std::scoped_lock lock(detour_mutex_);
  detour_ = std::move(detour);
}

bool SiteTls::has_detour() const {
  const std::shared_lock lock(detour_mutex_);
  return detour_ != nullptr;
}

Result<Descriptor> SiteTls::detour(const std::string& address, std::chrono::milliseconds patience) const {
  const std::shared_lock lock(detour_mutex_);
  if (!detour_) return fail(Code::kIo, "{}: there is no other way", address);
  return detour_(address, patience);
}

Result<std::shared_ptr<SiteTls>> SiteTls::host(const std::filesystem::path& authority_pem,
                                               const std::filesystem::path& certificate_pem,
                                               const std::filesystem::path& key_pem) {
  std::shared_ptr<SiteTls> tls(new SiteTls);
  tls->authority_digest_ = TRY(certificate_digest(authority_pem));
  Certificate authority = TRY(read_certificate(authority_pem));
  tls->handle_ = new_site_context();
  SSL_CTX* context = tls->handle_;
  if (!context || SSL_CTX_use_certificate_chain_file(context, certificate_pem.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, key_pem.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1 || SSL_CTX_add1_chain_cert(context, authority.get()) != 1)
    return fail(Code::kInvalidArgument, "{} and {}: no certificate with its key: {}", certificate_pem.string(),
                key_pem.string(), reason());
  return tls;
}

Result<std::shared_ptr<SiteTls>> SiteTls::member(const std::filesystem::path& authority_pem,
                                                 const std::filesystem::path& certificate_pem,
                                                 const std::filesystem::path& key_pem) {
  std::shared_ptr<SiteTls> tls = TRY(host(authority_pem, certificate_pem, key_pem));
  SSL_CTX_set_verify(tls->handle_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  if (SSL_CTX_load_verify_file(tls->handle_, authority_pem.c_str()) != 1)
    return fail(Code::kMalformed, "{}: no certificate in PEM form: {}", authority_pem.string(), reason());
  return tls;
}

Result<std::shared_ptr<SiteTls>> SiteTls::guest(std::string authority_digest) {
  std::shared_ptr<SiteTls> tls(new SiteTls);
  tls->authority_digest_ = std::move(authority_digest);
  tls->handle_ = new_site_context();
  if (!tls->handle_) return fail(Code::kInternal, "TLS: {}", reason());
  SSL_CTX_set_verify(tls->handle_, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(tls->handle_, believe_authority, &tls->authority_digest_);
  return tls;
}

}  // namespace hearth
