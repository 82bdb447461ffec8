// Anthropic's form of requests and answers: POST /v1/messages.
#pragma once

#include <memory>

#include "serve/answer.h"
#include "serve/chat_request.h"

namespace hearth::serve {

Result<ChatRequest> read_anthropic(const boost::json::value& body);
// Of a request to count its tokens, which has no max_tokens.
Result<ChatRequest> read_anthropic_count(const boost::json::value& body);

struct AnthropicFrame {
  std::string model;
  int prompt_tokens = 0;  // the first event of a stream tells it
  std::string stop;       // the stop text, if the request had just one
};
std::unique_ptr<AnswerWriter> anthropic_writer(AnthropicFrame frame);

}  // namespace hearth::serve
