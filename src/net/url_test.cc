#include "net/url.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(UrlTest, OnlyHttpAndHttpsAreFetched) {
  for (const char* text :
       {"file:///etc/passwd", "ftp://a/b", "gopher://a/b", "dict://a", "smb://a/b", "scp://a/b", "data:text/plain,x",
        "", "/a/b", "http://", "https://a b/", "https://a/\n", "https://a/\x7f", "http://[::1"}) {
    EXPECT_FALSE(parse_url(text)) << text;
  }
  EXPECT_FALSE(parse_url("https://a/" + std::string(10'000, 'x')));
}

TEST(UrlTest, WhatIsShownHasNoSecrets) {
  EXPECT_EQ(parse_url("https://user:secret@Host.example/a/b.gguf?token=secret#secret")->shown(),
            "https://host.example/a/b.gguf");
  EXPECT_EQ(parse_url("http://[::1]:8080/x")->shown(), "http://[::1]:8080/x");
}

TEST(UrlTest, H9_OriginIsSchemeHostAndPort) {
  const Url a = *parse_url("https://hub.example/x");
  EXPECT_TRUE(a.same_origin(*parse_url("https://HUB.example:443/y")));
  for (const char* other : {"http://hub.example/x", "https://hub.example:444/x", "https://hub.example.evil/x",
                            "https://evil@evil/x", "https://hub.example@evil/x"}) {
    EXPECT_FALSE(a.same_origin(*parse_url(other))) << other;
  }
  EXPECT_TRUE(parse_url("http://127.0.0.1:1/")->loopback());
  EXPECT_FALSE(parse_url("http://127.0.0.1.evil.example/")->loopback());
}

TEST(UrlTest, FileNamesAreDecoded) {
  EXPECT_EQ(parse_url("https://a/b/c%20d.gguf?x=/y")->file_name(), "c d.gguf");
  EXPECT_EQ(parse_url("https://a/b/%2e%2e%2fpasswd")->file_name(),
            "../passwd");  // check_file_name of the store refuses it
  EXPECT_EQ(parse_url("https://a/b/%zz")->file_name(), "");
  EXPECT_EQ(escape_path("a b/c#d?.gguf"), "a%20b/c%23d%3F.gguf");
}

}  // namespace
}  // namespace hearth
