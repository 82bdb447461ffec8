#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "support/test_folder.h"
#include "vault/key.h"
#include "vault/sealed.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> some_bytes(size_t n) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  return bytes;
}
Key key_of(unsigned char c) { return Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{c})).value(); }

TEST(Sealed, ComesBackAsItWasWithTheSameKeyAndPurposeOnly) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{1000}, size_t{1} << 20, (size_t{1} << 20) + 1, size_t{2} << 20}) {
    const auto plain = some_bytes(n);
    const auto sealed = seal(key_of(1), "state of tenant a", plain);
    EXPECT_EQ(unseal(key_of(1), "state of tenant a", sealed), plain);
    EXPECT_EQ(unseal(key_of(1), "state of tenant b", sealed).error().code, Code::kCorrupt);
    EXPECT_EQ(unseal(key_of(2), "state of tenant a", sealed).error().code, Code::kCorrupt);
    EXPECT_NE(seal(key_of(1), "state of tenant a", plain), sealed) << "equal texts must not be seen to be equal";
  }
}

TEST(Sealed, EveryChangeAndEveryCutIsNoticed) {
  const auto sealed = seal(key_of(1), "p", some_bytes(100));
  for (size_t i = 0; i < sealed.size(); ++i) {
    auto changed = sealed;
    changed[i] ^= std::byte{0x40};
    EXPECT_FALSE(unseal(key_of(1), "p", changed)) << "byte " << i;
    EXPECT_FALSE(unseal(key_of(1), "p", std::span(sealed).first(i))) << "cut at " << i;
  }
  const auto two = seal(key_of(1), "p", some_bytes((size_t{1} << 20) + 50));
  EXPECT_FALSE(unseal(key_of(1), "p", std::span(two).first(two.size() - 66))) << "cut between segments";
}

TEST(KeyFile, IsMadeOnceForItsOwnerAloneAndRefusedIfOthersMayReadIt) {
  const TestFolder home;
  const fs::path& folder = home.path();
  const fs::path path = folder / "key";
  const Key made = Key::load_or_create(path).value();
  const Key again = Key::load_or_create(path).value();
  EXPECT_TRUE(std::ranges::equal(made.bytes(), again.bytes()));
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  fs::permissions(path, fs::perms::group_read, fs::perm_options::add);
  EXPECT_EQ(Key::load_or_create(path).error().code, Code::kInvalidArgument);
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  std::ofstream(path, std::ios::trunc) << "short";
  EXPECT_EQ(Key::load_or_create(path).error().code, Code::kMalformed);
}

// RFC 4231, test case 2, with the key padded as HMAC itself pads it.
TEST(KeyNames, AreHmacSha256) {
  std::vector<std::byte> padded(Key::kBytes);
  padded[0] = std::byte{'J'}, padded[1] = std::byte{'e'}, padded[2] = std::byte{'f'}, padded[3] = std::byte{'e'};
  EXPECT_EQ(Key::from_bytes(padded)->name_of("what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

}  // namespace
}  // namespace hearth
