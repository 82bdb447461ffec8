// `hearth cluster top`: who is in the site, and what runs where.
#pragma once

#include "base/result.h"

namespace hearth::cli {

struct ClusterTopOptions {
  bool json = false, once = false;
};
Result<void> cluster_top(const ClusterTopOptions& options);

}  // namespace hearth::cli
