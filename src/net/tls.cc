#include "net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mapped_file.h"

namespace hearth {
namespace {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
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

bool add_extension(X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

Certificate make_certificate(EVP_PKEY* key, const std::vector<std::string>& hosts) {
  Certificate certificate(X509_new());
  uint64_t serial = 0;
  if (!certificate || RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) != 1) return nullptr;
  X509* made = certificate.get();
  const bool done = X509_set_version(made, 2) == 1 &&
                    ASN1_INTEGER_set_uint64(X509_get_serialNumber(made), serial >> 1) == 1 &&
                    X509_gmtime_adj(X509_getm_notBefore(made), -3600) &&
                    X509_time_adj_ex(X509_getm_notAfter(made), 3650, 0, nullptr) &&
                    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC,
                                               reinterpret_cast<const unsigned char*>("hearth"), -1, -1, 0) == 1 &&
                    X509_set_issuer_name(made, X509_get_subject_name(made)) == 1 && X509_set_pubkey(made, key) == 1 &&
                    add_extension(made, NID_subject_alt_name, alternative_names(hosts)) &&
                    add_extension(made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    add_extension(made, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
                    add_extension(made, NID_ext_key_usage, "serverAuth") && X509_sign(made, key, EVP_sha256()) > 0;
  return done ? std::move(certificate) : nullptr;
}

Result<void> write_private(const std::filesystem::path& path, BIO* text) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(text, &bytes);
  return write_file_atomically(path, std::as_bytes(std::span(bytes, static_cast<size_t>(size))), 0600);
}

}  // namespace

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
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = key ? make_certificate(key.get(), hosts) : nullptr;
  const Bio key_text(BIO_new(BIO_s_mem())), certificate_text(BIO_new(BIO_s_mem()));
  if (!certificate || !key_text || !certificate_text ||
      PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509(certificate_text.get(), certificate.get()) != 1)
    return fail(Code::kInternal, "making a certificate: {}", reason());
  TRY(write_private(key_pem, key_text.get()));
  return write_private(certificate_pem, certificate_text.get());
}

}  // namespace hearth
