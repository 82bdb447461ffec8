// CoAP devices (libcoap): resources that are observed (RFC 7641), or asked for where they cannot be, and written by PUT or POST.
#include <coap3/coap.h>

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "gateway/adapters.h"
#include "gateway/datagrams.h"
#include "gateway/profile.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kFirstPause{250};
constexpr uint32_t kIsWrite = 1u << 31;  // in the second half of a token
constexpr uint32_t kUsualMaxAge = 60;    // seconds (RFC 7252, 5.10.5)
enum : uint16_t { kText = 0, kJson = 50, kSenml = 110 };

// What one resource says about one signal.
struct Point {
  SignalId signal = 0;
  Place place;
  std::string record;  // of SenML; empty: not SenML
  double scale = 1, offset = 0;
};

struct Path {
  std::string text;
  std::vector<std::string> parts, queries;
};

struct Resource {
  Path path;
  bool observe = true;
  std::vector<Point> points;
  // Of the adapter's thread.
  Clock::time_point due{}, sequence_at{};
  std::optional<Clock::time_point> asked;
  bool observed = false;
  uint32_t sequence = 0;
  std::string body;  // of blocks
};

struct Command {
  Path path;
  bool post = false;
  std::string key, record;  // {"key": value}, or a SenML record; both empty: the value alone
  BoolTexts texts;
};

