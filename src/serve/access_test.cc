#include "serve/access.h"

#include <gtest/gtest.h>

#include "serve/error.h"
#include "support/test_folder.h"

namespace hearth::serve {
namespace {

using namespace std::chrono_literals;

HttpRequest request(HttpHeaders headers, bool local = true, std::string host = "localhost:8080") {
  HttpRequest made;
  made.method = "POST";
  made.headers = std::move(headers);
  made.local = local;
  made.host = std::move(host);
  return made;
}

struct Rig {
  explicit Rig(AccessOptions options = {}, KeyRights rights = {}) {
    options.key_file = folder.path() / "keys.json";
    KeyRing keys = *KeyRing::open(options.key_file);
    key = *keys.add("user", rights);
    admin_key = *keys.add("boss", {.admin = true});
    file = options.key_file;
    guard = std::move(*AccessGuard::create(std::move(options), [this] { return now; }));
  }
  int status(const HttpRequest& asked, Access access = Access::kUser) const {
    const auto identity = guard->admit(asked, access);
    return identity ? 200 : identity.error().status;
  }
  TestFolder folder;
  std::chrono::steady_clock::time_point now{1h};
  std::filesystem::path file;
  std::string key, admin_key;
  std::unique_ptr<AccessGuard> guard;
};

TEST(AccessTest, H11_CVE_2024_28224_OnlyOwnNamesAreAnswered) {
  const std::vector<std::string> allowed{"box", "box.local"};
  for (const char* host : {"", "localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1:8080", "10.1.2.3", "[::1]:80",
                           "box", "Box.Local.:443"})
    EXPECT_TRUE(is_allowed_host(host, allowed)) << host;
  for (const char* host : {"evil.example", "evil.example:8080", "localhost.evil.example", "box.evil.example",
                           "1.2.3.4.evil.example", "0x7f.1", "evil"})
    EXPECT_FALSE(is_allowed_host(host, allowed)) << host;
  EXPECT_TRUE(is_allowed_host("any", {"*"}));
  const Rig rig;
  EXPECT_EQ(rig.status(request({}, true, "evil.example")), 403);
}

// LC #25606: an Origin was allowed because it was sent.
TEST(AccessTest, H11_PagesOfOtherOriginsAreRefused) {
  const Rig rig;
  EXPECT_EQ(rig.status(request({{"origin", "http://localhost:8080"}})), 200);
  for (const char* origin :
       {"http://evil.example", "https://localhost:8080", "http://localhost:8081", "null", "http://localhost"})
    EXPECT_EQ(rig.status(request({{"origin", origin}})), 403) << origin;
  EXPECT_EQ(rig.status(request({{"sec-fetch-site", "cross-site"}})), 403);
  HttpRequest link = request({{"sec-fetch-site", "cross-site"}, {"sec-fetch-mode", "navigate"}});
  link.method = "GET";
  EXPECT_EQ(rig.status(link), 200);

  const Rig open({.allow_origins = {"https://chat.example"}});
  const HttpRequest allowed = request({{"origin", "https://chat.example"}});
  EXPECT_EQ(open.status(allowed), 200);
  EXPECT_EQ(open.guard->allowed_origin(allowed), "https://chat.example");
  EXPECT_EQ(open.status(request({{"origin", "https://chat.example.evil"}})), 403);
  EXPECT_EQ(open.guard->allowed_origin(request({})), "");
}

TEST(AccessTest, H11_KeysDecideWhoMay) {
  const Rig rig({}, {.models = {"tiny"}, .class_max = "interactive"});
  const HttpRequest none = request({}, false), wrong = request({{"authorization", "Bearer x"}}, false),
                    user = request({{"authorization", "Bearer " + rig.key}}, false),
                    other_form = request({{"x-api-key", rig.key}}, false),
                    admin = request({{"authorization", "bearer " + rig.admin_key}}, false), local = request({});
  struct Row {
    const HttpRequest* asked;
    int open, user, admin;
  };
  for (const Row& row : {Row{&none, 200, 401, 401}, Row{&wrong, 200, 401, 401}, Row{&user, 200, 200, 403},
                         Row{&other_form, 200, 200, 403}, Row{&admin, 200, 200, 200}, Row{&local, 200, 200, 200}}) {
    EXPECT_EQ(rig.status(*row.asked, Access::kOpen), row.open);
    EXPECT_EQ(rig.status(*row.asked, Access::kUser), row.user);
    EXPECT_EQ(rig.status(*row.asked, Access::kAdmin), row.admin);
  }
  const Identity identity = *rig.guard->admit(user, Access::kUser);
  EXPECT_EQ(identity.tenant, "user");
  EXPECT_EQ(identity.class_max, RequestClass::kInteractive);
  EXPECT_TRUE(identity.may_use("tiny"));
  EXPECT_FALSE(identity.may_use("other"));
  EXPECT_EQ(Rig({.always_key = true}).status(local), 401) << "--require-key";

  KeyRing keys = *KeyRing::open(rig.file);
  ASSERT_TRUE(keys.revoke("user"));
  ASSERT_TRUE(rig.guard->reload());
  EXPECT_EQ(rig.status(user), 401) << "revoked";
}

TEST(AccessTest, LimitsOfAKeyHoldAndSayWhenToComeBack) {
  Rig rig({}, {.requests_per_minute = 2, .tokens_per_minute = 100, .concurrent = 1});
  const Identity identity = *rig.guard->admit(request({{"x-api-key", rig.key}}, false), Access::kUser);
  ASSERT_TRUE(rig.guard->begin(identity));
  EXPECT_EQ(rig.guard->begin(identity).error().status, 429) << "one at a time";
  rig.guard->done(identity, 10);
  ASSERT_TRUE(rig.guard->begin(identity));
  rig.guard->done(identity, 10);
  const auto third = rig.guard->begin(identity);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().retry_after_seconds, 30);
  rig.now += 30s;
  ASSERT_TRUE(rig.guard->begin(identity));
  rig.guard->done(identity, 300);  // an answer longer than there were tokens for
  rig.now += 60s;
  EXPECT_GT(rig.guard->begin(identity).error().retry_after_seconds, 30);
  rig.now += 120s;
  EXPECT_TRUE(rig.guard->begin(identity));
  EXPECT_TRUE(rig.guard->begin({.tenant = "local"})) << "no key, no limits";
}

TEST(AccessTest, ErrorsAreWrittenAsEachDialectsClientsReadThem) {
  const Error error{Code::kInvalidArgument, "messages[0].content: want a string"};
  const auto openai = error_body(Dialect::kOpenAi, 400, error).at("error").as_object();
  EXPECT_EQ(openai.at("message").as_string(), error.message);
  EXPECT_EQ(openai.at("type").as_string(), "invalid_request_error");
  EXPECT_EQ(openai.at("param").as_string(), "messages[0].content");
  EXPECT_EQ(error_body(Dialect::kOllama, 400, error).at("error").as_string(), error.message);
  const auto anthropic = error_body(Dialect::kAnthropic, 429, error);
  EXPECT_EQ(anthropic.at("type").as_string(), "error");
  EXPECT_EQ(anthropic.at("error").as_object().at("type").as_string(), "rate_limit_error");
  for (const Code code : {Code::kInvalidArgument, Code::kMalformed, Code::kUnsupported, Code::kLimit})
    EXPECT_EQ(http_status({code, ""}), 400);
}

}  // namespace
}  // namespace hearth::serve
