// This machine in its site: says once a second that it is there, and knows who else is. Goes on when the broker is away, with what it
// heard last, and begins again by itself. Lists of revoked certificates are passed on the same way.
//
// A thread of its own; everything may be called from any.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "cluster/control_bus.h"
#include "cluster/members.h"
#include "net/relay.h"
#include "net/tls.h"

namespace hearth::cluster {

inline constexpr Bucket kNodesBucket{"hearth_nodes", std::chrono::seconds(30)};
inline constexpr Bucket kLeasesBucket{"hearth_leases", std::chrono::seconds(30)};

struct PresenceOptions {
  std::filesystem::path site;  // the folder
  // Its list of revoked certificates is kept new, and machines that are not to be reached directly are by way of the broker.
  std::shared_ptr<SiteTls> tls;
  // What this machine says of itself; name, start, heartbeat and revoked are filled in. Null: it only looks on.
  std::function<Member()> describe;
};

class Presence {
 public:
  // kNotFound if the site has no broker. It does not wait for one.
  static Result<std::unique_ptr<Presence>> start(PresenceOptions options);
  ~Presence();
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  // Who is there: with this machine, if it says so of itself.
  [[nodiscard]] std::vector<Member> members() const;
  [[nodiscard]] std::vector<Members::Seen> everybody() const;
  // Until the broker is there and everybody had time to answer; kIo if it is not by then.
  Result<void> wait(std::chrono::milliseconds patience);
  [[nodiscard]] bool connected() const;
  // Says something has changed: the next heartbeat comes at once.
  void beat_now();
  // The bus, as it is now; it is replaced when a broker refused this machine.
  [[nodiscard]] std::shared_ptr<ControlBus> bus() const;
  [[nodiscard]] const std::string& name() const { return bus_options_.name; }
  // Connections that come over the broker, and to which these go.
  [[nodiscard]] Relay& relay() { return *relay_; }
  [[nodiscard]] static Members::Time now();

 private:
  explicit Presence(PresenceOptions options) : options_(std::move(options)) {}
  void run(const std::stop_token& stop);
  Result<void> open_bus();
  void beat();
  void hear(std::string_view data);
  void hear_revoked(std::string_view list);
  void learn_from_broker();
  Result<Descriptor> dial_relayed(const std::string& address, std::chrono::milliseconds patience);

  PresenceOptions options_;
  BusOptions bus_options_;
  uint64_t started_ = 0, beat_ = 0;
  const Members::Time began_ = now();
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  Members members_;
  std::shared_ptr<ControlBus> bus_;
  std::unique_ptr<Relay> relay_;
  bool at_once_ = false, ask_ = true;  // a heartbeat is wanted; everybody's are
  bool tell_revoked_ = false;          // somebody has an older list
  std::jthread thread_;                // last
};

}  // namespace hearth::cluster
