#include "cli/service.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>

#include "base/descriptor.h"
#include "cli/settings.h"

namespace hearth::cli {
namespace {

constexpr std::string_view kSignOfLife = "WATCHDOG=1";

sigset_t service_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

// Half of the time systemd waits for a sign of life; empty if it does not.
std::optional<std::chrono::milliseconds> watchdog_interval() {
  const std::string text = environment("WATCHDOG_USEC");
  int64_t microseconds = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), microseconds).ec != std::errc() || microseconds <= 0)
    return std::nullopt;
  return std::chrono::milliseconds(std::max<int64_t>(microseconds / 2000, 1));
}

}  // namespace

void notify_service(std::string_view state) {
  const std::string path = environment("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) return;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // a name without a file
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Signs of life are many: where systemd has not read the last ones yet, this one may be lost, but nothing may wait.
  const int wait = state == kSignOfLife ? MSG_DONTWAIT : 0;
  ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | wait, reinterpret_cast<const sockaddr*>(&address),
           static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size()));
}

ServiceSignals::ServiceSignals() {
  ::signal(SIGPIPE, SIG_IGN);  // a client or collector that goes is an error of that connection
  const sigset_t set = service_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

ServiceSignals::~ServiceSignals() {
  const sigset_t set = service_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

ServiceSignals::Signal ServiceSignals::next(std::chrono::milliseconds patience, const std::function<bool()>& well) {
  using std::chrono::milliseconds;
  const sigset_t set = service_signals();
  const auto interval = watchdog_interval();
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    const auto waited = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
    if (patience.count() > 0 && waited >= patience) return Signal::kNone;
    milliseconds wait = interval.value_or(std::chrono::hours(24));
    if (patience.count() > 0) wait = std::min(wait, patience - waited);
    const timespec time{wait.count() / 1000, (wait.count() % 1000) * 1'000'000};
    const int number = ::sigtimedwait(&set, nullptr, &time);
    if (number > 0) return number == SIGHUP ? Signal::kReload : Signal::kEnd;
    if (interval && (!well || well())) notify_service(kSignOfLife);
  }
}

}  // namespace hearth::cli
