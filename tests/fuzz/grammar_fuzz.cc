// GBNF and regular expressions as a client sends them: either is refused, or becomes a language in which the masks of tokens and
// the reading of text agree.
#include <cstdlib>
#include <string_view>

#include "fuzz/constrained_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  hearth::walk(hearth::Grammar::from_gbnf(text));
  hearth::walk(hearth::Grammar::from_regex(text));
  return 0;
}