struct Options {
  std::string host, identity, key;  // a key means DTLS
  int port = 0, retries = 2;
  milliseconds poll{10'000}, renew{300'000}, timeout{2000}, pause_max{30'000};
  std::vector<Resource> resources;
  std::map<SignalId, Command> commands;
  [[nodiscard]] std::string peer() const { return fmt::format("{}:{}", host, port); }
  // From a request to its last answer: all tries of a message (RFC 7252, 4.2), and once more for an answer of its own.
  [[nodiscard]] milliseconds patience() const { return timeout * 3 / 2 * ((2 << retries) - 1) + timeout; }
};

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> all;
  while (!text.empty()) {
    const size_t end = std::min(text.size(), text.find(at));
    if (end > 0) all.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return all;
}

Result<Path> read_path(const ConfigTable& table) {
  Path path;
  path.text = TRY(table.needed_text("path"));
  const size_t question = std::min(path.text.size(), path.text.find('?'));
  path.parts = split(std::string_view(path.text).substr(0, question), '/');
  if (question < path.text.size()) path.queries = split(std::string_view(path.text).substr(question + 1), '&');
  for (const auto* list : {&path.parts, &path.queries})
    for (const std::string& part : *list)
      if (part.size() > 255) return table.wrong("path", "has a part of more than 255 bytes, which CoAP cannot carry");
  return path;
}

Result<> read_resource(const ConfigTable& table, const SignalNames& names, std::span<const Signal> signals,
                       Options& options) {
  Point point;
  point.signal = TRY(names.named(table, "signal"));
  Path path = TRY(read_path(table));
  point.place = TRY(read_place(table));
  point.record = TRY(table.text("record", ""));
  if (!point.record.empty() && !point.place.pointer.empty())
    return table.wrong("record", "goes without pointer: one is for SenML, the other for other JSON");
  point.scale = TRY(table.number("scale", 1, -1e12, 1e12));
  point.offset = TRY(table.number("offset", 0, -1e12, 1e12));
  const bool observe = TRY(table.flag("observe", true)), writable = TRY(table.flag("writable", false));
  const bool read = TRY(table.flag("read", true));
  Command command{path, false, TRY(table.text("key", "")), point.record, point.place.texts};
  const std::string method = TRY(table.text("method", "put"));
  if (method != "put" && method != "post") return table.wrong("method", "has to be \"put\" or \"post\"");
  command.post = method == "post";
  const Signal& signal = signals[point.signal];
  if (writable && !signal.write)
    return table.wrong("writable",
                       fmt::format("{} has no limits: give it [signal.write] with min, max and action", signal.name));
  if (writable && (point.scale != 1 || point.offset != 0))
    return table.wrong("writable", "goes without scale and offset: what is written goes out as it is");
  if (!read && !writable) return table.wrong("read", "is false, and writable too: then the entry does nothing");
  if (auto finished = table.finish(); !finished) return finished;
  if (writable) options.commands.insert_or_assign(point.signal, std::move(command));
  if (!read) return {};
  auto found = std::ranges::find(options.resources, path.text, [](const Resource& each) { return each.path.text; });
  if (found == options.resources.end()) {
    if (options.resources.size() >= limits::kCoapResources)
      return table.wrong("path", fmt::format("is one of more than {}: use several adapters", limits::kCoapResources));
    found = options.resources.insert(options.resources.end(),
                                     Resource{.path = std::move(path), .points = {}, .asked = {}, .body = {}});
  }
  found->observe = observe;
  found->points.push_back(std::move(point));
  return {};
}

// One value that a body has for a point.
struct Found {
  std::optional<Value> value;
  int64_t time_ms = 0;
};

double number_at(const json::object& object, std::string_view key, double fallback) {
  const json::value* found = object.if_contains(key);
  if (found == nullptr || !found->is_number()) return fallback;
  return std::get<double>(*value_of_json(SignalType::kNumber, *found));
}

// SenML (RFC 8428): the records of a name, with the base values before them. Empty: it is none.
std::optional<std::vector<Found>> senml_values(std::string_view body, const Point& point, SignalType type,
                                               int64_t now) {
  const auto parsed = message_json(body);
  if (!parsed || !parsed->is_array()) return std::nullopt;
  std::vector<Found> all;
  std::string base_name;
  double base_time = 0, base_value = 0;
  for (const json::value& each : parsed->get_array()) {
    const json::object* record = each.if_object();
    if (record == nullptr) return std::nullopt;
    if (const auto* name = record->if_contains("bn"); name != nullptr && name->is_string())
      base_name = name->get_string();
    base_time = number_at(*record, "bt", base_time);
    base_value = number_at(*record, "bv", base_value);
    std::string name = base_name;
    if (const auto* more = record->if_contains("n"); more != nullptr && more->is_string())
      name += std::string_view(more->get_string());
    if (name != point.record) continue;
    std::optional<Value> value;
    for (const char* key : {"v", "vb", "vs"})
      if (const auto* found = record->if_contains(key)) value = value_of_json(type, *found, point.place.texts);
    if (auto* number = value ? std::get_if<double>(&*value) : nullptr) *number += base_value;
    const double time = base_time + number_at(*record, "t", 0);  // below 2^28: seconds from now (4.5.3)
    const double ms = time * 1000 + (time < 1 << 28 ? static_cast<double>(now) : 0);
    all.push_back({value, ms >= 0 && ms < 1e15 ? std::llround(ms) : -1});
  }
  return all;
}

// What a body says about a point: nothing, one value, or several in their order.
std::vector<Found> values_of(std::string_view body, uint16_t format, const Point& point, SignalType type, int64_t now) {
  std::vector<Found> all = {{std::nullopt, now}};
  Payload payload(body);
  if (format != kText && format != kJson && format != kSenml) return all;
  if (!point.record.empty()) {
    if (auto records = senml_values(body, point, type, now)) all = std::move(*records);
  } else if (payload.silent(point.place)) {
    all.clear();
  } else {
    all[0].value = payload.value(type, point.place);
  }
  for (Found& each : all)
    if (auto* number = each.value ? std::get_if<double>(&*each.value) : nullptr)
      *number = *number * point.scale + point.offset;
  return all;
}

// A message from a device, as far as it matters here.
struct Answer {
  unsigned code = 0;  // 205 is 2.05
  std::optional<uint32_t> observe;
  uint32_t max_age = kUsualMaxAge;
  uint16_t format = kText;
  size_t offset = 0;  // of a block
  bool more = false;
  std::string_view bytes;
};

std::optional<uint32_t> option_of(const coap_pdu_t* pdu, uint16_t number) {
  coap_opt_iterator_t iterator;
  const coap_opt_t* found = coap_check_option(pdu, number, &iterator);
  if (found == nullptr) return std::nullopt;
  return coap_decode_var_bytes(coap_opt_value(found), std::min<uint32_t>(coap_opt_length(found), 4));
}

Answer read_answer(const coap_pdu_t* pdu) {
  Answer answer;
  const auto code = static_cast<unsigned>(coap_pdu_get_code(pdu));
  answer.code = (code >> 5) * 100 + (code & 31);
  answer.observe = option_of(pdu, COAP_OPTION_OBSERVE);
  answer.max_age = option_of(pdu, COAP_OPTION_MAXAGE).value_or(kUsualMaxAge);
  answer.format = static_cast<uint16_t>(option_of(pdu, COAP_OPTION_CONTENT_FORMAT).value_or(kText));
  if (const auto block = option_of(pdu, COAP_OPTION_BLOCK2)) {
    answer.more = (*block & 8) != 0;
    answer.offset = size_t{*block >> 4} << ((*block & 7) + 4);
  }
  size_t size = 0;
  const uint8_t* data = nullptr;
  if (coap_get_data(pdu, &size, &data) != 0) answer.bytes = {reinterpret_cast<const char*>(data), size};
  return answer;
}

struct FreeContext {
  void operator()(coap_context_t* context) const { coap_free_context(context); }
};
struct FreeSession {
  void operator()(coap_session_t* session) const { coap_session_release(session); }
};

class CoapAdapter final : public Adapter {
 public:
  CoapAdapter(Options options, std::span<const Signal> signals)
      : options_(std::move(options)), signals_(signals.begin(), signals.end()) {
    for (const Resource& resource : options_.resources)
      for (const Point& point : resource.points) all_.push_back(point.signal);
  }
  ~CoapAdapter() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    stop();
    inputs_ = std::move(inputs);
    counters_.state(false, "asks " + options_.peer());
    {
      const std::scoped_lock lock(mutex_);
      running_ = true;
    }
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    return {};
  }
  void stop() override {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    wake_.ring();
    thread_.join();
    counters_.state(false, "stopped");
  }
  AdapterFigures figures() const override { return counters_.figures(); }
  Result<> publish(const Sample& /*sample*/) override {
    return fail(Code::kUnsupported, "CoAP devices are not told what others say");
  }

