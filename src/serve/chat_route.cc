// Chats in OpenAI's and Anthropic's form.
#include <ctime>

#include "serve/all.h"
#include "serve/anthropic.h"
#include "serve/generation.h"
#include "serve/model_defaults.h"
#include "serve/openai_answer.h"
#include "serve/responses.h"

namespace hearth::serve {
namespace {

using Reader = Result<ChatRequest> (*)(const boost::json::value&);

using Writer = std::unique_ptr<AnswerWriter> (*)(const ChatRequest&, const Generate&, const boost::json::object& body,
                                                 const RouteCall&);

std::unique_ptr<AnswerWriter> chat_writer(const ChatRequest& request, const Generate& what, const boost::json::object&,
                                          const RouteCall& call) {
  return openai_chat_writer({.model = request.model,
                             .id = what.id,
                             .created = call.origin ? call.origin->created : std::time(nullptr),
                             .answered_by = call.origin ? call.origin->answered_by : "",
                             .include_usage = request.options.include_usage,
                             .logprobs = request.options.logprobs >= 0,
                             .tokenizer = what.acquired.text().tokenizer.get()});
}
std::unique_ptr<AnswerWriter> messages_writer(const ChatRequest& request, const Generate& what,
                                              const boost::json::object&, const RouteCall&) {
  return anthropic_writer({.model = request.model,
                           .prompt_tokens = static_cast<int>(what.prompts[0].tokens.size()),
                           .stop = request.options.stop.size() == 1 ? request.options.stop[0] : std::string()});
}
std::unique_ptr<AnswerWriter> response_writer(const ChatRequest& request, const Generate&,
                                              const boost::json::object& body, const RouteCall&) {
  return responses_writer(request.model, std::time(nullptr), body);
}

Result<void> try_chat(Server& server, const RouteCall& call, Reader read, Writer write) {
  const boost::json::value body = TRY(json_body(call));
  ChatRequest request = TRY(read(body));
  std::string name = request.model;
  Generate what;
  what.acquired = TRY(acquire_to_answer(server, call, name));
  apply_parameters(*what.acquired.model, body, false, read, request);
  add_system(*what.acquired.model, request.messages);
  request.model = std::move(name);
  what.prompts.push_back(TRY(make_chat_prompt(what.acquired.text(), request)));
  if (call.origin) what.id = call.origin->id;
  what.writer = write(request, what, body.get_object(), call);
  what.options = std::move(request.options);
  generate(call, std::move(what));
  return {};
}

// How many tokens a request's prompt would have.
Result<void> try_count(Server& server, const RouteCall& call, Reader read) {
  const boost::json::value body = TRY(json_body(call));
  ChatRequest request = TRY(read(body));
  const Acquired acquired = TRY(acquire(server, call, request.model));
  add_system(*acquired.model, request.messages);
  const std::vector<Token> tokens = TRY(chat_tokens(acquired.text(), request));
  reply_json(call, 200, {{"object", "response.input_tokens"}, {"input_tokens", tokens.size()}});
  return {};
}

template <Reader kRead, Writer kWrite>
void chat(Server& server, RouteCall call) {
  call.record->operation = "chat";
  if (const auto done = try_chat(server, call, kRead, kWrite); !done) reply_error(call, done.error());
}
template <Reader kRead>
void count(Server& server, RouteCall call) {
  if (const auto done = try_count(server, call, kRead); !done) reply_error(call, done.error());
}

}  // namespace

const Route kChat{"POST", "/v1/chat/completions", Access::kUser, Dialect::kOpenAi, chat<read_openai_chat, chat_writer>,
                  true};
const Route kChatCount{"POST", "/v1/chat/completions/input_tokens", Access::kUser, Dialect::kOpenAi,
                       count<read_openai_chat>};
const Route kResponses{"POST", "/v1/responses", Access::kUser, Dialect::kOpenAi, chat<read_responses, response_writer>};
const Route kMessages{"POST", "/v1/messages", Access::kUser, Dialect::kAnthropic,
                      chat<read_anthropic, messages_writer>};
const Route kMessagesCount{"POST", "/v1/messages/count_tokens", Access::kUser, Dialect::kAnthropic,
                           count<read_anthropic_count>};

}  // namespace hearth::serve
