#include "serve/server.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "serve/request_log.h"
#include "serve/traces.h"
#include "support/fault_server.h"
#include "support/raw_client.h"
#include "support/test_folder.h"

namespace hearth::serve {
namespace {

using namespace std::chrono_literals;
using test::RawClient;
using test::status_of;

// A server without models, and the lines it logs.
struct Rig {
  explicit Rig(ServerOptions options = {}) {
    const std::filesystem::path home = folder.path();
    auto library = std::make_shared<const ModelLibrary>(*Store::open(home), std::vector<GivenModel>{},
                                                        std::map<std::string, std::string>{});
    options.http.listen = {{*parse_listen_address("127.0.0.1:0")}};
    options.access.key_file = home / "keys.json";
    KeyRing keys = *KeyRing::open(options.access.key_file);
    user_key = *keys.add("user", {});
    admin_key = *keys.add("boss", {.admin = true});
    options.log = [this](std::string_view line) {
      const std::scoped_lock lock(mutex);
      lines += std::string(line) + "\n";
    };
    server = std::move(*Server::start(std::move(options), Catalog::create(std::move(library), {})));
  }
  std::string ask(std::string_view method, std::string_view path, std::string_view headers = "",
                  std::string_view body = "") {
    RawClient client(server->ports()[0]);
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{}",
                            method, path, body.size(), headers, body));
    return client.read_until("");
  }
  // Ends the server, so that every line is there.
  std::string log() {
    server.reset();
    return lines;
  }
  TestFolder folder;
  std::mutex mutex;
  std::string lines, user_key, admin_key;
  std::unique_ptr<Server> server;
};

// {name} replaced by something.
std::string some_path(std::string_view pattern) {
  std::string path;
  bool inside = false;
  for (const char c : pattern) {
    if (c == '{') path += 'x';
    inside = inside ? c != '}' : c == '{';
    if (!inside && c != '}') path += c;
  }
  return path;
}

// CVE-2025-59425 and its like: no route was forgotten.
TEST(ServerTest, H11_EveryRouteAsksForTheKeyItNeeds) {
  ServerOptions options;
  options.access.always_key = true;
  Rig rig(std::move(options));
  for (const Route* route : all_routes()) {
    const auto status = [&](const std::string& key) {
      return status_of(
          rig.ask(route->method, some_path(route->path), key.empty() ? "" : "Authorization: Bearer " + key + "\r\n"));
    };
    const std::string what = fmt::format("{} {}", route->method, route->path);
    if (route->access == Access::kDoor) {  // no key opens it, and no address but that for doors
      for (const std::string& key : {std::string(), rig.admin_key}) EXPECT_EQ(status(key), 403) << what;
      continue;
    }
    const bool open = route->access == Access::kOpen, admin = route->access == Access::kAdmin;
    EXPECT_EQ(status("") == 401, !open) << what;
    EXPECT_EQ(status("wrong") == 401, !open) << what;
    EXPECT_EQ(status(rig.user_key) == 403, admin) << what;
    EXPECT_NE(status(rig.user_key), 401) << what;
    const int with_admin = status(rig.admin_key);
    EXPECT_TRUE(with_admin != 401 && with_admin != 403) << what;
  }
  EXPECT_EQ(status_of(rig.ask("GET", "/nowhere")), 401) << "what there is, is told to who may ask";
}

TEST(ServerTest, PathsAndMethodsThatAreNotThereAreSaidSo) {
  Rig rig;
  EXPECT_EQ(status_of(rig.ask("GET", "/health")), 200);
  EXPECT_EQ(status_of(rig.ask("GET", "/health/")), 200);
  EXPECT_EQ(status_of(rig.ask("HEAD", "/health")), 200);
  EXPECT_EQ(status_of(rig.ask("GET", "/ready")), 503) << "there is no model";
  EXPECT_EQ(status_of(rig.ask("GET", "/nowhere")), 404);
  const std::string wrong = rig.ask("DELETE", "/health");
  EXPECT_EQ(status_of(wrong), 405);
  EXPECT_TRUE(wrong.contains("Allow: GET\r\n"));
  const std::string other_origin = rig.ask("OPTIONS", "/v1/chat/completions", "Origin: http://evil.example\r\n");
  EXPECT_EQ(status_of(other_origin), 403);
  EXPECT_FALSE(other_origin.contains("Access-Control")) << "LC #25606";
}

TEST(ServerTest, PathPartsAreDecodedIntoParameters) {
  static constexpr auto kNothing = [](Server&, RouteCall) {};
  static const Route kOne{"GET", "/m/{name}", Access::kUser, Dialect::kOpenAi, kNothing},
      kAll{"GET", "/files/{path...}", Access::kUser, Dialect::kOpenAi, kNothing};
  constexpr std::array kRoutes{&kOne, &kAll};
  EXPECT_EQ(match(kRoutes, "GET", "/m/a%2Fb%20c")->parameters, std::vector<std::string>{"a/b c"});
  EXPECT_EQ(match(kRoutes, "GET", "/files/a/b")->parameters, std::vector<std::string>{"a/b"});
  for (const char* path : {"/m", "/m//", "/m/a/b", "/m/%0a", "/m/%4", "/m/%zz", "*", "/files/"})
    EXPECT_FALSE(match(kRoutes, "GET", path)) << path;
}

