#include "serve/doors.h"

#include <algorithm>
#include <boost/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/door_exchange.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kBeat{400};
constexpr std::chrono::seconds kLibraryFresh{5};
constexpr size_t kPrefixBytes = 512, kPrefixBlocksMax = 64, kPrefixesMax = 1 << 14;

double mean(double before, double now) { return before > 0 ? before * 0.8 + now * 0.2 : now; }

// Digests of the prompt's beginnings, each a block longer.
std::vector<size_t> beginnings(const std::string& tenant, std::string_view prompt) {
  std::vector<size_t> digests;
  size_t digest = std::hash<std::string>()(tenant);
  for (size_t i = 0; i < std::min(prompt.size() / kPrefixBytes, kPrefixBlocksMax); ++i) {
    digest = digest * 1099511628211u ^ std::hash<std::string_view>()(prompt.substr(i * kPrefixBytes, kPrefixBytes));
    digests.push_back(digest);
  }
  return digests;
}

template <typename T>
void read(const json::object& object, std::string_view name, T& into) {
  const json::value* value = object.if_contains(name);
  if (!value) return;
  if (auto read = json::try_value_to<T>(*value)) into = std::move(*read);
}

}  // namespace

json::object to_json(const DoorState& state) {
  json::array models;
  for (const DoorModel& model : state.models)
    models.push_back({{"name", model.name},
                      {"digest", model.digest},
                      {"loaded", model.loaded},
                      {"running", model.running},
                      {"waiting", model.waiting},
                      {"bytes", model.bytes}});
  json::object out{{"name", state.name},
                   {"computing", state.computing},
                   {"draining", state.draining},
                   {"slots", state.slots},
                   {"queue_max", state.queue_max},
                   {"decode_rate", state.decode_rate},
                   {"prompt_rate", state.prompt_rate},
                   {"answer_seconds", state.answer_seconds},
                   {"share", state.power.share}};
  if (state.power.battery_percent) out["battery_percent"] = *state.power.battery_percent;
  if (state.room_bytes) out["room_bytes"] = *state.room_bytes;
  out["models"] = std::move(models);
  return out;
}

Result<DoorState> parse_door_state(std::string_view text) {
  const json::value value = TRY(parse_json(text, {.depth = 4, .bytes = limits::kDoorStateBytes}));
  const json::object* object = value.if_object();
  if (!object) return fail(Code::kMalformed, "a door's state is no object");
  DoorState state;
  read(*object, "name", state.name);
  read(*object, "computing", state.computing);
  read(*object, "draining", state.draining);
  read(*object, "slots", state.slots);
  read(*object, "queue_max", state.queue_max);
  read(*object, "decode_rate", state.decode_rate);
  read(*object, "prompt_rate", state.prompt_rate);
  read(*object, "answer_seconds", state.answer_seconds);
  read(*object, "share", state.power.share);
  double battery = -1;
  read(*object, "battery_percent", battery);
  if (battery >= 0) state.power.battery_percent = std::min(battery, 100.0);
  int64_t room = -1;
  read(*object, "room_bytes", room);
  if (room >= 0) state.room_bytes = room;
  constexpr int kCountMax = 1 << 20;
  const auto bound = [](double& rate) { rate = rate > 0 ? std::min(rate, 1e9) : 0; };
  for (double* rate : {&state.decode_rate, &state.prompt_rate, &state.answer_seconds}) bound(*rate);
  state.slots = std::clamp(state.slots, 1, kCountMax);
  state.power.share = std::clamp(state.power.share, 0.01, 1.0);
  const json::value* models = object->if_contains("models");
  if (!models || !models->is_array()) return state;
  for (const json::value& each : models->get_array()) {
    const json::object* given = each.if_object();
    if (!given) return fail(Code::kMalformed, "a door's state has a model that is no object");
    DoorModel& model = state.models.emplace_back();
    read(*given, "name", model.name);
    read(*given, "digest", model.digest);
    read(*given, "loaded", model.loaded);
    read(*given, "running", model.running);
    read(*given, "waiting", model.waiting);
    read(*given, "bytes", model.bytes);
    model.running = std::clamp(model.running, 0, kCountMax), model.waiting = std::clamp(model.waiting, 0, kCountMax);
  }
  return state;
}

Door::Door(std::string address, const DoorOptions& options)
    : address_(std::move(address)), site_(options.site ? &*options.site : nullptr), lost_after_(options.lost_after) {}

Result<Url> Door::url(std::string_view path) const {
  return parse_url(fmt::format("{}://{}{}", site_ ? "https" : "http", address_, path));
}

DoorState Door::state() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

