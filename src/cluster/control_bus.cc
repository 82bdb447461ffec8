#include "cluster/control_bus.h"

#include <nats/nats.h>

#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "base/freed.h"
#include "base/limits.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;

using Options = std::unique_ptr<natsOptions, Freed<natsOptions_Destroy>>;
using Connection = std::unique_ptr<natsConnection, Freed<natsConnection_Destroy>>;
using JetStream = std::unique_ptr<jsCtx, Freed<jsCtx_Destroy>>;
using Store = std::unique_ptr<kvStore, Freed<kvStore_Destroy>>;
using Entry = std::unique_ptr<kvEntry, Freed<kvEntry_Destroy>>;
using Watcher = std::unique_ptr<kvWatcher, Freed<kvWatcher_Destroy>>;
using OwnSubscription = std::unique_ptr<natsSubscription, Freed<natsSubscription_Destroy>>;
using Message = std::unique_ptr<natsMsg, Freed<natsMsg_Destroy>>;

constexpr int64_t kAgainMs = 400, kJitterMs = 200, kAnswerMs = 2000, kPingMs = 2000;

std::unexpected<Error> failed(std::string_view what, natsStatus status) {
  return fail(status == NATS_INVALID_ARG ? Code::kInvalidArgument : Code::kIo, "bus: {}: {}", what,
              natsStatus_GetText(status));
}

Result<void> checked(std::string_view what, natsStatus status) {
  if (status != NATS_OK) return failed(what, status);
  return {};
}

std::string_view data_of(natsMsg* message) {
  return {natsMsg_GetData(message), static_cast<size_t>(natsMsg_GetDataLength(message))};
}

BusEntry read_entry(kvEntry* entry) {
  return {.key = kvEntry_Key(entry),
          .value = {static_cast<const char*>(kvEntry_Value(entry)), static_cast<size_t>(kvEntry_ValueLen(entry))},
          .revision = kvEntry_Revision(entry)};
}

// A file of the site as the library wants it: by name. What is wrong with it is said by name too.
Result<void> set_tls(natsOptions* options, const BusOptions& from) {
  TRY(checked("TLS", natsOptions_SetSecure(options, true)));
  TRY(checked(from.authority.string(), natsOptions_LoadCATrustedCertificates(options, from.authority.c_str())));
  TRY(checked(from.certificate.string(),
              natsOptions_LoadCertificatesChain(options, from.certificate.c_str(), from.key.c_str())));
  TRY(checked("TLS", natsOptions_SetExpectedHostname(options, "broker.hearth")));
  return {};
}

Result<Options> make_options(const BusOptions& from) {
  natsOptions* made = nullptr;
  TRY(checked("options", natsOptions_Create(&made)));
  Options options(made);
  std::vector<std::string> urls;
  for (const std::string& broker : from.brokers) urls.push_back("tls://" + broker);
  std::vector<const char*> servers;
  for (const std::string& url : urls) servers.push_back(url.c_str());
  if (servers.empty()) return fail(Code::kInvalidArgument, "the site has no broker: hearth cluster init names one");
  TRY(checked("brokers", natsOptions_SetServers(made, servers.data(), static_cast<int>(servers.size()))));
  TRY(checked("brokers", natsOptions_SetNoRandomize(made, true)));
  TRY(checked("name", natsOptions_SetName(made, from.name.c_str())));
  // Who may hear the answers to one machine is the broker's to say.
  TRY(checked("name", natsOptions_SetCustomInboxPrefix(made, ("_INBOX." + from.name).c_str())));
  TRY(set_tls(made, from));
  TRY(checked("options", natsOptions_SetTimeout(made, kAnswerMs)));
  TRY(checked("options", natsOptions_SetMaxReconnect(made, -1)));
  TRY(checked("options", natsOptions_SetReconnectWait(made, kAgainMs)));
  TRY(checked("options", natsOptions_SetReconnectJitter(made, kJitterMs, kJitterMs)));
  TRY(checked("options", natsOptions_SetPingInterval(made, kPingMs)));
  TRY(checked("options", natsOptions_SetMaxPingsOut(made, 2)));
  TRY(checked("options", natsOptions_SetReconnectBufSize(made, 0)));  // what is old by then is not wanted
  TRY(checked("options", natsOptions_SetFailRequestsOnDisconnect(made, true)));
  TRY(checked("options", natsOptions_SetSendAsap(made, true)));
  return options;
}

}  // namespace

