#include "vault/sealed.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace hearth {
namespace {

constexpr std::string_view kMagic = "HSEAL001";
constexpr size_t kSaltBytes = 32, kPrefixBytes = 7, kSegmentBytes = 1u << 20;
static_assert(Sealer::kHeaderBytes == kMagic.size() + kSaltBytes + kPrefixBytes);
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
using Nonce = std::array<unsigned char, 12>;

unsigned char* raw(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }
const unsigned char* raw(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }

Nonce nonce_of(std::span<const std::byte> header, uint32_t segment, bool last) {
  Nonce nonce;
  std::memcpy(nonce.data(), header.last(kPrefixBytes).data(), kPrefixBytes);
  for (size_t i = 0; i < 4; ++i) nonce[kPrefixBytes + i] = static_cast<unsigned char>(segment >> (24 - 8 * i));
  nonce.back() = last ? 1 : 0;
  return nonce;
}

std::array<std::byte, Sealer::kHeaderBytes> new_header() {
  std::array<std::byte, Sealer::kHeaderBytes> header;
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  fill_random(std::span(header).subspan(kMagic.size()));
  return header;
}

Cipher new_cipher() {
  Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  CHECK(cipher);
  return cipher;
}

}  // namespace

Sealer::Sealer(const Key& key, std::string_view purpose) : Sealer(key, purpose, new_header()) {}

Sealer::Sealer(const Key& key, std::string_view purpose, const Header& header)
    : header_(header), own_(key.derive(purpose, std::span(header).subspan(kMagic.size(), kSaltBytes))) {}

Result<Sealer> Sealer::open(const Key& key, std::string_view purpose, std::span<const std::byte> header) {
  if (header.size() != kHeaderBytes || std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0)
    return fail(Code::kMalformed, "{} bytes that begin no sealed text", header.size());
  Header own;
  std::ranges::copy(header, own.begin());
  return Sealer(key, purpose, own);
}

void Sealer::seal(uint32_t segment, bool last, std::span<const std::byte> plain, std::span<std::byte> out) const {
  CHECK(out.size() == plain.size() + kTagBytes);
  const Cipher cipher = new_cipher();
  const Nonce nonce = nonce_of(header_, segment, last);
  int written = 0, rest = 0;
  CHECK(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(own_.bytes().data()), nonce.data()) == 1 &&
        EVP_EncryptUpdate(cipher.get(), raw(out.data()), &written, raw(plain.data()), static_cast<int>(plain.size())) ==
            1 &&
        EVP_EncryptFinal_ex(cipher.get(), raw(out.data()) + written, &rest) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, out.last(kTagBytes).data()) == 1);
}

Result<void> Sealer::unseal(uint32_t segment, bool last, std::span<const std::byte> sealed,
                            std::span<std::byte> out) const {
  if (sealed.size() < kTagBytes)
    return fail(Code::kCorrupt, "sealed text: segment {} has {} bytes", segment, sealed.size());
  const auto cipher_text = sealed.first(sealed.size() - kTagBytes);
  CHECK(out.size() == cipher_text.size());
  const Cipher cipher = new_cipher();
  const Nonce nonce = nonce_of(header_, segment, last);
  std::array<std::byte, kTagBytes> tag;
  std::ranges::copy(sealed.last(kTagBytes), tag.begin());
  int written = 0, more = 0;
  const bool whole =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, raw(own_.bytes().data()), nonce.data()) == 1 &&
      EVP_DecryptUpdate(cipher.get(), raw(out.data()), &written, raw(cipher_text.data()),
                        static_cast<int>(cipher_text.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), raw(out.data()) + written, &more) == 1;
  if (!whole) return fail(Code::kCorrupt, "sealed text: segment {} is damaged, or of another key or purpose", segment);
  return {};
}

std::vector<std::byte> seal(const Key& key, std::string_view purpose, std::span<const std::byte> plain) {
  const size_t n_segments = std::max<size_t>(1, (plain.size() + kSegmentBytes - 1) / kSegmentBytes);
  std::vector<std::byte> out(Sealer::kHeaderBytes + plain.size() + n_segments * Sealer::kTagBytes);
  const Sealer sealer(key, purpose);
  std::ranges::copy(sealer.header(), out.begin());
  auto to = std::span(out).subspan(Sealer::kHeaderBytes);
  for (size_t segment = 0; segment < n_segments; ++segment) {
    const auto part =
        plain.subspan(segment * kSegmentBytes, std::min(kSegmentBytes, plain.size() - segment * kSegmentBytes));
    sealer.seal(static_cast<uint32_t>(segment), segment + 1 == n_segments, part,
                to.first(part.size() + Sealer::kTagBytes));
    to = to.subspan(part.size() + Sealer::kTagBytes);
  }
  return out;
}

Result<std::vector<std::byte>> unseal(const Key& key, std::string_view purpose, std::span<const std::byte> sealed) {
  if (sealed.size() < Sealer::kHeaderBytes + Sealer::kTagBytes)
    return fail(Code::kMalformed, "{} bytes that are no sealed text", sealed.size());
  const Sealer sealer = TRY(Sealer::open(key, purpose, sealed.first(Sealer::kHeaderBytes)));
  std::vector<std::byte> out;
  out.reserve(sealed.size() - Sealer::kHeaderBytes);
  auto rest = sealed.subspan(Sealer::kHeaderBytes);
  for (uint32_t segment = 0; !rest.empty(); ++segment) {
    const auto part = rest.first(std::min(rest.size(), kSegmentBytes + Sealer::kTagBytes));
    rest = rest.subspan(part.size());
    const size_t at = out.size();
    out.resize(at + part.size() - std::min(part.size(), Sealer::kTagBytes));
    TRY(sealer.unseal(segment, rest.empty(), part, std::span(out).subspan(at)));
  }
  return out;
}

}  // namespace hearth
