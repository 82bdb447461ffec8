// The thoughts that some models write before their answer, told apart from it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// The longest end of `text`, in bytes, that begins `marker` without being all of it: it has to wait for what follows.
[[nodiscard]] size_t begins_marker(std::string_view text, std::string_view marker);

struct ReasoningTags {
  std::string_view open, close;
};

// The tags that a chat template speaks of, by the template's source; null if it knows none.
[[nodiscard]] const ReasoningTags* reasoning_tags(std::string_view template_source);
// Whether a rendered prompt ends inside of a block, so that the answer begins with thoughts.
[[nodiscard]] bool opens_reasoning(const ReasoningTags& tags, std::string_view prompt);

struct ReasoningPart {
  bool reasoning = false;
  std::string text;
};

// Splits an answer as it comes. A block counts only at the beginning of the answer (white space aside); white space around the
// thoughts is dropped. Without tags all is answer. One per answer; not shared between threads.
class ReasoningSplitter {
 public:
  // `tags` may be null and outlives this; `open`: the prompt opened the block.
  ReasoningSplitter(const ReasoningTags* tags, bool open);
  std::vector<ReasoningPart> push(std::string_view text);
  // What was held back; call once, after the last push.
  std::vector<ReasoningPart> finish();

 private:
  enum class State { kStart, kReasoning, kAfter, kAnswer };
  bool step(std::vector<ReasoningPart>& parts, bool last);
  bool in_reasoning(std::vector<ReasoningPart>& parts, bool last);

  const ReasoningTags* tags_;
  State state_;
  bool thought_ = false;  // something of the thoughts was handed out
  std::string held_;
};

}  // namespace hearth
