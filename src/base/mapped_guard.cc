#include "base/mapped_guard.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string_view>

#include "base/result.h"

namespace hearth {
namespace {

// A handler has no argument of ours, so what it reads is global: plain memory that needs no lock to be read.
struct Mapping {
  std::atomic<uintptr_t> begin{0}, end{0};  // end is 0 while the entry is not whole
  std::array<char, 512> path{};
};
std::array<Mapping, 1024> mappings;
std::mutex writing;
struct sigaction previous;
int exit_code;

void write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

// Calls only what POSIX allows in a handler.
void on_bus_error(int, siginfo_t* signal, void*) {
  const auto address = reinterpret_cast<uintptr_t>(signal->si_addr);
  for (const Mapping& mapping : mappings) {
    const uintptr_t end = mapping.end.load();
    if (end == 0 || address < mapping.begin.load() || address >= end) continue;
    write_all("hearth: ");
    write_all({mapping.path.data(), ::strnlen(mapping.path.data(), mapping.path.size())});
    write_all(": it was cut short while it was in use, or the disk cannot read it; the same command starts afresh\n");
    ::_exit(exit_code);
  }
  ::sigaction(SIGBUS, &previous, nullptr);  // and the same access raises it again
}

}  // namespace

void guard_mapped_files() {
  exit_code = info(Code::kIo).exit_code;
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previous);
}

void note_mapping(std::span<const std::byte> bytes, const std::string& path) {
  const std::scoped_lock lock(writing);
  const auto free = std::ranges::find_if(mappings, [](const Mapping& each) { return each.end.load() == 0; });
  if (free == mappings.end()) return;
  free->path.fill('\0');
  path.copy(free->path.data(), free->path.size() - 1);
  free->begin = reinterpret_cast<uintptr_t>(bytes.data());
  free->end = free->begin + bytes.size();
}

void forget_mapping(const std::byte* data) {
  const std::scoped_lock lock(writing);
  for (Mapping& mapping : mappings) {
    if (mapping.end.load() != 0 && mapping.begin.load() == reinterpret_cast<uintptr_t>(data)) {
      mapping.end = 0;
      return;
    }
  }
}

}  // namespace hearth
