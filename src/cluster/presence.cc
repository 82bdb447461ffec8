#include "cluster/presence.h"

#include <array>
#include <bit>

#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "cluster/authority.h"
#include "cluster/broker.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAnswers{300};        // so long an answer to "who is there?" takes on a busy machine
constexpr milliseconds kRelayed{500};        // so long a machine takes at most to accept what the broker brings
constexpr milliseconds kFirstAnswers{1500};  // until then who is there may not have been heard
constexpr int kKeepEvery = 5;                // heartbeats, of which the broker keeps one

uint64_t milliseconds_since_1970() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
}

uint64_t random_number() {
  std::array<std::byte, sizeof(uint64_t)> bytes{};
  fill_random(bytes);
  return std::bit_cast<uint64_t>(bytes);
}

}  // namespace

Members::Time Presence::now() {
  return std::chrono::duration_cast<Members::Time>(std::chrono::steady_clock::now().time_since_epoch());
}

Result<std::unique_ptr<Presence>> Presence::start(PresenceOptions options) {
  std::unique_ptr<Presence> made(new Presence(std::move(options)));
  const std::filesystem::path& site = made->options_.site;
  const std::string own = TRY(read_file(site / "machine.pem", limits::kPemBytes));
  made->bus_options_ = {.brokers = TRY(site_brokers(site)),
                        .authority = site / "authority.pem",
                        .certificate = site / "machine.pem",
                        .key = site / "machine.key",
                        .name = {}};
  if (made->bus_options_.brokers.empty())
    return fail(Code::kNotFound,
                "{}: no broker is known in this site; `hearth cluster init --broker HOST:PORT` makes "
                "the configuration of one",
                (site / "brokers").string());
  CertificateName name = TRY(certificate_name(own));
  made->bus_options_.name = std::move(name.name);
  made->started_ = milliseconds_since_1970();
  // Who only looks on has to be told apart from others that do.
  const std::string process =
      made->options_.describe ? made->options_.describe().process : fmt::format("looks-{:016x}", random_number());
  made->relay_ = std::make_unique<Relay>(RelayEnd{made->bus_options_.name, process},
                                         [raw = made.get()](std::string_view subject, std::string_view data) {
                                           return raw->bus()->publish(subject, data);
                                         });
  TRY(made->open_bus());
  made->options_.tls->set_detour([raw = made.get()](const std::string& address, milliseconds patience) {
    return raw->dial_relayed(address, patience);
  });
  made->thread_ = std::jthread([raw = made.get()](const std::stop_token& stop) { raw->run(stop); });
  return made;
}

Presence::~Presence() {
  options_.tls->set_detour(nullptr);
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  const std::shared_ptr<ControlBus> bus = this->bus();
  if (options_.describe && bus->connected()) {
    Member gone = options_.describe();
    gone.name = bus_options_.name, gone.started = started_, gone.beat = UINT64_MAX;
    (void)bus->publish("hearth.beat." + gone.name, to_json(gone));
    (void)bus->flush(milliseconds(500));
  }
  bus->close();
}

Result<void> Presence::open_bus() {
  std::shared_ptr<ControlBus> bus = TRY(ControlBus::open(bus_options_));
  TRY(bus->subscribe("hearth.beat.>", [this](std::string_view, std::string_view data) { hear(data); }));
  TRY(bus->subscribe("hearth.hello", [this](std::string_view, std::string_view) { beat_now(); }));
  TRY(bus->subscribe(relay_->subjects(),
                     [this](std::string_view subject, std::string_view data) { relay_->hear(subject, data); }));
  TRY(bus->subscribe("hearth.revoked", [this](std::string_view, std::string_view list) { hear_revoked(list); }));
  const std::scoped_lock lock(mutex_);
  bus_ = std::move(bus);
  ask_ = true;
  return {};
}

