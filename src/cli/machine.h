// What this machine is, as far as the kernel tells.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hearth::cli {

struct Cache {
  int level = 0;
  std::string kind;    // "Data", "Instruction", "Unified"
  uint64_t bytes = 0;  // of one instance
};

struct Machine {
  std::string processor;              // as the vendor names it; empty if the kernel does not say
  std::vector<std::string> features;  // of those that kernels of language models use, in the kernel's spelling
  int cores = 0, threads = 0;         // physical cores and hardware threads this process may run on
  std::string compute_cores;          // which of them compute
  std::vector<Cache> caches;          // of the first core
  uint64_t memory_bytes = 0, memory_available_bytes = 0;
  std::optional<uint64_t> memory_limit_bytes;  // the tightest control group this process is in, v1 or v2
  std::string huge_pages;                      // "always", "madvise", "never"; empty if the kernel has none
};

// Reads /proc and /sys below `root` (a fixture in tests); what is missing there stays empty.
Machine probe_machine(const std::filesystem::path& root = "/");

// The most memory this process ever had resident (VmHWM); 0 where the kernel does not tell.
uint64_t peak_rss_bytes();

}  // namespace hearth::cli
