// Ollama's form of requests and answers: POST /api/chat and /api/generate.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "serve/answer.h"
#include "serve/chat_request.h"

namespace hearth::serve {

struct OllamaRequest {
  ChatRequest chat;
  std::optional<std::chrono::seconds> keep_alive;  // negative: for ever
  bool generate = false;                           // the answer's text is "response", not a message
  bool raw = false;                                // `prompt` as it is, without a template
  std::string prompt;
  bool only_loads = false;  // there is nothing to answer: the model is loaded or, if keep_alive is 0, put out
};
Result<OllamaRequest> read_ollama_chat(const boost::json::value& body);
Result<OllamaRequest> read_ollama_generate(const boost::json::value& body);
// "5m", "1h30m", "-1", a number of seconds; fractions are dropped.
std::optional<std::chrono::seconds> read_keep_alive(Fields& body);

// Streams are lines of JSON.
std::unique_ptr<AnswerWriter> ollama_writer(std::string model, bool generate);
// What is answered when a model was only loaded or put out.
boost::json::object ollama_loaded(std::string_view model, bool generate, std::string_view done_reason);
// 2026-01-31T12:00:00.123456Z
std::string iso_time(std::chrono::system_clock::time_point time);

}  // namespace hearth::serve