struct ControlBus::State {
  struct Heard {
    Handler handler;
    OwnSubscription subscription;
    ~Heard() { wait_for_end(); }
    // The library frees a subscription while its handler may still run.
    void wait_for_end() {
      if (!subscription) return;
      natsSubscription_SetOnCompleteCB(subscription.get(), [](void* self) { static_cast<Heard*>(self)->end(); }, this);
      natsSubscription_Unsubscribe(subscription.get());
      std::unique_lock lock(mutex);
      changed.wait_for(lock, std::chrono::seconds(5), [&] { return ended; });
    }
    void end() {
      const std::scoped_lock lock(mutex);
      ended = true;
      changed.notify_all();
    }
    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;
  };

  Connection connection;
  JetStream streams;
  std::mutex mutex;  // of what follows, and of calls that wait for the broker's answer
  std::map<std::string, Store> stores;
  std::map<std::string, std::shared_ptr<natsSubscription>> queues;
  std::vector<std::unique_ptr<Heard>> heard;

  Result<kvStore*> store(const Bucket& bucket);
  Result<void> make_queue(const BusQueue& queue);
  Result<std::shared_ptr<natsSubscription>> queue(const BusQueue& queue);
  // What was known of the broker's data is looked at anew.
  std::unexpected<Error> forget(const char* name, natsStatus status) {
    stores.erase(name);
    return failed(name, status);
  }
  Result<void> check_there() const;
};

Result<void> ControlBus::State::check_there() const {
  if (natsConnection_Status(connection.get()) == NATS_CONN_STATUS_CONNECTED) return {};
  return fail(Code::kIo, "bus: no broker of the site is reachable");
}

ControlBus::ControlBus(std::unique_ptr<State> state) : state_(std::move(state)) {}
ControlBus::~ControlBus() { close(); }

Result<std::unique_ptr<ControlBus>> ControlBus::open(const BusOptions& from) {
  const Options options = TRY(make_options(from));
  auto state = std::make_unique<State>();
  const auto nothing = [](natsConnection*, void*) {};
  TRY(checked("options", natsOptions_SetRetryOnFailedConnect(options.get(), true, nothing, nullptr)));
  natsConnection* connection = nullptr;
  const natsStatus status = natsConnection_Connect(&connection, options.get());
  if (status != NATS_OK && status != NATS_NOT_YET_CONNECTED) return failed("connecting", status);
  state->connection.reset(connection);
  jsOptions js;
  jsOptions_Init(&js);
  js.Wait = kAnswerMs;
  jsCtx* streams = nullptr;
  TRY(checked("streams", natsConnection_JetStream(&streams, connection, &js)));
  state->streams.reset(streams);
  return std::unique_ptr<ControlBus>(new ControlBus(std::move(state)));
}

void ControlBus::close() {
  std::vector<std::unique_ptr<State::Heard>> heard;
  {
    const std::scoped_lock lock(state_->mutex);
    heard.swap(state_->heard);
  }
  heard.clear();
  natsConnection_Close(state_->connection.get());
}

bool ControlBus::over() const { return natsConnection_Status(state_->connection.get()) == NATS_CONN_STATUS_CLOSED; }

std::string ControlBus::local_address() const {
  char* address = nullptr;
  int port = 0;
  if (natsConnection_GetLocalIPAndPort(state_->connection.get(), &address, &port) != NATS_OK) return "";
  std::string text = address;
  std::free(address);
  return text;
}

bool ControlBus::connected() const { return state_->check_there().has_value(); }

Result<void> ControlBus::wait(milliseconds patience) const {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!connected() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(20));
  return state_->check_there();
}

