// `hearth cluster plan`: which machines would run which layers of a model, from what a file says of the machines.
#pragma once

#include <string>

#include "cli/model_options.h"
#include "cluster/planner.h"
#include "model/decoder.h"

namespace hearth::cli {

struct ClusterPlanOptions {
  ModelOptions model;
  std::string machines;  // the file
  int streams = 1, prompt_rows = 256, answer_tokens = 128;
  bool cloud = false, json = false;
};

struct PlannerUse {
  int context = 0;
  KvType kv_type = KvType::kF16;
  int streams = 1;
};
// What a plan has to know of a model.
cluster::PlannerModel planner_model(const Checkpoint& checkpoint, const DecoderConfig& config, const Backend& backend,
                                    const PlannerUse& use);
Result<void> plan_cluster(const ClusterPlanOptions& options);

}  // namespace hearth::cli