  Result<> write(const Write& write) override {
    const auto found = options_.commands.find(write.signal);
    if (found == options_.commands.end()) {
      counters_.refused++;
      return fail(Code::kNotFound, "no resource of {} is writable for this signal: the profile does not list it",
                  options_.peer());
    }
    if (write.value.index() != static_cast<size_t>(signals_[write.signal].type))
      return fail(Code::kInvalidArgument, "{} has another type", signals_[write.signal].name);
    auto job = std::make_shared<Job>(&found->second, write.value);
    std::unique_lock lock(mutex_);
    if (!running_) return fail(Code::kIo, "{}: stopped", options_.peer());
    jobs_.push_back(job);
    wake_.ring();
    done_.wait(lock, [&] { return job->result.has_value(); });
    if (*job->result) counters_.sent++;
    return *job->result;
  }

 private:
  struct Job {
    Job(const Command* what, Value to) : command(what), value(std::move(to)) {}
    const Command* command;
    Value value;
    std::optional<Result<>> result;  // under mutex_
    Clock::time_point asked{};
  };

  void run(const std::stop_token& stop) {
    context_.reset(coap_new_context(nullptr));
    if (context_) {
      coap_context_set_block_mode(context_.get(), COAP_BLOCK_USE_LIBCOAP);
      coap_register_response_handler(context_.get(), on_response);
      coap_register_nack_handler(context_.get(), on_nack);
    }
    pause_ = kFirstPause, next_try_ = {}, away_ = false;
    while (!stop.stop_requested()) {
      if (!session_ && Clock::now() >= next_try_) connect();
      take_jobs();
      if (session_) ask_what_is_due();
      if (failure_.empty()) {
        wake_.wait(context_ ? coap_context_get_coap_fd(context_.get()) : -1, until_next());
        if (context_) coap_io_process(context_.get(), COAP_IO_NO_WAIT);
      }
      if (!failure_.empty()) gone();
    }
    for (size_t i = 0; session_ && i < options_.resources.size(); i++) {
      auto token = token_of(static_cast<uint32_t>(i));
      coap_binary_t bytes{token.size(), token.data()};
      if (options_.resources[i].observed) coap_cancel_observe(session_.get(), &bytes, COAP_MESSAGE_NON);
    }
    {
      const std::scoped_lock lock(mutex_);
      running_ = false;
    }
    drop("stopped");
    context_.reset();
  }

