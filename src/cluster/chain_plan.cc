#include "cluster/chain_plan.h"

#include <algorithm>

#include "base/limits.h"

namespace hearth::cluster {

ChainPlan even_plan(int own_end, int n_layers, int n_stages) {
  ChainPlan plan{.own_end = own_end, .stages = {}};
  const int n = n_layers - own_end;
  for (int i = 0; i < n_stages && n > 0; ++i) {
    const LayerRange layers{own_end + n * i / n_stages, own_end + n * (i + 1) / n_stages};
    if (layers.first < layers.end) plan.stages.push_back({i, layers});
  }
  return plan;
}

Result<void> check(const ChainPlan& plan, int n_layers, int n_nodes) {
  if (plan.stages.size() > limits::kStages)
    return fail(Code::kLimit, "{} stages; the limit is {}", plan.stages.size(), limits::kStages);
  int next = plan.own_end;
  std::vector<bool> used(static_cast<size_t>(n_nodes));
  for (const PlannedStage& stage : plan.stages) {
    if (stage.node < 0 || stage.node >= n_nodes || used[static_cast<size_t>(stage.node)])
      return fail(Code::kInvalidArgument, "a stage is on machine {} of {}, or that has one already", stage.node,
                  n_nodes);
    used[static_cast<size_t>(stage.node)] = true;
    if (stage.layers.first != next || stage.layers.end <= next)
      return fail(Code::kInvalidArgument, "stages have to follow each other: after layer {} comes {} to {}", next,
                  stage.layers.first, stage.layers.end);
    next = stage.layers.end;
  }
  if (plan.own_end < 0 || next != n_layers)
    return fail(Code::kInvalidArgument, "the stages end at layer {}, the model has {}", next, n_layers);
  return {};
}

ChainPlan without_lost(const ChainPlan& plan, const std::vector<bool>& alive) {
  ChainPlan now = plan;
  const auto is_alive = [&](const PlannedStage& stage) { return alive[static_cast<size_t>(stage.node)]; };
  const auto spare = [&] {
    for (int node = 0; node < static_cast<int>(alive.size()); ++node)
      if (alive[static_cast<size_t>(node)] &&
          std::ranges::find(now.stages, node, &PlannedStage::node) == now.stages.end())
        return node;
    return -1;
  };
  for (PlannedStage& stage : now.stages)
    if (const int node = is_alive(stage) ? -1 : spare(); node >= 0) stage.node = node;
  while (true) {
    const auto lost = std::ranges::find_if_not(now.stages, is_alive);
    if (lost == now.stages.end()) return now;
    const auto size = [](const PlannedStage& stage) { return stage.layers.end - stage.layers.first; };
    const bool has_before = lost != now.stages.begin(), has_after = lost + 1 != now.stages.end();
    if (has_before && (!has_after || !is_alive(lost[1]) || size(lost[-1]) <= size(lost[1])))
      lost[-1].layers.end = lost->layers.end;
    else if (has_after)
      lost[1].layers.first = lost->layers.first;
    else
      now.own_end = lost->layers.end;
    now.stages.erase(lost);
  }
}

std::vector<int> holders(const ChainPlan& first, const ChainPlan& plan) {
  std::vector<int> nodes;
  for (const PlannedStage& piece : first.stages) {
    const auto holds = [&](const PlannedStage& stage) {
      return stage.layers.first <= piece.layers.first && piece.layers.end <= stage.layers.end;
    };
    const auto found = std::ranges::find_if(plan.stages, holds);
    nodes.push_back(found == plan.stages.end() ? -1 : found->node);
  }
  return nodes;
}

ChainPlan plan_of(const ChainPlan& first, std::span<const int> holders) {
  ChainPlan plan{.own_end = first.own_end, .stages = {}};
  for (size_t i = 0; i < holders.size(); ++i) {
    const LayerRange layers = first.stages[i].layers;
    if (holders[i] < 0)
      plan.own_end = layers.end;
    else if (!plan.stages.empty() && plan.stages.back().node == holders[i])
      plan.stages.back().layers.end = layers.end;
    else
      plan.stages.push_back({holders[i], layers});
  }
  return plan;
}

std::vector<std::vector<StepRows>> in_parts(std::span<const StepRows> rows, int parts, int rows_max) {
  // A message of fewer rows of one sequence costs more than it gains.
  constexpr int kLeast = 16;
  int n = 0;
  for (const StepRows& part : rows) n += part.count;
  if (std::ranges::none_of(rows, [](const StepRows& part) { return part.count > kLeast; })) parts = 1;
  const int even = (n + std::max(1, parts) - 1) / std::max(1, parts);
  const int whole = std::min(rows_max, std::max(even, kLeast));  // of one sequence
  std::vector<std::vector<StepRows>> all;
  int room = 0;
  for (StepRows part : rows) {
    while (part.count > 0) {
      const int take = std::min(part.count, whole);
      if (take > room) {
        all.emplace_back();
        room = std::min(rows_max, std::max(even, take));
      }
      all.back().push_back({part.sequence, part.position, take});
      room -= take;
      part.position += take, part.count -= take;
    }
  }
  return all;
}

}  // namespace hearth::cluster
