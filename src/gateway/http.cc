// Webhooks: programs post values and wishes to us (JSON over HTTP), and get ours posted; a device that takes commands so is written.
#include <boost/json/serialize.hpp>
#include <map>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "gateway/adapters.h"
#include "gateway/profile.h"
#include "gateway/sample.h"
#include "net/http_call.h"
#include "net/http_server.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kEntriesMost = 1000;  // of one body
constexpr std::chrono::seconds kAnswerMax{10};

struct Command {
  Url url;
  std::string key;  // {"key": value}; empty: {"value": value}
  BoolTexts texts;
};

struct Options {
  std::string listen, token;  // listen is empty: nothing comes in
  std::optional<Url> url;     // where samples go
  std::vector<bool> in, requests, out;
  std::map<SignalId, Command> commands;
};

Result<Url> read_url(const ConfigTable& table) {
  const std::string text = TRY(table.needed_text("url"));
  auto url = parse_url(text);
  if (!url) return table.wrong("url", url.error().message);
  return *url;
}

Result<std::vector<bool>> read_list(const ConfigTable& table, std::string_view key, const SignalNames& names,
                                    size_t n) {
  std::vector<bool> is(n);
  const std::vector<SignalId> listed = TRY(names.listed(table, key));
  for (const SignalId id : listed) is[id] = true;
  return is;
}

Result<Options> read_options(const ConfigTable& table, std::span<const Signal> signals) {
  Options options;
  const SignalNames names(signals);
  options.listen = TRY(table.text("listen", ""));
  const std::string token_file = TRY(table.text("token_file", ""));
  if (!token_file.empty()) {
    auto token = read_file(token_file, 4096);
    if (!token) return table.wrong("token_file", token.error().message);
    options.token = *token;
    while (!options.token.empty() && (options.token.back() == '\n' || options.token.back() == '\r'))
      options.token.pop_back();
    if (options.token.size() < 16)
      return table.wrong("token_file",
                         fmt::format("holds {} characters, has to hold 16 or more", options.token.size()));
  }
  if (!options.listen.empty()) {
    const auto address = parse_listen_address(options.listen);
    if (!address) return table.wrong("listen", address.error().message);
    if (!address->loopback() && options.token.empty())
      return table.wrong(
          "listen", "can be reached by other machines: give token_file, a file with a secret of 16 characters or more");
  }
  options.in = TRY(read_list(table, "signals", names, signals.size()));
  options.requests = TRY(read_list(table, "requests", names, signals.size()));
  for (size_t id = 0; id < signals.size(); id++)
    if (options.requests[id] && !signals[id].write)
      return table.wrong("requests", fmt::format("{} cannot be written: give it [signal.write]", signals[id].name));
  const ConfigTable out = TRY(table.table("out"));
  if (table.has("out")) options.url = TRY(read_url(out));
  options.out = TRY(read_list(out, "signals", names, signals.size()));
  if (auto finished = out.finish(); !finished) return std::unexpected(finished.error());
  const std::vector<ConfigTable> commands = TRY(table.tables("command"));
  for (const ConfigTable& entry : commands) {
    const SignalId id = TRY(names.named(entry, "signal"));
    if (!signals[id].write)
      return entry.wrong("signal", fmt::format("{} cannot be written: give it [signal.write]", signals[id].name));
    Command command{
        TRY(read_url(entry)), TRY(entry.text("key", "value")), {TRY(entry.text("on", "")), TRY(entry.text("off", ""))}};
    if (auto finished = entry.finish(); !finished) return std::unexpected(finished.error());
    options.commands.insert_or_assign(id, std::move(command));
  }
  return options;
}

// Takes the same time wherever the difference is.
bool same(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); i++)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  return difference == 0;
}

Result<> post(const Url& url, const json::object& body) {
  const std::string text = json::serialize(body);
  const HttpReply reply = TRY(http_call(url, {.headers = {"content-type: application/json"},
                                              .body = text,
                                              .total_max = kAnswerMax,
                                              .answer_bytes_max = 1u << 20}));
  if (reply.status >= 200 && reply.status < 300) return {};
  return fail(Code::kIo, "{} answered {}", url.shown(), reply.status);
}

// One value of a body.
struct Entry {
  std::string_view signal;
  const json::value* value = nullptr;
  std::optional<int64_t> time_ms;
};
// {"signal", "value", "time"} or an array of them; empty if it is neither.
std::optional<std::vector<Entry>> read_entries(const json::value& body) {
  std::vector<Entry> all;
  const auto add = [&](const json::value& each) {
    const json::object* object = each.if_object();
    const json::value* signal = object == nullptr ? nullptr : object->if_contains("signal");
    const json::value* value = object == nullptr ? nullptr : object->if_contains("value");
    if (signal == nullptr || !signal->is_string() || value == nullptr) return false;
    const json::value* time = object->if_contains("time");
    if (time != nullptr && !time->is_int64()) return false;
    all.push_back({signal->get_string(), value, time == nullptr ? std::nullopt : std::optional(time->get_int64())});
    return true;
  };
  if (!body.is_array()) return add(body) ? std::optional(std::move(all)) : std::nullopt;
  if (body.get_array().size() > kEntriesMost) return std::nullopt;
  for (const json::value& each : body.get_array())
    if (!add(each)) return std::nullopt;
  return all;
}

