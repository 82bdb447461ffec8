// How far a stream has come, so that it can be gone on with elsewhere. The events of an answer are the same wherever it is
// computed; answers to one request may interleave in any way, so those of each are counted apart.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::serve {

// Events of each choice, then of none: "17.0" as the id of an event of a single answer.
std::string place_text(std::span<const int64_t> place);
// kInvalidArgument if it is none. A single number counts the events of a single answer, whichever they are.
Result<std::vector<int64_t>> parse_place(std::string_view text);

// Counts the events of a stream. Not shared between threads.
class StreamPlace {
 public:
  // kInvalidArgument if a client of so many choices cannot have been `told` that.
  static Result<StreamPlace> create(int choices, std::vector<int64_t> told, bool numbered);
  // What of these whole events, which belong to a choice, has not been told, each with its place as id if they are numbered.
  std::string pass(int choice, std::string_view events);
  std::string pass_other(std::string_view events) { return pass(static_cast<int>(counts_.size()) - 1, events); }

 private:
  StreamPlace(int choices, std::vector<int64_t> told, bool numbered);
  bool is_told(size_t slot);

  std::vector<int64_t> counts_, told_;
  bool numbered_, all_;  // all_: told_ is one number for everything
};

}  // namespace hearth::serve
