// The tokenizer and the chat templates that a GGUF file carries (keys tokenizer.*).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "model/metadata.h"
#include "text/tokenizer.h"

namespace hearth {

// Checks that scores and token types are one per token and of the right type, and that ids are in the vocabulary; ids a
// model does not name get the defaults of its kind only where these exist. What the texts of tokens imply (further
// tokens that end an answer) is Tokenizer::create's. kUnsupported names a tokenizer model that is not known.
Result<TokenizerData> tokenizer_from_gguf(const Metadata& metadata);

struct NamedTemplate {
  std::string name;  // "default", "tool_use", "rag", ...
  std::string text;
};
// The default template first, if there is one; empty for base models. kLimit for one over limits::kTemplateBytes.
Result<std::vector<NamedTemplate>> chat_templates_from_gguf(const Metadata& metadata);

}  // namespace hearth