  void connect() {
    const auto address = datagram_address(options_.host, options_.port, false);
    coap_address_t where;
    coap_address_init(&where);
    if (!address || address->size() > sizeof where.addr) {
      failure_ = address ? "no address of a kind that CoAP can use" : address.error().message;
      return;
    }
    std::memcpy(&where.addr, address->data(), address->size());
    where.size = static_cast<socklen_t>(address->size());
    if (context_)
      session_.reset(options_.key.empty()
                         ? coap_new_client_session(context_.get(), nullptr, &where, COAP_PROTO_UDP)
                         : coap_new_client_session_psk(context_.get(), nullptr, &where, COAP_PROTO_DTLS,
                                                       options_.identity.c_str(),
                                                       reinterpret_cast<const uint8_t*>(options_.key.data()),
                                                       static_cast<unsigned>(options_.key.size())));
    if (!session_) {
      failure_ = "the system gives no socket";
      return;
    }
    if (connects_++ > 0) counters_.reconnects++;
    coap_session_set_app_data(session_.get(), this);
    const auto ms = static_cast<uint16_t>(options_.timeout.count() % 1000);
    coap_session_set_ack_timeout(session_.get(), {static_cast<uint16_t>(options_.timeout.count() / 1000), ms});
    coap_session_set_max_retransmit(session_.get(), static_cast<uint16_t>(options_.retries));
    nonce_ = static_cast<uint32_t>(std::random_device{}());
    heard_ = Clock::now();
    for (Resource& resource : options_.resources) {
      resource.due = {}, resource.asked.reset(), resource.observed = false;
      resource.body.clear();
    }
  }

  // All that waits fails; observations have to be begun anew.
  void drop(const std::string& why) {
    session_.reset();
    const std::scoped_lock lock(mutex_);
    for (auto& job : jobs_) job->result = fail(Code::kIo, "{}: {}", options_.peer(), why);
    for (auto& [number, job] : sent_) job->result = fail(Code::kIo, "{}: {}", options_.peer(), why);
    jobs_.clear();
    sent_.clear();
    done_.notify_all();
  }
  void gone() {
    const std::string why = std::exchange(failure_, {});
    drop(why);
    if (away_) pause_ = std::min(pause_ * 2, options_.pause_max);
    next_try_ = Clock::now() + pause_;
    counters_.state(false, fmt::format("{}: {}: next try in {} ms", options_.peer(), why, pause_.count()));
    if (!std::exchange(away_, true)) inputs_.away(all_, true);
  }
  void alive() {
    heard_ = Clock::now();
    pause_ = kFirstPause;
    if (!counters_.figures().connected) counters_.state(true, "connected to " + options_.peer());
    if (std::exchange(away_, false)) inputs_.away(all_, false);
  }

  [[nodiscard]] std::array<uint8_t, 8> token_of(uint32_t number) const {
    std::array<uint8_t, 8> token{};
    std::memcpy(token.data(), &nonce_, 4);
    std::memcpy(token.data() + 4, &number, 4);
    return token;
  }
  // The number that token_of() was given; empty: not ours.
  [[nodiscard]] std::optional<uint32_t> number_of(const coap_pdu_t* pdu) const {
    const coap_bin_const_t token = coap_pdu_get_token(pdu);
    uint32_t number = 0;
    if (token.length != 8 || std::memcmp(token.s, &nonce_, 4) != 0) return std::nullopt;
    std::memcpy(&number, token.s + 4, 4);
    return number;
  }

  void send(coap_pdu_code_t code, const Path& path, uint32_t number, std::optional<uint16_t> observe,
            std::string_view payload = {}, uint16_t format = kText) {
    coap_pdu_t* pdu = coap_new_pdu(COAP_MESSAGE_CON, code, session_.get());
    const auto token = token_of(number);
    if (pdu == nullptr || coap_add_token(pdu, token.size(), token.data()) == 0) {
      coap_delete_pdu(pdu);
      failure_ = "no memory for a message";
      return;
    }
    coap_optlist_t* list = nullptr;
    const auto add = [&list](uint16_t option, std::string_view text) {
      coap_insert_optlist(&list, coap_new_optlist(option, text.size(), reinterpret_cast<const uint8_t*>(text.data())));
    };
    const auto add_number = [&](uint16_t option, uint16_t value) {
      std::array<uint8_t, 4> bytes{};
      const auto n = coap_encode_var_safe(bytes.data(), bytes.size(), value);
      add(option, {reinterpret_cast<const char*>(bytes.data()), n});
    };
    if (observe) add_number(COAP_OPTION_OBSERVE, *observe);
    for (const std::string& part : path.parts) add(COAP_OPTION_URI_PATH, part);
    for (const std::string& query : path.queries) add(COAP_OPTION_URI_QUERY, query);
    if (!payload.empty()) add_number(COAP_OPTION_CONTENT_FORMAT, format);
    coap_add_optlist_pdu(pdu, &list);
    coap_delete_optlist(list);
    if (!payload.empty()) {
      auto* copy = new std::string(payload);  // the library's until it calls back
      coap_add_data_large_request(
          session_.get(), pdu, copy->size(), reinterpret_cast<const uint8_t*>(copy->data()),
          [](coap_session_t*, void* text) { delete static_cast<std::string*>(text); }, copy);
    }
    if (coap_send(session_.get(), pdu) == COAP_INVALID_MID && failure_.empty()) failure_ = "the message was not sent";
  }

