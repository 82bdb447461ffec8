// Which machine of the site answers a request. Pure; decided from what is known of each at this moment.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "serve/reach.h"

namespace hearth::serve {

// A machine, for one request.
struct DoorView {
  bool here = false;   // this one
  bool usable = true;  // it answers, takes work in, and computes the tokens that this request needs
  bool has_model = true;
  bool loaded = true;                       // in memory
  bool crowds_out = false;                  // loading it would put another model out, or not be possible at once
  int running = 0, waiting = 0;             // requests for the model
  int slots = 1, queue_max = 64;            // computed at once; waiting at most
  double decode_rate = 0, prompt_rate = 0;  // tokens a second of one request, as measured; 0: not yet
  double answer_seconds = 0;                // of a request, in the mean; 0: not yet
  double latency_seconds = 0;               // there and back
  int cached_tokens = 0;                    // of this prompt, that it has run before
  double share = 1;                         // of its speed that heat and battery leave it
  std::optional<double> battery_percent{};  // if it runs on battery
};

struct DoorAsk {
  int prompt_tokens = 0, answer_tokens = 0;  // about; the answer's at most
  std::optional<double> deadline_seconds{};  // from now
  Reach reach = Reach::kSite;
  bool cloud = false;  // there is one that could answer this
};

enum class DoorReason : uint8_t { kHere, kOnlyOne, kQueue, kSpeed, kPrefix, kCloudFull, kCloudDeadline, kCloudOutage };
std::string_view name(DoorReason reason);

struct DoorChoice {
  std::vector<size_t> order;  // of the views, best first; empty: none can
  bool cloud = false;         // before any of them
  DoorReason reason = DoorReason::kHere;
  bool full = false;            // if none can: they are busy, and may be asked again
  int retry_after_seconds = 1;  // then
};

// How long the answer would take there, in seconds.
double expected_seconds(const DoorView& view, const DoorAsk& ask);
DoorChoice choose_door(std::span<const DoorView> views, const DoorAsk& ask);

}  // namespace hearth::serve
