// What the profile says shall happen: what is watched, what an event may lead to, what forbids it, what happens at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/conditions.h"
#include "gateway/config.h"
#include "gateway/guard.h"
#include "gateway/statistics.h"

namespace hearth::gateway {

// One thing that may be done about an event. Without a signal it is a message (ActionClass::kInform).
struct Action {
  std::string name, says;  // the label the model chooses by, and what it means
  std::optional<SignalId> write;
  Value value;                   // to this, or
  std::optional<double> change;  // by so much, cut to the signal's limits
};

struct Rule {
  static constexpr size_t kActionsMax = 6;
  std::string name;
  // An event of this kind at one of these signals; kCondition: `when` has become true, and been so for `lasting`.
  EventKind on = EventKind::kCondition;
  std::vector<SignalId> signals;
  std::optional<Condition> when;
  std::chrono::milliseconds lasting{0};
  std::string question;         // for the model
  std::vector<Action> actions;  // "none" is always one more
  std::string otherwise;        // an action's name or "none": without a model, if it is late, or abstains
  std::string nothing;          // what "none" means here, for the model
  std::chrono::milliseconds deadline{2000}, cool_down{0};
  double abstain_below = 0;
  std::vector<SignalId> facts;  // shown to the model beside the event's own signal
  bool ask = true;              // false: `otherwise` at once
};

struct Rules {
  std::vector<Watch> watches;  // of each signal
  std::vector<Rule> rules;
  std::vector<GuardRule> guards;
  std::vector<Interlock> interlocks;
  std::string model;                                                     // asked; empty: the server's first
  bool reasons = true;                                                   // the model writes one for each choice of it
  std::chrono::milliseconds confirm_within{60'000};                      // a token's life
  std::chrono::milliseconds read_back{10'000};                           // until a written value has to be seen
  std::array<uint64_t, 3> queue_bytes{64u << 20, 32u << 20, 16u << 20};  // of each record class
  std::vector<std::string> newest_only;  // adapters that want no history after an outage, only how things are
  int drain_per_second = 200;            // of each adapter, beside what comes live
};

// Takes [[watch]], [[rule]], [[guard]], [[interlock]] and [decisions], [queue] of a profile. Errors name the line and the remedy.
Result<Rules> read_rules(const ConfigTable& root, std::span<const Signal> signals);

}  // namespace hearth::gateway
