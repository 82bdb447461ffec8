// Who runs which layers, and who takes over when one is lost: pure functions.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/wire.h"

namespace hearth::cluster {

// Of the step by which a stage that was just loaded finds out how fast it is.
inline constexpr int kWarmUpRows = 16;

struct PlannedStage {
  int node = 0;  // index into the chain's nodes
  LayerRange layers{};
};

// The owner runs layers [0, own_end) itself, the stages the others, in order.
struct ChainPlan {
  int own_end = 0;
  std::vector<PlannedStage> stages;
};

// Layers [own_end, n_layers) in as even parts as can be over the first n_stages nodes.
ChainPlan even_plan(int own_end, int n_layers, int n_stages);

// kInvalidArgument unless the plan covers layers 0 to n_layers in order, each once, and no node has two stages.
Result<void> check(const ChainPlan& plan, int n_layers, int n_nodes);

// The plan after the nodes that are not alive are gone: first a spare node takes a lost stage's place; else the stage before it, or the
// one after it, takes its layers, whichever has fewer; and the owner where nobody is left.
ChainPlan without_lost(const ChainPlan& plan, const std::vector<bool>& alive);

// Which node has each piece, a stage of `first`, by `plan`; -1: the owner.
std::vector<int> holders(const ChainPlan& first, const ChainPlan& plan);
// The plan in which nodes hold the pieces so; pieces of one node side by side are one stage. What the owner has stays its.
ChainPlan plan_of(const ChainPlan& first, std::span<const int> holders);

// A step in parts, each its own message: none has more than `rows_max` rows. With a prompt there are `parts` of them, if there are rows
// enough, so that stages work at once; sequences that generate stay together, for other steps are under way beside. In order.
std::vector<std::vector<StepRows>> in_parts(std::span<const StepRows> rows, int parts, int rows_max);

}  // namespace hearth::cluster