// Whatever a client sends, lines and figures hold none of it.
TEST(ServerTest, P1_NoTextOfARequestIsLoggedOrCounted) {
  constexpr std::string_view kCanary = "canary7f3a";
  ServerOptions options;
  options.log_form = LogForm::kJson;
  Rig rig(std::move(options));
  const std::string body =
      fmt::format(R"({{"model":"{0}","messages":[{{"role":"user","content":"{0}"}}],"prompt":"{0}"}})", kCanary);
  for (const Route* route : all_routes())
    rig.ask(route->method, some_path(route->path) + "?q=" + std::string(kCanary), fmt::format("X: {}\r\n", kCanary),
            body);
  rig.ask("GET", fmt::format("/{}", kCanary));
  rig.ask(kCanary, "/");
  const std::string metrics = rig.ask("GET", "/metrics");
  EXPECT_EQ(status_of(metrics), 200);
  EXPECT_FALSE(metrics.contains(kCanary));
  const std::string log = rig.log();
  EXPECT_TRUE(log.contains(R"("route":"/metrics")"));
  EXPECT_FALSE(log.contains(kCanary));
  for (size_t at = 0; at < log.size(); at = log.find('\n', at) + 1)
    EXPECT_TRUE(parse_json(log.substr(at, log.find('\n', at) - at))) << log.substr(at, 200);
}

// LC #27434: 3,000 levels of nesting ended the process; #9195: bytes that are no text.
TEST(ServerTest, H3_H4_BodiesThatAreNoGoodJsonAreTheClientsFault) {
  Rig rig;
  for (const std::string& body :
       {std::string(3000, '['), std::string(100'000, '{'), std::string("{\"model\":\"\xff\"}"),
        std::string("{\"model\":\"\xe2\x82\"}"), std::string("nul"), std::string()}) {
    for (const Route* route : all_routes()) {
      if (route->method != "POST") continue;
      const int status = status_of(rig.ask("POST", some_path(route->path), "", body));
      EXPECT_TRUE(status >= 200 && status < 500) << route->path << " " << body.substr(0, 20) << " " << status;
    }
  }
}

TEST(ServerTest, SpanNamesTheModelAndKeepsTheClientsTrace) {
  EXPECT_EQ(valid_trace_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").size(), 55U);
  for (const char* wrong : {"", "00-x", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    EXPECT_EQ(valid_trace_parent(wrong), "") << wrong;
  RouteCall call;
  call.record = std::make_shared<Record>();
  call.route = all_routes().front();
  EXPECT_EQ(span_json(call, {}, 1, 2), "") << "no model worked on it";
  call.record->operation = "chat";
  call.record->model = "tiny";
  call.record->completion_tokens = 7;
  call.record->trace_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const auto span = parse_json(span_json(call, {.status = 200}, 1, 2))->as_object();
  EXPECT_EQ(span.at("name").as_string(), "chat tiny");
  EXPECT_EQ(span.at("traceId").as_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(span.at("parentSpanId").as_string(), "00f067aa0ba902b7");
  EXPECT_EQ(span.at("spanId").as_string().size(), 16U);
}

// A call that a model worked on, of which a span tells.
RouteCall traced_call() {
  RouteCall call;
  call.record = std::make_shared<Record>();
  call.record->operation = "chat";
  call.record->model = "tiny";
  call.route = all_routes().front();
  return call;
}

// A collector that takes a connection and never answers: nobody waits for it, and what waits for it stays bounded.
TEST(TracesTest, ACollectorThatHangsCostsSpansAndNothingElse) {
  const test::FaultServer collector(
      [](const test::HttpRequest&, const test::Connection& connection) { connection.stall(); });
  auto exporter = std::move(*TraceExporter::create(collector.url(""), "1"));
  constexpr size_t kSpans = 3 * TraceExporter::kQueueMax;
  for (size_t i = 0; i < kSpans; ++i) exporter->add(traced_call(), {.status = 200});
  EXPECT_GE(exporter->dropped(), kSpans - TraceExporter::kQueueMax - TraceExporter::kBatchMax);
}

// While it is away the server answers; when it is back it gets what comes from then on.
TEST(TracesTest, SpansReachACollectorThatComesBack) {
  std::atomic<bool> away = true;
  const test::FaultServer collector(
      [&](const test::HttpRequest&, const test::Connection& connection) { connection.reply(away ? 503 : 200, "{}"); });
  ServerOptions options;
  options.otlp_endpoint = collector.url("");
  Rig rig(std::move(options));
  const auto ask = [&] {
    return status_of(
        rig.ask("POST", "/v1/chat/completions", "", R"({"model":"none","messages":[{"role":"user","content":"Hi"}]})"));
  };
  const auto dropped = [&] { return rig.ask("GET", "/metrics").contains("hearth_traces_dropped_total 0\n") ? 0 : 1; };
  EXPECT_EQ(ask(), 404);
  while (dropped() == 0) std::this_thread::sleep_for(10ms);
  away = false;
  const size_t before = collector.requests().size();
  EXPECT_EQ(ask(), 404);
  while (collector.requests().size() == before) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(collector.requests().back().path, "/v1/traces");
}

}  // namespace
}  // namespace hearth::serve
