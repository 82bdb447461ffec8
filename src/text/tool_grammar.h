// What an answer with tool calls may be.
#pragma once

#include <boost/json/array.hpp>
#include <string_view>

#include "base/result.h"
#include "text/grammar.h"
#include "text/reasoning.h"
#include "text/tokenizer.h"
#include "text/tool_calls.h"

namespace hearth {

struct ToolGrammarOptions {
  bool required = false;        // the answer is calls and nothing else; otherwise free text that may go over into calls
  bool parallel = true;         // more than one call
  std::string_view named = {};  // only this function; empty: any
  const Tokenizer* tokenizer = nullptr;  // says which marks are control tokens; null: none
};

// Whether calls of that form can be enforced; a required one of another form is written in the generic form.
[[nodiscard]] bool has_tool_grammar(const ToolSyntax& syntax);

// A special token of the model's, which text cannot contain.
[[nodiscard]] bool is_control(const Tokenizer& tokenizer, std::string_view mark);

// Every call names one of the tools and gives it arguments of its schema. `tools` in OpenAI's form, each with a name and
// parameters. kInvalidArgument and kLimit name the tool and what of its schema cannot be enforced.
Result<Grammar::Shared> tool_grammar(const ToolSyntax& syntax, const boost::json::array& tools,
                                     const ToolGrammarOptions& options);

// `answer` behind thoughts: these have to come if the prompt opened them, and may come otherwise. `tokenizer` as above.
Result<Grammar::Shared> after_reasoning(const ReasoningTags& tags, bool open, const Grammar::Shared& answer,
                                        const Tokenizer* tokenizer = nullptr);

}  // namespace hearth
