// POST /v1/decide, and /v1/systemone for llama.cpp's clients.
#include "serve/all.h"
#include "serve/decide.h"
#include "serve/generation.h"
#include "serve/scores.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

// A question's prompt, and each label as the whole of the answer to it.
Result<Request> score_request(const RouteCall& call, const Acquired& acquired, const DecideRequest& decide,
                              const Question& question, std::string_view state) {
  const TextSide& text = acquired.text();
  const Tokenizer& tokenizer = *text.tokenizer;
  ChatRequest chat;
  chat.messages = decide_messages(question, state);
  // Thoughts would come before the label.
  chat.template_arguments["enable_thinking"] = false;
  ChatPrompt prompt;
  const bool has_template = text.chat_template || text.template_error;
  if (has_template) {
    prompt.tokens = TRY(chat_tokens(text, chat));
  } else {
    const std::string_view content = chat.messages[0].at("content").as_string();
    prompt.tokens = encode_prompt(tokenizer, fmt::format("{}\n\nAnswer:", content));
  }
  Request request = engine_request(call, acquired, decide.options, prompt);
  // The end belongs to the answer, so that a label that begins another one is not preferred.
  const TokenizerData& data = tokenizer.data();
  const Token end = data.eot != kNoToken ? data.eot : data.eos;
  for (const Option& option : question.options) {
    std::vector<Token>& candidate = request.candidates.emplace_back(
        tokenizer.encode((has_template ? "" : " ") + option.label, {.parse_special = false, .add_bos = false}));
    if (end != kNoToken) candidate.push_back(end);
  }
  return request;
}

void answer(const RouteCall& call, const DecideRequest& request, const std::vector<Piece>& pieces) {
  const size_t each = request.content_free ? 2 : 1;
  json::object answers;
  int tokens = 0;
  for (size_t i = 0; i < request.questions.size(); ++i) {
    const Question& question = request.questions[i];
    const std::vector<double> none;
    const Piece &piece = pieces[i * each], &plain = pieces[i * each + each - 1];
    const auto chances = probabilities(request, question, piece.scores, request.content_free ? plain.scores : none);
    answers[question.id] = decision(request, question, chances);
  }
  for (const Piece& piece : pieces) {
    tokens += piece.usage.prompt_tokens;
    call.record->cached_tokens += piece.usage.cached_tokens;
  }
  call.record->prompt_tokens = tokens;
  reply_json(call, 200,
             {{"object", "decision"},
              {"model", call.record->model},
              {"answers", std::move(answers)},
              {"usage", {{"input_tokens", tokens}, {"output_tokens", 0}, {"total_tokens", tokens}}}});
}

Result<void> try_decide(Server& server, const RouteCall& call) {
  const json::value body = TRY(json_body(call));
  DecideRequest decide = TRY(read_decide(body));
  Acquired acquired = TRY(acquire_to_answer(server, call, decide.model));
  std::vector<Request> requests;
  for (const Question& question : decide.questions) {
    requests.push_back(TRY(score_request(call, acquired, decide, question, decide.state)));
    if (decide.content_free) requests.push_back(TRY(score_request(call, acquired, decide, question, "N/A")));
  }
  return run_all(
      call, std::move(acquired), std::move(requests),
      [call, decide = std::move(decide)](const std::vector<Piece>& pieces) { answer(call, decide, pieces); });
}

void decide(Server& server, RouteCall call) {
  call.record->operation = "decide";
  if (const auto done = try_decide(server, call); !done) reply_error(call, done.error());
}

}  // namespace

const Route kDecide{"POST", "/v1/decide", Access::kUser, Dialect::kOpenAi, decide};
const Route kSystemOne{"POST", "/v1/systemone", Access::kUser, Dialect::kOpenAi, decide};

}  // namespace hearth::serve
