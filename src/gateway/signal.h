// What a device says or is told. A signal has a name, a type, a unit and a range; a sample is one value of it at one time.
// Everything in the gateway speaks of signals: adapters translate them to and from a protocol, statistics watch them, rules act on them.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace hearth::gateway {

enum class SignalType : uint8_t { kBool, kNumber, kText };
using Value = std::variant<bool, double, std::string>;  // in the order of SignalType

// Whether a value may be believed. Only kGood counts for rules, statistics and interlocks; all are stored and shown.
enum class Quality : uint8_t {
  kGood,
  kStale,       // older than the signal's max_age, or its device is away
  kOutOfRange,  // outside min and max
  kBad,         // not a number, a wrong type, a time in the future
};

// What becomes of a record when the queue is full: the lowest class that is there goes first, of one class the oldest.
enum class RecordClass : uint8_t { kA, kB, kC };  // must not be lost; may be thinned; may be lost

// What it takes to act (iot notes 5.0).
enum class ActionClass : uint8_t {
  kInform,   // a message
  kLow,      // reversible and of little effect
  kConfirm,  // a person confirms exactly this action
  kNever,    // never by this system
};

// A signal without these cannot be written, whatever anyone asks.
struct WriteLimits {
  double min = 0, max = 0;                      // kNumber; for kBool 0 and 1
  double step = 0;                              // the value is min plus a whole number of steps; 0: any value
  double most_change = 0;                       // from the value there is to the new one; 0: any
  std::chrono::milliseconds least_interval{0};  // between two writes
  ActionClass action_class = ActionClass::kConfirm;
  std::vector<std::string> allowed;  // kText: nothing else
};

using SignalId = uint32_t;  // its place in Profile::signals

struct Signal {
  std::string name;   // "pump1/bearing_temperature": letters, digits, _ - and / between parts; unique
  std::string label;  // for people; hostile text from devices never gets here
  SignalType type = SignalType::kNumber;
  std::string unit;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  // Where it is when nothing is wrong: a model is told whether a value is normal, high or low.
  double normal_min = -std::numeric_limits<double>::infinity();
  double normal_max = std::numeric_limits<double>::infinity();
  std::chrono::milliseconds max_age{0};  // 0: does not age
  RecordClass record_class = RecordClass::kB;
  std::optional<WriteLimits> write;
};

struct Sample {
  SignalId signal = 0;
  Value value;
  int64_t time_ms = 0;  // since 1970, as the device says or else as it came
  Quality quality = Quality::kGood;
};

// What a person has to confirm, by a token that is good for exactly this, once, and not for long.
struct Pending {
  std::string token;
  int64_t decision = 0;  // 0: a request from outside
  std::string source;
  SignalId signal = 0;
  Value value;
  int64_t expires_ms = 0;  // steady
};

// One value that a device shall take. Made by the guard only (guard.h); adapters carry it out and nothing else.
struct Write {
  SignalId signal = 0;
  Value value;
};

}  // namespace hearth::gateway
