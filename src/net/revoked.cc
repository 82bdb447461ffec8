// Certificates that are taken back: a list in the form of RFC 5280 (a CRL), signed by the site's authority.
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "base/freed.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "net/tls.h"

namespace hearth {
namespace {

using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using List = std::unique_ptr<X509_CRL, Freed<X509_CRL_free>>;
using Integer = std::unique_ptr<ASN1_INTEGER, Freed<ASN1_INTEGER_free>>;
using Big = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using Time = std::unique_ptr<ASN1_TIME, Freed<ASN1_TIME_free>>;
using Entry = std::unique_ptr<X509_REVOKED, Freed<X509_REVOKED_free>>;

Bio view(std::string_view text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

Certificate parse_certificate(std::string_view text) {
  const Bio bio = view(text);
  return Certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr);
}

std::string hex_of(const ASN1_INTEGER* number) {
  const Big big(ASN1_INTEGER_to_BN(number, nullptr));
  char* text = big ? BN_bn2hex(big.get()) : nullptr;
  std::string hex = text ? text : "";
  OPENSSL_free(text);
  return hex;
}

Integer from_hex(const std::string& hex) {
  BIGNUM* big = nullptr;
  const int digits = BN_hex2bn(&big, hex.c_str());
  const Big owned(big);
  return Integer(digits > 0 ? BN_to_ASN1_INTEGER(big, nullptr) : nullptr);
}

bool add_entry(X509_CRL* list, const std::string& serial, ASN1_TIME* now) {
  Entry entry(X509_REVOKED_new());
  const Integer number = from_hex(serial);
  if (!entry || !number || X509_REVOKED_set_serialNumber(entry.get(), number.get()) != 1 ||
      X509_REVOKED_set_revocationDate(entry.get(), now) != 1 || X509_CRL_add0_revoked(list, entry.get()) != 1)
    return false;
  (void)entry.release();  // the list has it
  return true;
}

}  // namespace

Result<CertificateName> certificate_name(std::string_view certificate_pem) {
  const Certificate certificate = parse_certificate(certificate_pem);
  if (!certificate) return fail(Code::kMalformed, "no certificate in PEM form");
  char name[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof name);
  return CertificateName{.name = name, .serial = hex_of(X509_get0_serialNumber(certificate.get()))};
}

Result<std::string> sign_revoked(const std::filesystem::path& authority_pem, const std::filesystem::path& authority_key,
                                 const std::vector<std::string>& serials, uint64_t number) {
  const std::string certificate_text = TRY(read_file(authority_pem, limits::kPemBytes));
  const std::string key_text = TRY(read_file(authority_key, limits::kPemBytes));
  const Certificate authority = parse_certificate(certificate_text);
  const Bio key_bio = view(key_text), out(BIO_new(BIO_s_mem()));
  const Key key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  const List list(X509_CRL_new());
  const Time now(X509_gmtime_adj(nullptr, 0)), later(X509_time_adj_ex(nullptr, 3650, 0, nullptr));
  const Integer count(ASN1_INTEGER_new());
  bool done = authority && key && list && now && later && count && out && X509_CRL_set_version(list.get(), 1) == 1 &&
              X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority.get())) == 1 &&
              X509_CRL_set1_lastUpdate(list.get(), now.get()) == 1 &&
              X509_CRL_set1_nextUpdate(list.get(), later.get()) == 1 &&
              ASN1_INTEGER_set_uint64(count.get(), number) == 1 &&
              X509_CRL_add1_ext_i2d(list.get(), NID_crl_number, count.get(), 0, 0) == 1;
  for (const std::string& serial : serials) done = done && add_entry(list.get(), serial, now.get());
  done = done && X509_CRL_sort(list.get()) == 1 && X509_CRL_sign(list.get(), key.get(), EVP_sha256()) > 0 &&
         PEM_write_bio_X509_CRL(out.get(), list.get()) == 1;
  if (!done) {
    ERR_clear_error();
    return fail(Code::kInternal, "signing a list of {} revoked certificates failed", serials.size());
  }
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out.get(), &bytes);
  return std::string(bytes, static_cast<size_t>(size));
}

Result<bool> Revoked::take(const std::filesystem::path& authority_pem, std::string_view list_pem) {
  if (list_pem.size() > limits::kPemBytes)
    return fail(Code::kLimit, "a list of revoked certificates of {} bytes; at most {}", list_pem.size(),
                limits::kPemBytes);
  const std::string certificate_text = TRY(read_file(authority_pem, limits::kPemBytes));
  const Certificate authority = parse_certificate(certificate_text);
  const Bio bio = view(list_pem);
  const List list(bio ? PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  ERR_clear_error();
  if (!authority || !list) return fail(Code::kMalformed, "no list of revoked certificates in PEM form");
  const bool ours = X509_CRL_verify(list.get(), X509_get0_pubkey(authority.get())) == 1;
  ERR_clear_error();
  if (!ours) return fail(Code::kCorrupt, "a list of revoked certificates that the site's authority did not sign");
  const Integer count(static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(list.get(), NID_crl_number, nullptr, nullptr)));
  uint64_t number = 0;
  if (!count || ASN1_INTEGER_get_uint64(&number, count.get()) != 1)
    return fail(Code::kMalformed, "a list of revoked certificates without a number");
  const std::scoped_lock lock(mutex_);
  if (number <= number_) return false;
  serials_.clear();
  const STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(list.get());
  for (int i = 0; i < sk_X509_REVOKED_num(entries); ++i)
    serials_.push_back(hex_of(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, i))));
  number_ = number;
  return true;
}

bool Revoked::has(const std::string& serial) const {
  const std::scoped_lock lock(mutex_);
  return std::ranges::find(serials_, serial) != serials_.end();
}

std::vector<std::string> Revoked::serials() const {
  const std::scoped_lock lock(mutex_);
  return serials_;
}

}  // namespace hearth
