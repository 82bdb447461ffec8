// One protocol: signals in from devices, values out to them, samples out to whoever listens. One file per protocol, one line in all.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/config.h"
#include "gateway/signal.h"

namespace hearth::gateway {

struct AdapterFigures {
  bool connected = false;
  uint64_t received = 0, sent = 0, refused = 0,
           reconnects = 0;  // samples in, samples and writes out, malformed or not listed
  std::string state;        // for people: "connected to broker:1883", "no answer from 10.0.0.7: next try in 4 s"
};

// What an adapter may do to the gateway. Callable from any thread of the adapter; never blocks for long, never throws.
struct GatewayInputs {
  std::function<void(const Sample&)> sample;
  // A command from outside (Home Assistant, NCMD, a webhook) wants this value: goes through the guard like any decision.
  // `source` names who asked, for the audit.
  std::function<void(const Write&, std::string_view source)> request;
  // Somebody outside confirms what waits with its token: the guard is asked again.
  std::function<void(std::string_view token, std::string_view source)> confirm;
  // The device or peer that `signals` come from is away (true) or back (false): samples turn stale.
  std::function<void(std::span<const SignalId> signals, bool away)> away;
};

class Adapter {
 public:
  virtual ~Adapter() = default;
  // Connects in a thread of its own and keeps trying with a growing pause: kInvalidArgument only for what can never work.
  virtual Result<> start(GatewayInputs inputs) = 0;
  // A sample for those who listen on the far side (Home Assistant, a Sparkplug host, a webhook). kBusy or kIo: not taken, comes again.
  // An adapter that only reads answers kUnsupported.
  virtual Result<> publish(const Sample& sample) = 0;
  // A value for a device, checked by the guard before. Returns once the device has taken it, with what was read back where the
  // protocol can. kNotFound: the signal is not one of this adapter's writable ones, whatever the guard said.
  virtual Result<> write(const Write& write) = 0;
  // What waits for a person now, oldest first; nothing since start(). Never waits for the far side.
  virtual void show_pending(std::span<const Pending> /*pending*/) {}
  virtual void stop() = 0;  // ends threads, says goodbye (offline, NDEATH); start() may follow
  virtual AdapterFigures figures() const = 0;
};

struct AdapterKind {
  std::string_view name;  // `type` in the profile
  std::string_view what;  // a line for people
  // Reads the adapter's part of the profile. Errors name the line and the remedy.
  Result<std::unique_ptr<Adapter>> (*make)(const ConfigTable& table, std::span<const Signal> signals);
  // What a peer may send, as bytes of one message: for the fuzz target and the conformance test. Never throws, never reads further.
  void (*parse)(std::string_view bytes);
};
// Every kind there is (all.cc).
std::span<const AdapterKind> adapter_kinds();

}  // namespace hearth::gateway