Result<void> ControlBus::publish(std::string_view subject, std::string_view data) {
  TRY(state_->check_there());
  TRY(checked(subject, natsConnection_Publish(state_->connection.get(), std::string(subject).c_str(), data.data(),
                                              static_cast<int>(data.size()))));
  return {};
}

Result<void> ControlBus::flush(milliseconds patience) {
  TRY(checked("flush", natsConnection_FlushTimeout(state_->connection.get(), patience.count())));
  return {};
}

Result<void> ControlBus::subscribe(const std::string& subject, Handler handler) {
  auto heard = std::make_unique<State::Heard>();
  heard->handler = std::move(handler);
  natsSubscription* subscription = nullptr;
  TRY(checked(subject, natsConnection_Subscribe(
                           &subscription, state_->connection.get(), subject.c_str(),
                           [](natsConnection*, natsSubscription*, natsMsg* message, void* self) {
                             const Message owned(message);
                             static_cast<State::Heard*>(self)->handler(natsMsg_GetSubject(message), data_of(message));
                           },
                           heard.get())));
  heard->subscription.reset(subscription);
  const std::scoped_lock lock(state_->mutex);
  state_->heard.push_back(std::move(heard));
  return {};
}

// With the lock held.
Result<kvStore*> ControlBus::State::store(const Bucket& bucket) {
  TRY(check_there());
  Store& place = stores[bucket.name];
  if (place) return place.get();
  kvStore* made = nullptr;
  natsStatus status = js_KeyValue(&made, streams.get(), bucket.name);
  if (status == NATS_NOT_FOUND) {
    kvConfig config;
    kvConfig_Init(&config);
    config.Bucket = bucket.name;
    config.History = 1;
    config.TTL = std::chrono::duration_cast<std::chrono::nanoseconds>(bucket.kept).count();
    config.MaxValueSize = static_cast<int32_t>(limits::kPemBytes);
    status = js_CreateKeyValue(&made, streams.get(), &config);
  }
  if (status != NATS_OK) return forget(bucket.name, status);
  place.reset(made);
  return made;
}

Result<void> ControlBus::put(const Bucket& bucket, const std::string& key, std::string_view value) {
  const std::scoped_lock lock(state_->mutex);
  kvStore* store = TRY(state_->store(bucket));
  const natsStatus status = kvStore_Put(nullptr, store, key.c_str(), value.data(), static_cast<int>(value.size()));
  if (status != NATS_OK) return state_->forget(bucket.name, status);
  return {};
}

Result<std::optional<BusEntry>> ControlBus::get(const Bucket& bucket, const std::string& key) {
  const std::scoped_lock lock(state_->mutex);
  kvStore* store = TRY(state_->store(bucket));
  kvEntry* found = nullptr;
  const natsStatus status = kvStore_Get(&found, store, key.c_str());
  if (status == NATS_NOT_FOUND) return std::nullopt;
  if (status != NATS_OK) return state_->forget(bucket.name, status);
  const Entry entry(found);
  return read_entry(found);
}

Result<std::vector<BusEntry>> ControlBus::all(const Bucket& bucket) {
  const std::scoped_lock lock(state_->mutex);
  kvStore* store = TRY(state_->store(bucket));
  kvWatchOptions options;
  kvWatchOptions_Init(&options);
  options.IgnoreDeletes = true;
  kvWatcher* made = nullptr;
  natsStatus status = kvStore_WatchAll(&made, store, &options);
  if (status != NATS_OK) return state_->forget(bucket.name, status);
  const Watcher watcher(made);  // it goes at once: watchers that stay come twice after a lost connection
  std::vector<BusEntry> entries;
  for (;;) {
    kvEntry* next = nullptr;
    status = kvWatcher_Next(&next, made, kAnswerMs);
    if (status != NATS_OK) return state_->forget(bucket.name, status);
    if (!next) break;  // that were all
    const Entry entry(next);
    entries.push_back(read_entry(next));
  }
  kvWatcher_Stop(made);
  return entries;
}

