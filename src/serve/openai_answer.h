// Answers as OpenAI's chat and completions routes write them.
#pragma once

#include <cstdint>
#include <memory>

#include "serve/answer.h"
#include "text/tokenizer.h"

namespace hearth::serve {

struct OpenAiFrame {
  std::string model;
  std::string id{};           // of the answer, without prefix
  int64_t created = 0;        // Unix seconds
  std::string answered_by{};  // said of it, if not empty
  bool include_usage = false;
  bool logprobs = false;
  const Tokenizer* tokenizer = nullptr;  // for the texts of tokens; needed with logprobs only
};

// Streams: the role once, one call in a chunk (its head first, then its arguments), the reason in a chunk of its own, then usage
// and timings, then [DONE]; Home Assistant's parser needs just that.
std::unique_ptr<AnswerWriter> openai_chat_writer(OpenAiFrame frame);

struct EchoedPrompt {
  std::string text;
  Token first;
};
// The older route. `echo`: the prompts, if answers repeat theirs; with log probabilities, too, they come before the answer's, for all
// tokens but the first. `answers_each` consecutive choices belong to one prompt.
std::unique_ptr<AnswerWriter> openai_completion_writer(OpenAiFrame frame, std::vector<EchoedPrompt> echo,
                                                       int answers_each);

boost::json::object openai_usage(const Usage& usage);
// As llama.cpp's server has them.
boost::json::object timings(const Usage& usage);
std::string_view openai_finish(Finish finish, bool called);

}  // namespace hearth::serve
