// `hearth cluster plan`: which machines would run which layers of a model, from what a file says of the machines.
#pragma once

#include <string>

#include "cli/model_options.h"

namespace hearth::cli {

struct ClusterPlanOptions {
  ModelOptions model;
  std::string machines;  // the file
  int streams = 1;
  bool json = false;
};
Result<void> plan_cluster(const ClusterPlanOptions& options);

}  // namespace hearth::cli