  void take_jobs() {
    std::vector<std::pair<uint32_t, std::shared_ptr<Job>>> begun;
    {
      const std::scoped_lock lock(mutex_);
      for (auto& job : std::exchange(jobs_, {})) {
        if (session_) {
          job->asked = Clock::now();
          begun.emplace_back(kIsWrite | (next_write_++ & ~kIsWrite), job);
          sent_.insert(begun.back());
        } else {
          job->result = fail(Code::kIo, "{}: away: {}", options_.peer(), counters_.figures().state);
        }
      }
      done_.notify_all();
    }
    for (const auto& [number, job] : begun) {
      const Command& command = *job->command;
      std::string payload = text_of(job->value, command.texts);
      uint16_t format = kText;
      if (!command.record.empty()) {
        const char* kind = std::array{"vb", "v", "vs"}[job->value.index()];
        payload = json::serialize(json::array{json::object{{"n", command.record}, {kind, json_of(job->value)}}});
        format = kSenml;
      } else if (!command.key.empty()) {
        payload = json::serialize(json::object{{command.key, json_of(job->value, command.texts)}});
        format = kJson;
      }
      if (session_ && failure_.empty())
        send(command.post ? COAP_REQUEST_CODE_POST : COAP_REQUEST_CODE_PUT, command.path, number, {}, payload, format);
    }
  }
  void finish(uint32_t number, Result<> result) {
    const std::scoped_lock lock(mutex_);
    const auto found = sent_.find(number);
    if (found == sent_.end()) return;
    found->second->result = std::move(result);
    for (Resource& resource : options_.resources)  // what the device made of it
      if (resource.path.text == found->second->command->path.text && !resource.asked) resource.due = {};
    sent_.erase(found);
    done_.notify_all();
  }