Result<std::optional<uint64_t>> ControlBus::write_if(const Bucket& bucket, const std::string& key,
                                                     std::string_view value, uint64_t revision) {
  const std::scoped_lock lock(state_->mutex);
  kvStore* store = TRY(state_->store(bucket));
  uint64_t made = 0;
  const int bytes = static_cast<int>(value.size());
  const natsStatus status = revision == 0 ? kvStore_Create(&made, store, key.c_str(), value.data(), bytes)
                                          : kvStore_Update(&made, store, key.c_str(), value.data(), bytes, revision);
  if (status == NATS_OK) return made;
  // The library hides the broker's number; whether somebody else was first, the entry itself says.
  kvEntry* found = nullptr;
  const natsStatus read = kvStore_Get(&found, store, key.c_str());
  const Entry entry(found);
  if (read == NATS_OK && kvEntry_Revision(found) != revision) return std::nullopt;
  if (read == NATS_NOT_FOUND && revision != 0) return std::nullopt;
  return state_->forget(bucket.name, status);
}

// With the lock held.
Result<void> ControlBus::State::make_queue(const BusQueue& queue) {
  TRY(check_there());
  jsStreamConfig config;
  jsStreamConfig_Init(&config);
  const char* subjects[] = {queue.subjects};
  config.Name = queue.name;
  config.Subjects = subjects;
  config.SubjectsLen = 1;
  config.Retention = js_WorkQueuePolicy;
  config.Storage = js_FileStorage;
  config.Duplicates = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::hours(24)).count();
  jsStreamInfo* info = nullptr;
  natsStatus status = js_GetStreamInfo(&info, streams.get(), queue.name, nullptr, nullptr);
  if (status == NATS_NOT_FOUND) status = js_AddStream(&info, streams.get(), &config, nullptr, nullptr);
  jsStreamInfo_Destroy(info);
  if (status != NATS_OK) return failed(queue.name, status);
  return {};
}

Result<std::shared_ptr<natsSubscription>> ControlBus::State::queue(const BusQueue& queue) {
  const std::scoped_lock lock(mutex);
  std::shared_ptr<natsSubscription>& place = queues[queue.name];
  if (place) return place;
  TRY(make_queue(queue));
  natsSubscription* made = nullptr;
  TRY(checked(queue.name, js_PullSubscribe(&made, streams.get(), queue.subjects, "takers", nullptr, nullptr, nullptr)));
  place = std::shared_ptr<natsSubscription>(made, natsSubscription_Destroy);
  return place;
}

Result<void> ControlBus::make(const BusQueue& queue) {
  const std::scoped_lock lock(state_->mutex);
  return state_->make_queue(queue);
}

Result<void> ControlBus::post(const std::string& subject, const std::string& id, std::string_view data) {
  TRY(state_->check_there());
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.MsgId = id.c_str();
  options.MaxWait = kAnswerMs;
  TRY(checked(subject, js_Publish(nullptr, state_->streams.get(), subject.c_str(), data.data(),
                                  static_cast<int>(data.size()), &options, nullptr)));
  return {};
}

Result<bool> ControlBus::take(const BusQueue& queue,
                              const std::function<bool(std::string_view, std::string_view)>& done,
                              milliseconds patience) {
  std::shared_ptr<natsSubscription> from = TRY(state_->queue(queue));
  natsMsgList list{};
  const natsStatus status = natsSubscription_Fetch(&list, from.get(), 1, patience.count(), nullptr);
  if (status == NATS_TIMEOUT) return false;
  if (status != NATS_OK) {
    const std::scoped_lock lock(state_->mutex);
    state_->queues.erase(queue.name);
    return failed(queue.name, status);
  }
  natsMsg* message = list.Msgs[0];
  const bool taken = done(natsMsg_GetSubject(message), data_of(message));
  const natsStatus said =
      taken ? natsMsg_AckSync(message, nullptr, nullptr) : natsMsg_NakWithDelay(message, 1000, nullptr);
  natsMsgList_Destroy(&list);
  if (said != NATS_OK) return failed(queue.name, said);
  return true;
}

}  // namespace hearth::cluster
