// Regular expressions as parts of grammars. Inside this room only.
#pragma once

#include <string_view>

#include "text/grammar_builder.h"

namespace hearth {

struct PatternOptions {
  // The inside of a JSON string, with what needs it escaped, in which the pattern may be found anywhere, as JSON schemas
  // mean it. Otherwise the whole text matches.
  bool in_json_string = false;
  uint32_t chars_min = 0, chars_max = kNoBound;  // of the whole text
};

// ECMA 262 (and where Python's `re` reads something narrower, that). kInvalidArgument with the offset in the pattern.
Result<GrammarBuilder::Part> pattern_part(GrammarBuilder& builder, std::string_view pattern,
                                          const PatternOptions& options);
// One character of the set inside a JSON string.
GrammarBuilder::Part json_string_char(GrammarBuilder& builder, const CharSet& set);

}  // namespace hearth