  void ask_what_is_due() {
    const auto now = Clock::now();
    for (size_t i = 0; i < options_.resources.size() && failure_.empty(); i++) {
      Resource& resource = options_.resources[i];
      if (resource.asked || resource.due > now) continue;
      resource.asked = now;
      const auto observe = resource.observe ? std::optional<uint16_t>(COAP_OBSERVE_ESTABLISH) : std::nullopt;
      send(COAP_REQUEST_CODE_GET, resource.path, static_cast<uint32_t>(i), observe);
    }
    if (const auto since = waiting_since(); since && now - std::max(*since, heard_) > options_.patience())
      failure_ = "no answer";
  }
  [[nodiscard]] std::optional<Clock::time_point> waiting_since() {
    std::optional<Clock::time_point> first;
    const auto add = [&](Clock::time_point at) { first = first ? std::min(*first, at) : at; };
    for (const Resource& resource : options_.resources)
      if (resource.asked) add(*resource.asked);
    const std::scoped_lock lock(mutex_);
    for (const auto& [number, job] : sent_) add(job->asked);
    return first;
  }
  [[nodiscard]] milliseconds until_next() {
    auto next = session_ ? Clock::now() + std::chrono::hours(1) : next_try_;
    for (const Resource& resource : options_.resources)
      if (session_ && !resource.asked) next = std::min(next, resource.due);
    if (session_)
      if (const auto since = waiting_since()) next = std::min(next, std::max(*since, heard_) + options_.patience());
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(next - Clock::now()));
  }

  // The library calls these from coap_io_process() and coap_send(), on our thread.
  static coap_response_t on_response(coap_session_t* session, const coap_pdu_t* /*sent*/, const coap_pdu_t* received,
                                     coap_mid_t /*mid*/) {
    auto* self = static_cast<CoapAdapter*>(coap_session_get_app_data(session));
    return self->take(received) ? COAP_RESPONSE_OK : COAP_RESPONSE_FAIL;
  }
  static void on_nack(coap_session_t* session, const coap_pdu_t* sent, coap_nack_reason_t reason, coap_mid_t /*mid*/) {
    auto* self = static_cast<CoapAdapter*>(coap_session_get_app_data(session));
    const auto number = sent == nullptr ? std::nullopt : self->number_of(sent);
    if (reason != COAP_NACK_RST) {
      self->failure_ =
          reason == COAP_NACK_TLS_FAILED ? "DTLS was refused: compare psk_identity and psk_file" : "no answer";
    } else if (number && (*number & kIsWrite) != 0) {
      self->finish(*number, fail(Code::kInvalidArgument, "{} reset the message", self->options_.peer()));
    } else if (number && *number < self->options_.resources.size()) {
      self->refused(self->options_.resources[*number], "reset the message");
    }
  }

  // False: not wanted, and the device is told so (RST), which ends an observation that it kept from an earlier life of ours.
  bool take(const coap_pdu_t* pdu) {
    const auto number = number_of(pdu);
    const Answer answer = read_answer(pdu);
    if (!number || ((*number & kIsWrite) == 0 && *number >= options_.resources.size())) {
      counters_.refused++;
      return false;
    }
    alive();
    if ((*number & kIsWrite) != 0) {
      if (!answer.more || answer.code / 100 != 2)
        finish(*number, answer.code / 100 == 2 ? Result<>()
                                               : fail(Code::kInvalidArgument, "{} answered {}.{:02}", options_.peer(),
                                                      answer.code / 100, answer.code % 100));
      return true;
    }
    Resource& resource = options_.resources[*number];
    if (answer.code / 100 != 2)
      return refused(resource, fmt::format("answered {}.{:02}", answer.code / 100, answer.code % 100)), true;
    return take_body(resource, answer);
  }

  bool take_body(Resource& resource, const Answer& answer) {
    const auto now = Clock::now();
    if (answer.offset == 0) {
      if (answer.observe && !resource.asked && !newer(resource, *answer.observe, now)) return true;
      resource.observed = answer.observe.has_value();
      if (answer.observe) resource.sequence = *answer.observe, resource.sequence_at = now;
      resource.body.clear();
    }
    if (answer.offset != resource.body.size()) return true;  // a block of a body that was given up
    if (resource.body.size() + answer.bytes.size() > limits::kGatewayMessageBytes) {
      resource.body.clear();
      failure_ = fmt::format("{} sends more than {} bytes", resource.path.text, limits::kGatewayMessageBytes);
      return false;
    }
    resource.body += answer.bytes;
    if (answer.more) {
      resource.asked = now;
      return true;
    }
    resource.asked.reset();
    const auto fresh = std::clamp<milliseconds>(std::chrono::seconds(answer.max_age), options_.poll,
                                                std::max(options_.poll, options_.renew));
    resource.due = now + (resource.observed ? fresh : options_.poll);
    const int64_t now_is = now_ms();
    for (const Point& point : resource.points)
      for (const Found& found : values_of(resource.body, answer.format, point, signals_[point.signal].type, now_is)) {
        const Sample sample = make_sample(signals_[point.signal], point.signal, found.value, found.time_ms, now_is);
        (sample.quality == Quality::kBad ? counters_.refused : counters_.received)++;
        inputs_.sample(sample);
      }
    resource.body = {};
    return true;
  }
  // RFC 7641, 3.4: datagrams overtake each other.
  static bool newer(const Resource& resource, uint32_t sequence, Clock::time_point now) {
    constexpr uint32_t kHalf = 1u << 23;
    return !resource.observed || ((sequence - resource.sequence) & 0xFFFFFF) - 1 < kHalf - 1 ||
           now - resource.sequence_at > std::chrono::seconds(128);
  }

  void refused(Resource& resource, const std::string& why) {
    resource.asked.reset();
    resource.observed = false;
    resource.due = Clock::now() + options_.poll;
    counters_.state(true, fmt::format("{}: {}: {}", options_.peer(), resource.path.text, why));
    const int64_t now = now_ms();
    for (const Point& point : resource.points) {
      counters_.refused++;
      inputs_.sample(make_sample(signals_[point.signal], point.signal, std::nullopt, now, now));
    }
  }

  Options options_;
  const std::vector<Signal> signals_;
  std::vector<SignalId> all_;
  GatewayInputs inputs_;
  Counters counters_;
  Wake wake_;
  std::unique_ptr<coap_context_t, FreeContext>
      context_;  // these and below: of the thread, which alone calls the library
  std::unique_ptr<coap_session_t, FreeSession> session_;
  std::string failure_;  // set by callbacks: the session has to go
  uint32_t nonce_ = 0, next_write_ = 0;
  milliseconds pause_ = kFirstPause;
  Clock::time_point next_try_{}, heard_{};
  bool away_ = false;
  uint64_t connects_ = 0;
  std::mutex mutex_;
  std::condition_variable done_;
  bool running_ = false;
  std::vector<std::shared_ptr<Job>> jobs_;
  std::map<uint32_t, std::shared_ptr<Job>> sent_;
  std::jthread thread_;
};

