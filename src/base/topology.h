// Which cores the inner loops run on.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth {

// Of the cores this process may use (affinity, control group): on a machine with big and little ones those that are
// not the least efficient kind, elsewhere all.
struct FastCores {
  int count = 1;          // physical cores: what --threads defaults to
  int all = 1;            // with the little ones
  std::vector<int> cpus;  // their hardware threads, as the system numbers them
  // They are a part of what the process may use, so that its threads have to be told to stay there. Otherwise the
  // system places threads better than we could: it knows what else runs.
  bool bind = false;
  std::string text;  // for `hearth doctor`, for instance "4 of 8 cores, the faster kind (CPUs 4-7)"
};

// Of this machine; all cores as one kind where it does not say. `count` is at most what control groups grant of processor
// time. Cost: some milliseconds of reading /sys.
FastCores fast_cores();
// Of a machine described by hwloc's XML (lstopo machine.xml), all of which may be used.
Result<FastCores> fast_cores_of(std::string_view xml);

// The hardware threads the calling thread may run on, as the system numbers them; empty if it does not tell.
std::vector<int> allowed_cpus();

// Processors' worth of time the control groups of this process grant, below `root` (a fixture in tests); none: unlimited.
std::optional<double> processor_quota(const std::filesystem::path& root = "/");

// Keeps the calling thread on those cores if there are enough for `n_threads`; a wish, and nothing if bind is not set.
void keep_on(const FastCores& cores, int n_threads);

}  // namespace hearth