void Door::look(HttpCaller& caller) {
  const auto url = this->url("/api/hearth/door");
  if (!url) return;
  const auto begin = Clock::now();
  const auto reply = caller.call(*url, {.method = "GET",
                                        .site = site_,
                                        .total_max = lost_after_,
                                        .connect_max = lost_after_,
                                        .answer_bytes_max = limits::kDoorStateBytes});
  auto state = reply && reply->status == 200 ? parse_door_state(reply->body)
                                             : fail(Code::kIo, "{}: status {}", address_, reply ? reply->status : 0);
  if (!state) {
    if (lives_.exchange(false))
      LOG(kWarning, "the door at {} is lost: {}", address_, reply ? state.error().message : reply.error().message);
    return;
  }
  latency_ = std::chrono::duration<double>(Clock::now() - begin).count();
  sent_ = 0;
  {
    const std::scoped_lock lock(mutex_);
    state_ = std::move(*state);
  }
  if (!lives_.exchange(true)) LOG(kInfo, "the door at {} answers", address_);
}

Doors::Doors(Server& server, DoorOptions options)
    : server_(server),
      options_(std::move(options)),
      beats_([this](const std::stop_token& stop) { beat(stop); }),
      watches_([this](const std::stop_token& stop) { keep_watch(stop); }) {}

Doors::~Doors() {
  watches_ = {};
  beats_ = {};
  others_.clear();
}

void Doors::pause(const std::stop_token& stop, milliseconds time) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, stop, time, [] { return false; });
}

// A thread for each of the others, which asks how it is; one that does not answer keeps nobody else waiting.
void Doors::keep_watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<std::string> wanted = options_.others();
    wanted.resize(std::min<size_t>(wanted.size(), limits::kDoors));
    std::vector<Watched> gone;
    {
      const std::scoped_lock lock(mutex_);
      for (auto it = others_.begin(); it != others_.end();) {
        if (std::ranges::find(wanted, it->first) != wanted.end()) {
          ++it;
          continue;
        }
        gone.push_back(std::move(it->second));
        it = others_.erase(it);
      }
      for (const std::string& address : wanted) {
        if (others_.contains(address)) continue;
        auto door = std::make_shared<Door>(address, options_);
        others_[address] = {door, std::jthread([this, door](const std::stop_token& end) {
                              HttpCaller caller;
                              while (!end.stop_requested()) {
                                door->look(caller);
                                if (door->lives()) share_alone(*door);
                                pause(end, options_.look_every);
                              }
                            })};
      }
    }
    gone.clear();
    pause(stop, options_.look_every * 4);
  }
}

void Doors::beat(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pause(stop, kBeat);
    std::vector<std::shared_ptr<DoorExchange>> living;
    {
      const std::scoped_lock lock(mutex_);
      std::erase_if(answering_, [](const auto& each) { return each.expired(); });
      for (const auto& each : answering_)
        if (auto exchange = each.lock()) living.push_back(std::move(exchange));
    }
    for (const auto& exchange : living) exchange->beat();
  }
}

void Doors::keep_alive(std::weak_ptr<DoorExchange> exchange) {
  const std::scoped_lock lock(mutex_);
  answering_.push_back(std::move(exchange));
}

std::vector<std::shared_ptr<Door>> Doors::others() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<Door>> doors;
  for (const auto& [address, watched] : others_) doors.push_back(watched.door);
  return doors;
}

json::array Doors::others_shown() const {
  json::array shown;
  for (const auto& door : others()) {
    json::object state = to_json(door->state());
    state["address"] = door->address();
    state["lives"] = door->lives();
    shown.emplace_back(std::move(state));
  }
  return shown;
}

DoorState Doors::own_state() {
  DoorState state{.name = options_.name,
                  .computing = options_.computing,
                  .draining = server_.draining(),
                  .slots = options_.slots,
                  .queue_max = options_.queue_max};
  if (options_.power) state.power = options_.power();
  state.room_bytes = server_.catalog().room_bytes();
  for (const LoadedState& each : server_.catalog().loaded()) {
    if (!each.model->engine) continue;
    const EngineStats stats = each.model->engine->stats();
    state.models.push_back({each.model->name, each.model->digest, true, stats.running, stats.waiting + stats.parked});
  }
  const auto now = Clock::now();
  std::unique_lock lock(mutex_);
  if (library_.empty() || now - library_read_ > kLibraryFresh) {
    library_read_ = now;
    lock.unlock();
    std::vector<DoorModel> library;
    for (const ListedModel& model : server_.catalog().list())
      library.push_back({.name = model.source.name, .digest = model.source.digest, .bytes = model.source.bytes});
    lock.lock();
    library_ = std::move(library);
  }
  for (const DoorModel& model : library_)
    if (std::ranges::find(state.models, model.name, &DoorModel::name) == state.models.end())
      state.models.push_back(model);
  state.decode_rate = decode_rate_, state.prompt_rate = prompt_rate_, state.answer_seconds = answer_seconds_;
  return state;
}

