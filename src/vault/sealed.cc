#include "vault/sealed.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace hearth {
namespace {

constexpr std::string_view kMagic = "HSEAL001";
constexpr size_t kSaltBytes = 32, kPrefixBytes = 7, kTagBytes = 16, kSegmentBytes = 1u << 20;
constexpr size_t kHeaderBytes = kMagic.size() + kSaltBytes + kPrefixBytes;
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
using Nonce = std::array<unsigned char, 12>;

unsigned char* raw(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }
const unsigned char* raw(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }

Nonce nonce_of(std::span<const std::byte> prefix, uint32_t segment, bool last) {
  Nonce nonce;
  std::memcpy(nonce.data(), prefix.data(), kPrefixBytes);
  for (size_t i = 0; i < 4; ++i) nonce[kPrefixBytes + i] = static_cast<unsigned char>(segment >> (24 - 8 * i));
  nonce.back() = last ? 1 : 0;
  return nonce;
}

}  // namespace

std::vector<std::byte> seal(const Key& key, std::string_view purpose, std::span<const std::byte> plain) {
  const size_t n_segments = std::max<size_t>(1, (plain.size() + kSegmentBytes - 1) / kSegmentBytes);
  std::vector<std::byte> out(kHeaderBytes + plain.size() + n_segments * kTagBytes);
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  fill_random(std::span(out).subspan(kMagic.size(), kSaltBytes + kPrefixBytes));
  const auto salt = std::span(out).subspan(kMagic.size(), kSaltBytes);
  const auto prefix = std::span(out).subspan(kMagic.size() + kSaltBytes, kPrefixBytes);
  const Key own = key.derive(purpose, salt);
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  CHECK(cipher);
  std::byte* to = out.data() + kHeaderBytes;
  for (size_t segment = 0; segment < n_segments; ++segment) {
    const auto part =
        plain.subspan(segment * kSegmentBytes, std::min(kSegmentBytes, plain.size() - segment * kSegmentBytes));
    const Nonce nonce = nonce_of(prefix, static_cast<uint32_t>(segment), segment + 1 == n_segments);
    int written = 0, rest = 0;
    CHECK(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(own.bytes().data()), nonce.data()) == 1 &&
          EVP_EncryptUpdate(cipher.get(), raw(to), &written, raw(part.data()), static_cast<int>(part.size())) == 1 &&
          EVP_EncryptFinal_ex(cipher.get(), raw(to) + written, &rest) == 1);
    to += part.size();
    CHECK(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, to) == 1);
    to += kTagBytes;
  }
  return out;
}

Result<std::vector<std::byte>> unseal(const Key& key, std::string_view purpose, std::span<const std::byte> sealed) {
  if (sealed.size() < kHeaderBytes + kTagBytes || std::memcmp(sealed.data(), kMagic.data(), kMagic.size()) != 0)
    return fail(Code::kMalformed, "{} bytes that are no sealed text", sealed.size());
  const Key own = key.derive(purpose, sealed.subspan(kMagic.size(), kSaltBytes));
  const auto prefix = sealed.subspan(kMagic.size() + kSaltBytes, kPrefixBytes);
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  CHECK(cipher);
  std::vector<std::byte> out;
  out.reserve(sealed.size() - kHeaderBytes);
  auto rest = sealed.subspan(kHeaderBytes);
  for (uint32_t segment = 0; !rest.empty(); ++segment) {
    const auto part = rest.first(std::min(rest.size(), kSegmentBytes + kTagBytes));
    rest = rest.subspan(part.size());
    if (part.size() < kTagBytes)
      return fail(Code::kCorrupt, "sealed text: segment {} has {} bytes", segment, part.size());
    const auto cipher_text = part.first(part.size() - kTagBytes);
    const Nonce nonce = nonce_of(prefix, segment, rest.empty());
    std::array<std::byte, kTagBytes> tag;
    std::memcpy(tag.data(), part.data() + cipher_text.size(), kTagBytes);
    const size_t at = out.size();
    out.resize(at + cipher_text.size());
    int written = 0, more = 0;
    const bool whole =
        EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(own.bytes().data()), nonce.data()) == 1 &&
        EVP_DecryptUpdate(cipher.get(), raw(out.data() + at), &written, raw(cipher_text.data()),
                          static_cast<int>(cipher_text.size())) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
        EVP_DecryptFinal_ex(cipher.get(), raw(out.data() + at) + written, &more) == 1;
    if (!whole)
      return fail(Code::kCorrupt, "sealed text: segment {} is damaged, or of another key or purpose", segment);
  }
  return out;
}

}  // namespace hearth