void begin_library() {
  static std::once_flag once;
  std::call_once(once, [] {
    coap_startup();
    coap_set_log_handler([](coap_log_t, const char*) {});
    coap_dtls_set_log_level(LOG_EMERG);
  });
}

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  begin_library();
  Options options;
  options.host = TRY(table.needed_text("host"));
  options.identity = TRY(table.text("psk_identity", ""));
  const std::string key_file = TRY(table.text("psk_file", ""));
  if (options.identity.empty() != key_file.empty())
    return table.wrong("psk_identity", "goes with psk_file: both, or none");
  if (!key_file.empty()) {
    auto key = read_file(key_file, 4096);
    if (!key) return table.wrong("psk_file", key.error().message);
    options.key = key->substr(0, key->find_first_of("\r\n"));
    if (options.key.empty() || options.key.size() > 64)
      return table.wrong("psk_file",
                         fmt::format("its first line has {} bytes, has to have 1 to 64", options.key.size()));
  }
  options.port = static_cast<int>(TRY(table.integer("port", options.key.empty() ? 5683 : 5684, 1, 65535)));
  options.retries = static_cast<int>(TRY(table.integer("retries", 2, 0, 8)));
  options.poll = TRY(table.duration("poll", options.poll));
  options.renew = TRY(table.duration("renew", options.renew));
  options.timeout = TRY(table.duration("timeout", options.timeout));
  options.pause_max = TRY(table.duration("pause_max", options.pause_max));
  if (options.poll.count() < 10) return table.wrong("poll", "has to be 10ms or more");
  if (options.timeout.count() < 10 || options.timeout.count() > 60'000)
    return table.wrong("timeout", "has to be from 10ms to 1m");
  const SignalNames names(signals);
  const std::vector<ConfigTable> entries = TRY(table.tables("resource"));
  for (const ConfigTable& entry : entries)
    if (auto read = read_resource(entry, names, signals, options); !read) return std::unexpected(read.error());
  return std::make_unique<CoapAdapter>(std::move(options), signals);
}

// A message off the wire, and its body in each form.
void parse(std::string_view bytes) {
  begin_library();
  const auto try_body = [](std::string_view body) {
    for (const SignalType type : {SignalType::kBool, SignalType::kNumber, SignalType::kText})
      for (const uint16_t format : {kText, kJson, kSenml}) {
        (void)values_of(body, format, {.place = {}, .record = {}}, type, 0);
        (void)values_of(body, format, {.place = {"/value", {}}, .record = {}}, type, 0);
        (void)values_of(body, format, {.place = {}, .record = "urn:dev:t"}, type, 0);
      }
  };
  try_body(bytes);
  const std::unique_ptr<coap_pdu_t, decltype(&coap_delete_pdu)> pdu(
      coap_pdu_init(COAP_MESSAGE_CON, COAP_EMPTY_CODE, 0, bytes.size() + 64), &coap_delete_pdu);
  if (pdu &&
      coap_pdu_parse(COAP_PROTO_UDP, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), pdu.get()) != 0)
    try_body(read_answer(pdu.get()).bytes);
}

}  // namespace

AdapterKind coap_kind() { return {"coap", "CoAP devices, observed or asked, over UDP or DTLS", make, parse}; }

}  // namespace hearth::gateway
