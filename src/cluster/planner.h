// Which machines run which layers: a pure function of what was measured of them and of the links between.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/chain_plan.h"

namespace hearth::cluster {

struct PlannerMachine {
  std::string name;
  uint64_t memory_bytes = 0;    // that weights and state may take
  double bytes_per_second = 0;  // of weights read for one token, as its kernels do it in the power state it is in
  // The same times rows where many go through at once, as a prompt's do; 0: no more than one at a time.
  double prompt_bytes_per_second = 0;
  double disk_bytes_per_second = 0;  // of weights that have no room in memory; 0: it does not read any while it runs
  // One way, to the middle of the network: the way to another machine is both machines' together.
  double link_seconds = 0;
  double link_bytes_per_second = 1e9;
  bool battery = false;  // it runs on one: wanted only where it makes much of a difference
  bool cloud = false;    // it is not of the site: wanted only if the policy says so
};

struct PlannerLayer {
  uint64_t bytes = 0;        // in memory: weights, and state for all that runs at once
  uint64_t token_bytes = 0;  // of weights read for one token; of a mixture, the experts that are used
};

struct PlannerModel {
  std::vector<PlannerLayer> layers;
  PlannerLayer ends{};     // embedding and head, which are the owner's
  PlannerLayer head{};     // of these what another machine may do instead
  uint64_t row_bytes = 0;  // of a hidden row on the wire
};

struct PlannerWish {
  int streams = 1;                           // answers at once
  double margin = 0.1;                       // so much better than the owner alone several machines have to be
  int prompt_rows = 0, answer_tokens = 128;  // of a usual request
  double battery_margin = 0.5;               // so much better than without them machines on batteries have to be
  bool cloud = false;                        // machines of the cloud may be used
};

struct PlannedChain {
  ChainPlan plan;                      // nodes are indices into the machines
  int head = 0;                        // likewise: who has the output head
  double token_seconds = 0;            // of one answer
  double prompt_seconds = 0;           // of its prompt, in chunks that follow each other through the stages
  double tokens_per_second = 0;        // of all answers together, prompts included
  std::vector<uint64_t> bytes{};       // of the owner, then of each stage; without a head that is elsewhere
  uint64_t streamed_bytes = 0;         // of the owner alone, which reads them from its disk for every token
  bool alone_fits = false;             // in the owner's memory
  double alone_tokens_per_second = 0;  // 0: neither there nor from its disk
  // For several answers: the machines that have room for all of the model, if each answered requests of its own, and together then.
  std::vector<int> replicas{};
  double replicas_tokens_per_second = 0;
};

// machines[0] is the owner. The owner alone is always looked at, from its disk where its memory is too small, and kept unless a chain is
// better by the margin.
// Chains go over the others in the order of their links; which of them take part is tried for all sets of the first kPlannedMachines (or,
// where these have too little memory, of those that have the most),
// and their layers are divided exactly: for one answer so that the sum of all stages is least, or the slowest if that is better for its prompt, for several the slowest stage.
// The head leaves the owner where that is better by the margin, or where the model fits nowhere else.
// kLimit if the model fits nowhere, with the bytes that are missing. Cost: machines times 2^machines times stages times layers squared.
inline constexpr size_t kPlannedMachines = 8;
Result<PlannedChain> plan_chain(const PlannerModel& model, std::span<const PlannerMachine> machines,
                                const PlannerWish& wish);

}  // namespace hearth::cluster
