// A request for an answer, whatever dialect it came in.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "serve/fields.h"
#include "text/grammar.h"

namespace hearth::serve {

// What the text of an answer has to be.
struct OutputForm {
  enum class Kind : uint8_t { kText, kJsonObject, kSchema, kGbnf, kRegex, kChoices };
  Kind kind = Kind::kText;
  boost::json::value schema = {};         // kSchema
  std::string source = {};                // kGbnf, kRegex
  std::vector<std::string> choices = {};  // kChoices
  std::string field = {};                 // where it was asked for
};
// Null for plain text. What cannot be enforced is an error that names the field, never ignored.
Result<Grammar::Shared> grammar_of(const OutputForm& form);

// What all routes that generate share.
struct AnswerOptions {
  SamplingOptions sampling = {};
  bool seed_given = false;  // otherwise each answer draws its own
  int max_tokens = -1;
  std::vector<std::string> stop = {};
  int n = 1;  // answers to one prompt
  bool stream = false, include_usage = false, ignore_eos = false;
  int logprobs = -1;
  bool prompt_logprobs = false;
  int drafts_max = -1;          // guessed tokens in a step at most, as Request has it
  double exit_kld = -1;         // as Request has it
  std::string prediction = {};  // what the answer may be, to guess from
  std::optional<int> lora =
      {};  // the adapter by its place among the model's, -1: none; otherwise what the model's name says
  OutputForm form = {};
  RequestClass request_class = RequestClass::kInteractive;
  int priority = 0;
  std::optional<double> deadline_seconds = {};
};

enum class ToolUse : uint8_t { kAuto, kNone, kRequired };

struct ChatRequest {
  std::string model;
  AnswerOptions options;
  boost::json::array
      messages;  // as templates want them: role, content (a string), tool_calls with arguments as objects, ...
  boost::json::array tools;  // OpenAI's form
  ToolUse tool_use = ToolUse::kAuto;
  std::string named_tool;  // the one that has to be called, if tool_use is kRequired
  bool parallel_calls = true;
  boost::json::object template_arguments;  // further variables of the template
};

// The fields that OpenAI's routes have in common, llama-server's speculative.n_max, and ours: class, priority, deadline_ms, exit_kld,
// grammar, regex, choices.
void read_answer_options(Fields& body, AnswerOptions& options);
// An object {"type": "text" | "json_object" | "json_schema", ...}; the schema may stand beside the type.
void read_response_format(Fields& holder, std::string_view name, OutputForm& form);
// Stop texts, class, priority and deadline only.
void read_scheduling(Fields& body, AnswerOptions& options);

// POST /v1/chat/completions.
Result<ChatRequest> read_openai_chat(const boost::json::value& body);

// A list of messages in OpenAI's form, checked and put in the shape of ChatRequest::messages.
Result<boost::json::array> read_messages(const boost::json::array& messages, std::string_view path = "messages");
// Tools in OpenAI's form.
Result<boost::json::array> read_tools(const boost::json::array& tools);
// Tools whose function stands flat beside their type, with its schema under that name.
Result<boost::json::array> read_flat_tools(const boost::json::array& tools, std::string_view type,
                                           std::string_view schema);
// Why parts of other kinds are refused.
inline constexpr std::string_view kTextOnly = "images, sound and files are not taken: models here read text only";
// A content that is a string, or an array of parts of text; nothing for null.
std::string read_content(Fields& message, std::string_view name);
// The field tool_choice: a word or {"type", "name"} or {"type", "function": {"name"}}.
void read_tool_choice(Fields& body, ChatRequest& request);
// The choice of tools has to fit the tools.
Result<void> check_tool_choice(const ChatRequest& request);
// The arguments of a call in a conversation's past, which are an object or its text.
Result<boost::json::object> read_arguments(const boost::json::value& arguments, const std::string& path);

}  // namespace hearth::serve
