// A process that runs until it is told to end, alone or under systemd.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>

namespace hearth::cli {

// Tells systemd what state this process is in ("READY=1"); nothing where nobody asked to be told ($NOTIFY_SOCKET).
void notify_service(std::string_view state);

// While one lives, SIGPIPE is ignored, and SIGINT, SIGTERM and SIGHUP wait for next(), in this thread and those started from it.
// One at a time, made before any thread is.
class ServiceSignals {
 public:
  ServiceSignals();
  ~ServiceSignals();
  ServiceSignals(const ServiceSignals&) = delete;
  ServiceSignals& operator=(const ServiceSignals&) = delete;

  enum class Signal { kNone, kEnd, kReload };
  // The next signal; kNone after `patience` (none: waits for ever). Feeds systemd's watchdog meanwhile, where there is one, as
  // long as all is `well`.
  Signal next(std::chrono::milliseconds patience = {}, const std::function<bool()>& well = {});
};

}  // namespace hearth::cli