void Doors::note_answer(const Record& record) {
  if (record.elsewhere || record.decode_seconds <= 0 || record.completion_tokens < 2) return;
  const std::scoped_lock lock(mutex_);
  decode_rate_ = mean(decode_rate_, record.completion_tokens / record.decode_seconds);
  answer_seconds_ = mean(answer_seconds_, record.prefill_seconds + record.decode_seconds);
  const int ran = record.prompt_tokens - record.cached_tokens;
  if (ran > 16 && record.prefill_seconds > 0) prompt_rate_ = mean(prompt_rate_, ran / record.prefill_seconds);
}

std::map<std::string, size_t> Doors::known_prefixes(const std::string& tenant, std::string_view prompt) {
  std::map<std::string, size_t> known;
  const std::vector<size_t> digests = beginnings(tenant, prompt);
  const std::scoped_lock lock(mutex_);
  for (size_t i = digests.size(); i-- > 0;)
    if (const auto found = prefixes_.find(digests[i]); found != prefixes_.end())
      known.try_emplace(found->second, (i + 1) * kPrefixBytes);
  return known;
}

void Doors::note_prefix(const std::string& tenant, std::string_view prompt, const std::string& address) {
  const std::vector<size_t> digests = beginnings(tenant, prompt);
  const std::scoped_lock lock(mutex_);
  if (prefixes_.size() + digests.size() > kPrefixesMax) prefixes_.clear();  // what is in use is soon there again
  for (const size_t digest : digests) prefixes_[digest] = address;
}

Result<HttpReply> Doors::ask(const Door& door, std::string_view path, std::string_view body) {
  const Url url = TRY(door.url(path));
  return http_call(url, {.body = body,
                         .site = options_.site ? &*options_.site : nullptr,
                         .total_max = options_.lost_after,
                         .connect_max = options_.lost_after,
                         .answer_bytes_max = limits::kDoorRecordBytes,
                         .cancelled = [this] { return stopped(); }});
}

void Doors::keep(const std::shared_ptr<const AnswerRecord>& record) {
  records_.put(record);
  if (record->reach == Reach::kLocal) return;
  for (const auto& door : others())
    if (door->lives() && keep_at(*door, *record)) return;
  const std::scoped_lock lock(mutex_);
  alone_.emplace_back(record->owner(), record->request_id);
  if (alone_.size() > limits::kDoorRecords) alone_.pop_front();
}

bool Doors::keep_at(const Door& door, const AnswerRecord& record) {
  const auto kept = ask(door, "/api/hearth/door/records", to_bytes(record));
  return kept && kept->status == 200;
}

// Records that no other door had when they were made: one that lives now gets those that are still kept.
void Doors::share_alone(const Door& door) {
  for (;;) {
    std::pair<std::string, std::string> name;
    {
      const std::scoped_lock lock(mutex_);
      if (alone_.empty() || stopped_) return;
      name = std::move(alone_.front());
      alone_.pop_front();
    }
    const auto record = records_.find(name.first, name.second);
    if (!record || keep_at(door, *record)) continue;
    const std::scoped_lock lock(mutex_);
    alone_.push_front(std::move(name));
    return;
  }
}

std::shared_ptr<const AnswerRecord> Doors::find_elsewhere(const std::string& owner, const std::string& request_id) {
  const std::string wanted = json::serialize(json::object{{"owner", owner}, {"request_id", request_id}});
  for (const auto& door : others()) {
    if (!door->lives()) continue;
    const auto found = ask(*door, "/api/hearth/door/records/find", wanted);
    if (!found || found->status != 200) continue;
    auto record = parse_record(found->body);
    if (record && record->owner() == owner) return std::make_shared<const AnswerRecord>(std::move(*record));
  }
  return nullptr;
}

Counter& Doors::counter(std::string_view name, std::string_view help, const Labels& labels) {
  return server_.metrics().counter(name, help, labels);
}

void Doors::write_metrics(Exposition& out) {
  out.family("hearth_door_up", "gauge", "Whether another machine's door answers");
  for (const auto& door : others()) out.sample({{"door", door->address()}}, door->lives() ? 1 : 0);
  out.family("hearth_door_records", "gauge", "Requests that may be resumed here");
  out.sample({}, static_cast<double>(records_.size()));
  if (options_.cloud) options_.cloud->write_metrics(out);
}

}  // namespace hearth::serve
