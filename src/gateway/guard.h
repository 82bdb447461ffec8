// What stands between anyone who wants something (a rule, a model, a person, another system) and a device. A pure function of what
// is known and what is wanted; nothing reaches an adapter's write() that was not made here.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gateway/conditions.h"
#include "gateway/signal.h"

namespace hearth::gateway {

// What writes of some signals need beyond the limits of each.
struct GuardRule {
  std::string name;
  std::vector<SignalId> writes;
  std::vector<Condition> require;  // of these as many as `quorum` have to hold; one that cannot be judged does not
  size_t quorum = 0;               // 0: all
  std::vector<SignalId> fresh;     // have to be good now
  std::optional<std::pair<int, int>> between;  // minutes of the local day; may pass midnight
  std::chrono::milliseconds cool_down{0};      // after the last write of any of `writes`
};

// As long as `when` holds, `write` has this value, and nothing else is written there. Asks no model and waits for nothing.
struct Interlock {
  std::string name;
  Condition when;
  SignalId write = 0;
  Value value;
  bool when_lost = false;  // also if the signal was heard once and cannot be believed now
};

struct LastWrite {
  bool any = false;
  int64_t steady_ms = 0;
  Value value;
};

struct GuardState {
  View view;
  std::span<const GuardRule> rules;
  std::span<const Interlock> interlocks;
  std::span<const uint8_t> active;         // of each interlock
  std::span<const LastWrite> last_writes;  // of each signal, tried ones included
};

enum class Verdict : uint8_t { kPass, kConfirm, kBlock };

struct Judgement {
  Verdict verdict = Verdict::kBlock;
  std::string why;             // of kConfirm and kBlock
  std::optional<Write> write;  // of kPass only
};

// `confirmed`: a person has confirmed exactly this. Never passes kNever, nor a signal that has no limits of writing.
Judgement judge(const GuardState& state, SignalId signal, const Value& value, bool confirmed);
// The interlock's own write: only the signal's own limits hold.
Judgement judge(const GuardState& state, const Interlock& interlock);

}  // namespace hearth::gateway
