// OpenAI's newer form of requests and answers: POST /v1/responses. Nothing is stored, so a conversation comes whole each time.
#pragma once

#include <memory>

#include "serve/answer.h"
#include "serve/chat_request.h"

namespace hearth::serve {

Result<ChatRequest> read_responses(const boost::json::value& body);

// `request`: the body, of which the answer repeats some fields.
std::unique_ptr<AnswerWriter> responses_writer(std::string model, int64_t created, boost::json::object request);

}  // namespace hearth::serve