void Presence::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const std::shared_ptr<ControlBus> bus = this->bus();
    if (bus->over()) {
      bus->close();
      if (auto opened = open_bus(); !opened) LOG(kWarning, "{}", opened.error().message);
    } else if (bus->connected()) {
      beat();
    } else {
      const std::scoped_lock lock(mutex_);
      ask_ = true;
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, bus->connected() ? milliseconds(Members::kBeat) : milliseconds(100),
                      [&] { return at_once_; });
    at_once_ = false;
  }
}

void Presence::beat() {
  bool ask = false, tell = false;
  {
    const std::scoped_lock lock(mutex_);
    std::swap(ask, ask_), std::swap(tell, tell_revoked_);
  }
  const std::shared_ptr<ControlBus> bus = this->bus();
  if (ask) {
    learn_from_broker();
    (void)bus->publish("hearth.hello", "");
  }
  if (tell)
    if (const auto list = read_revoked(options_.site); list && !list->empty())
      (void)bus->publish("hearth.revoked", *list);
  if (!options_.describe) return;
  Member own = options_.describe();
  own.name = bus_options_.name;
  own.started = started_;
  own.beat = ++beat_;
  own.revoked = options_.tls->revoked()->number();
  const std::string text = to_json(own);
  (void)bus->publish("hearth.beat." + own.name, text);
  if (own.beat % kKeepEvery == 1)
    if (const auto kept = bus->put(kNodesBucket, own.key(), text); !kept) LOG(kDebug, "{}", kept.error().message);
}

void Presence::learn_from_broker() {
  const auto kept = bus()->all(kNodesBucket);
  if (!kept) {
    LOG(kDebug, "{}", kept.error().message);
    return;
  }
  for (const BusEntry& entry : *kept) {
    auto member = parse_member(entry.value);
    if (!member || member->key() != entry.key) continue;
    const std::scoped_lock lock(mutex_);
    members_.told(std::move(*member), now());
  }
}

void Presence::hear(std::string_view data) {
  auto member = parse_member(data);
  if (!member) {
    LOG(kInfo, "{}", member.error().message);
    return;
  }
  const uint64_t newest = options_.tls->revoked()->number();
  const std::scoped_lock lock(mutex_);
  if (member->revoked < newest && member->beat != UINT64_MAX) tell_revoked_ = true;
  if (member->beat == UINT64_MAX) return members_.left(*member);
  members_.heard(std::move(*member), now());
}

void Presence::hear_revoked(std::string_view list) {
  const auto taken = take_revoked(options_.site, *options_.tls->revoked(), list);
  if (!taken)
    LOG(kWarning, "{}", taken.error().message);
  else if (*taken)
    LOG(kInfo, "list {} of revoked certificates", options_.tls->revoked()->number());
}

// Only to who was heard lately: a machine that is gone costs nobody a wait.
Result<Descriptor> Presence::dial_relayed(const std::string& address, milliseconds patience) {
  const Members::Time end = std::min(now() + patience, began_ + kFirstAnswers);
  for (;;) {
    for (const Member& member : members())
      if (member.stages_at == address) return relay_->dial({member.name, member.process}, std::min(patience, kRelayed));
    if (now() >= end) return fail(Code::kNotFound, "{}: no machine of the site says that it is there", address);
    std::this_thread::sleep_for(milliseconds(20));
  }
}

std::vector<Member> Presence::members() const {
  const std::scoped_lock lock(mutex_);
  return members_.snapshot(now());
}

std::vector<Members::Seen> Presence::everybody() const {
  const std::scoped_lock lock(mutex_);
  return members_.everybody(now());
}

std::shared_ptr<ControlBus> Presence::bus() const {
  const std::scoped_lock lock(mutex_);
  return bus_;
}

bool Presence::connected() const { return bus()->connected(); }

void Presence::beat_now() {
  const std::scoped_lock lock(mutex_);
  at_once_ = true;
  changed_.notify_all();
}

Result<void> Presence::wait(milliseconds patience) {
  TRY(bus()->wait(patience));
  beat_now();
  std::this_thread::sleep_for(kAnswers);
  return {};
}

}  // namespace hearth::cluster
