// A smaller model that answers while power is short: only to those who may use it, only what it can read, and the reply says so.
#include <gtest/gtest.h>

#include "serve/server.h"
#include "support/raw_client.h"
#include "support/test_folder.h"

namespace hearth::serve {
namespace {

TEST(SmallerModelTest, ItAnswersWhilePowerIsShortAndTheReplySaysInsteadOfWhich) {
  const TestFolder home;
  ServerOptions options;
  options.http.listen = {{*parse_listen_address("127.0.0.1:0")}};
  options.access.key_file = home.path() / "keys.json";
  options.access.always_key = true;
  KeyRing keys = *KeyRing::open(options.access.key_file);
  const std::string user = *keys.add("user", {}), limited = *keys.add("limited", {.models = {"large"}});
  std::atomic<bool> short_of_power{false};
  options.smaller_model = "small";
  options.wants_smaller_model = [&] { return short_of_power.load(); };
  CatalogOptions catalog;
  catalog.loader.planned_bytes = [](const ModelSource&) -> Result<int64_t> { return 1; };
  catalog.loader.load = [](const ModelSource& source, uint64_t) -> Result<std::unique_ptr<LoadedModel>> {
    auto backend = TRY(create_backend("cpu", {.n_threads = 1, .isa = {}}));
    Model model = TRY(load_model(source.path, std::move(backend), {.context = 64, .rows_max = 0, .progress = {}}));
    auto loaded = std::make_unique<LoadedModel>();
    loaded->engine = TRY(Engine::create(std::move(model), {}));
    return loaded;
  };
  const std::filesystem::path file = HEARTH_TEST_DATA "/families/smollm3";
  auto library = std::make_shared<const ModelLibrary>(*Store::open(home.path()),
                                                      std::vector<GivenModel>{{"large", file}, {"small", file}},
                                                      std::map<std::string, std::string>{});
  const auto server =
      std::move(*Server::start(std::move(options), Catalog::create(std::move(library), std::move(catalog))));
  const auto ask = [&](const std::string& key, std::string_view prompt) {
    const std::string body = fmt::format(R"({{"model":"large","max_tokens":2,"prompt":{}}})", prompt);
    test::RawClient client(server->ports()[0]);
    client.send(
        fmt::format("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: "
                    "Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                    key, body.size(), body));
    return client.read_until("");
  };
  const auto answered_by = [](const std::string& reply) {
    return reply.contains(R"("model":"small")") ? "small" : reply.contains(R"("model":"large")") ? "large" : "none";
  };
  const auto says = [](const std::string& reply) { return reply.contains("Hearth-Instead-Of: large\r\n"); };

  std::string reply = ask(user, R"("THE SEA")");
  EXPECT_STREQ(answered_by(reply), "large") << reply;
  EXPECT_FALSE(says(reply));
  short_of_power = true;
  reply = ask(user, R"("THE SEA")");
  EXPECT_STREQ(answered_by(reply), "small") << reply;
  EXPECT_TRUE(says(reply)) << reply;
  reply = ask(user, "[5, 6, 7]");
  EXPECT_STREQ(answered_by(reply), "large") << "tokens of one model are not those of another";
  reply = ask(limited, R"("THE SEA")");
  EXPECT_STREQ(answered_by(reply), "large") << "a key that may not use the other";
  EXPECT_FALSE(says(reply));
}

}  // namespace
}  // namespace hearth::serve
