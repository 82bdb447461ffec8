// POST /v1/completions: text that goes on from a prompt, without a template.
#include <algorithm>
#include <boost/json/array.hpp>
#include <ctime>

#include "base/limits.h"
#include "serve/all.h"
#include "serve/generation.h"
#include "serve/openai_answer.h"

namespace hearth::serve {
namespace {

Result<std::vector<Token>> prompt_tokens(const boost::json::value& prompt, const std::string& path,
                                         const Tokenizer& tokenizer) {
  std::vector<Token> tokens;
  if (prompt.is_string())
    tokens = encode_prompt(tokenizer, prompt.get_string());
  else if (prompt.is_array())
    tokens = TRY(read_token_ids(prompt.get_array(), path, tokenizer.n_vocab()));
  else
    return fail(Code::kInvalidArgument, "{}: need a string or token ids, got {}", path, kind_of(prompt));
  if (tokens.empty()) return fail(Code::kInvalidArgument, "{}: is empty", path);
  return tokens;
}

// Whether some of it is token ids, which mean nothing to another model.
bool has_token_ids(const Fields& body) {
  const auto* prompt = body.find("prompt");
  const auto* list = prompt ? prompt->if_array() : nullptr;
  return list && !std::ranges::all_of(*list, [](const auto& each) { return each.is_string(); });
}

// One text, one list of token ids, or an array of either.
Result<std::vector<ChatPrompt>> read_prompts(const Fields& body, const Tokenizer& tokenizer) {
  std::vector<ChatPrompt> prompts;
  const auto* prompt = body.find("prompt");
  if (!prompt) return fail(Code::kInvalidArgument, "prompt: is missing");
  const auto* list = prompt->if_array();
  if (!list || (!list->empty() && list->front().is_number())) {
    prompts.emplace_back().tokens = TRY(prompt_tokens(*prompt, "prompt", tokenizer));
    return prompts;
  }
  if (list->empty()) return fail(Code::kInvalidArgument, "prompt: is empty");
  if (list->size() > limits::kChoices)
    return fail(Code::kLimit, "prompt: {} of them, the limit is {}", list->size(), limits::kChoices);
  for (size_t i = 0; i < list->size(); ++i)
    prompts.emplace_back().tokens = TRY(prompt_tokens((*list)[i], fmt::format("prompt[{}]", i), tokenizer));
  return prompts;
}

Result<void> try_completions(Server& server, const RouteCall& call) {
  const boost::json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string model = body.text("model").value_or("");
  Generate what;
  AnswerOptions& options = what.options;
  read_answer_options(body, options);
  constexpr int kTokensWithoutLimit = 16;  // as OpenAI's route has it
  if (!body.find("max_tokens") && !body.find("n_predict")) options.max_tokens = kTokensWithoutLimit;
  if (!body.text("suffix").value_or("").empty()) body.wrong("suffix", "this server does not fill in the middle");
  const bool echo = body.flag("echo").value_or(false);
  options.prompt_logprobs = echo && options.logprobs >= 0;
  const auto best_of = body.integer("best_of", 1, limits::kChoices);
  if (best_of && *best_of != options.n) body.wrong("best_of", fmt::format("need the same as n, {}", options.n));
  TRY(body.check());
  what.acquired = TRY(has_token_ids(body) ? acquire(server, call, model) : acquire_to_answer(server, call, model));
  const Tokenizer& tokenizer = *what.acquired.text().tokenizer;
  what.prompts = TRY(read_prompts(body, tokenizer));
  const Grammar::Shared grammar = TRY(grammar_of(options.form));
  std::vector<EchoedPrompt> echoed;
  for (ChatPrompt& prompt : what.prompts) {
    prompt.grammar = grammar;
    if (echo) echoed.push_back({tokenizer.decode(prompt.tokens), prompt.tokens.front()});
  }
  if (call.origin) what.id = call.origin->id;
  what.writer = openai_completion_writer({.model = model,
                                          .id = what.id,
                                          .created = call.origin ? call.origin->created : std::time(nullptr),
                                          .answered_by = call.origin ? call.origin->answered_by : "",
                                          .include_usage = options.include_usage,
                                          .logprobs = options.logprobs >= 0,
                                          .tokenizer = &tokenizer},
                                         std::move(echoed), options.n);
  generate(call, std::move(what));
  return {};
}

void completions(Server& server, RouteCall call) {
  call.record->operation = "text_completion";
  if (const auto done = try_completions(server, call); !done) reply_error(call, done.error());
}

}  // namespace

const Route kCompletions{"POST", "/v1/completions", Access::kUser, Dialect::kOpenAi, completions, true};

}  // namespace hearth::serve