class HttpAdapter final : public Adapter {
 public:
  HttpAdapter(Options options, std::span<const Signal> signals)
      : options_(std::move(options)), signals_(signals.begin(), signals.end()), names_(signals_) {}
  ~HttpAdapter() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    stop();
    inputs_ = std::move(inputs);
    if (options_.listen.empty()) {
      counters_.state(true, "posts only");
      return {};
    }
    HttpServerOptions server;
    server.listen.push_back({.address = TRY(parse_listen_address(options_.listen))});
    server.reader.body_bytes = limits::kGatewayMessageBytes;
    server.n_workers = 1;
    server_ = TRY(HttpServer::start(std::move(server),
                                    [this](const std::shared_ptr<HttpExchange>& exchange) { answer(*exchange); }));
    counters_.state(true, fmt::format("listens on port {}", server_->ports().at(0)));
    return {};
  }
  void stop() override {
    server_.reset();
    counters_.state(false, "stopped");
  }
  AdapterFigures figures() const override { return counters_.figures(); }

  Result<> publish(const Sample& sample) override {
    if (sample.signal >= options_.out.size() || !options_.out[sample.signal] || !options_.url)
      return fail(Code::kUnsupported, "not a signal that is posted");
    const Signal& signal = signals_[sample.signal];
    if (auto sent = post(*options_.url, {{"signal", signal.name},
                                         {"value", json_of(sample.value)},
                                         {"unit", signal.unit},
                                         {"time", sample.time_ms},
                                         {"quality", name_of(sample.quality)}});
        !sent)
      return sent;
    counters_.sent++;
    return {};
  }

  Result<> write(const Write& write) override {
    const auto found = options_.commands.find(write.signal);
    if (found == options_.commands.end())
      return fail(Code::kNotFound, "no command of this adapter writes signal {}", write.signal);
    if (write.value.index() != static_cast<size_t>(signals_[write.signal].type))
      return fail(Code::kInvalidArgument, "{} has another type", signals_[write.signal].name);
    if (auto sent = post(found->second.url, {{found->second.key, json_of(write.value, found->second.texts)}}); !sent)
      return sent;
    counters_.sent++;
    return {};
  }

 private:
  void answer(HttpExchange& exchange) {
    const HttpRequest& request = exchange.request();
    const auto refuse = [&](int status, std::string_view why) {
      counters_.refused++;
      exchange.reply(status, "application/json", json::serialize(json::object{{"error", why}}));
    };
    const bool is_request = request.path == "/requests";
    if (!is_request && request.path != "/signals") return refuse(404, "there are POST /signals and POST /requests");
    if (request.method != "POST") return refuse(405, "has to be POST");
    if (!options_.token.empty() && !same(request.header("authorization"), "Bearer " + options_.token))
      return refuse(401, "needs Authorization: Bearer TOKEN");
    // A page that a browser on this machine shows could post here otherwise.
    if (!request.header("origin").empty()) return refuse(403, "not from a page in a browser");
    const auto body = message_json(request.body);
    if (!body) return refuse(400, body.error().message);
    const auto entries = read_entries(*body);
    if (!entries)
      return refuse(400,
                    "has to be {\"signal\", \"value\", \"time\"} (milliseconds since 1970, may be absent), or an array "
                    "of at most 1000 of them");
    uint64_t taken = 0;
    for (const Entry& entry : *entries) taken += take(entry, is_request, request.peer) ? 1 : 0;
    counters_.received += taken;
    counters_.refused += entries->size() - taken;
    exchange.reply(200, "application/json",
                   json::serialize(json::object{{"taken", taken}, {"refused", entries->size() - taken}}));
  }

  bool take(const Entry& entry, bool is_request, const std::string& peer) {
    const auto id = names_.find(entry.signal);
    if (!id || !(is_request ? options_.requests : options_.in)[*id]) return false;
    const Signal& signal = signals_[*id];
    const std::optional<Value> value = value_of_json(signal.type, *entry.value);
    if (is_request) {
      if (value) inputs_.request({*id, *value}, "http " + peer);
      return value.has_value();
    }
    const int64_t now = now_ms();
    const Sample sample = make_sample(signal, *id, value, entry.time_ms.value_or(now), now);
    inputs_.sample(sample);
    return sample.quality != Quality::kBad;
  }

  const Options options_;
  const std::vector<Signal> signals_;
  const SignalNames names_;
  GatewayInputs inputs_;
  Counters counters_;
  std::unique_ptr<HttpServer> server_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  Options options = TRY(read_options(table, signals));
  return std::make_unique<HttpAdapter>(std::move(options), signals);
}

void parse(std::string_view bytes) {
  const auto body = message_json(bytes);
  const auto entries = body ? read_entries(*body) : std::nullopt;
  if (!entries) return;
  for (const Entry& entry : *entries) (void)value_of_json(SignalType::kNumber, *entry.value);
}

}  // namespace

AdapterKind http_kind() {
  return {"http", "webhooks: values and wishes posted to us, and ours to others", make, parse};
}

}  // namespace hearth::gateway
