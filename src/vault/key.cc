#include "vault/key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/mapped_file.h"

namespace hearth {
namespace {

const unsigned char* raw(const void* data) { return static_cast<const unsigned char*>(data); }

}  // namespace

void fill_random(std::span<std::byte> out) {
  CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) == 1);
}

Key::~Key() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Result<Key> Key::from_bytes(std::span<const std::byte> bytes) {
  if (bytes.size() != kBytes) return fail(Code::kMalformed, "a key has {} bytes, this one {}", kBytes, bytes.size());
  Key key;
  std::memcpy(key.bytes_.data(), bytes.data(), kBytes);
  return key;
}

Result<Key> Key::load_or_create(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    Key key;
    fill_random(key.bytes_);
    TRY(write_file_atomically(path, key.bytes_, 0600));
    return key;
  }
  if ((status.st_mode & 077) != 0)
    return fail(Code::kInvalidArgument, "{}: others may read this key (mode {:o}); chmod 600 it", path.string(),
                status.st_mode & 0777);
  const std::string text = TRY(read_file(path, kBytes));
  auto key = from_bytes(std::as_bytes(std::span(text)));
  if (!key) return within(path.string(), key.error());
  return key;
}

std::string Key::name_of(std::string_view text) const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  CHECK(HMAC(EVP_sha256(), bytes_.data(), kBytes, raw(text.data()), text.size(), digest.data(), &size) != nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

Key Key::derive(std::string_view purpose, std::span<const std::byte> salt) const {
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr),
                                                                            EVP_PKEY_CTX_free);
  Key key;
  size_t size = kBytes;
  CHECK(context && EVP_PKEY_derive_init(context.get()) > 0 &&
        EVP_PKEY_CTX_set_hkdf_md(context.get(), EVP_sha256()) > 0 &&
        EVP_PKEY_CTX_set1_hkdf_salt(context.get(), raw(salt.data()), static_cast<int>(salt.size())) > 0 &&
        EVP_PKEY_CTX_set1_hkdf_key(context.get(), raw(bytes_.data()), kBytes) > 0 &&
        EVP_PKEY_CTX_add1_hkdf_info(context.get(), raw(purpose.data()), static_cast<int>(purpose.size())) > 0 &&
        EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(key.bytes_.data()), &size) > 0);
  return key;
}

}  // namespace hearth
