#include "cli/interrupt.h"

#include <csignal>

#include "base/check.h"

namespace hearth::cli {
namespace {

std::atomic<bool> raised_flag{false};
std::atomic<bool> in_use{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int number) {
  if (raised_flag.exchange(true)) {
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

}  // namespace

InterruptFlag::InterruptFlag() {
  CHECK(!in_use.exchange(true));
  raised_flag = false;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

InterruptFlag::~InterruptFlag() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  in_use = false;
}

const std::atomic<bool>& InterruptFlag::flag() const { return raised_flag; }
void InterruptFlag::lower() { raised_flag = false; }

}  // namespace hearth::cli
