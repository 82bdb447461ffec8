// From a request for an answer to what the engine is given.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "serve/chat_request.h"
#include "text/reasoning.h"
#include "text/tool_calls.h"

namespace hearth::serve {

// How an answer's text is to be read.
struct AnswerForm {
  const ToolSyntax* tools = nullptr;  // null: no calls
  std::vector<std::string> names;     // of the functions
  const ReasoningTags* reasoning = nullptr;
  bool in_reasoning = false;  // the prompt opened a block of thoughts
};

struct ChatPrompt {
  std::vector<Token> tokens;
  Grammar::Shared grammar;  // null: any text
  AnswerForm form;
  bool special = false;  // marks of calls or thoughts are control tokens of this model
};

// The conversation by the model's template. Where a template knows no tools they are described in the system message, and where it
// has no place for a system message that goes before the user's. All errors are the client's.
Result<ChatPrompt> make_chat_prompt(const TextSide& text, const ChatRequest& request);
// The same, without the grammar: to count tokens.
Result<std::vector<Token>> chat_tokens(const TextSide& text, const ChatRequest& request);

// Token ids of a request. The error names `path`.
Result<std::vector<Token>> read_token_ids(const boost::json::array& ids, std::string_view path, int n_vocab);

}  // namespace hearth::serve
