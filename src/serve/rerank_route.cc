// POST /v1/rerank: documents by how well they answer a query. An encoder compares vectors; any other model is asked about each.
#include <algorithm>
#include <boost/json/array.hpp>
#include <cmath>
#include <numeric>

#include "base/limits.h"
#include "serve/all.h"
#include "serve/embeddings.h"
#include "serve/generation.h"
#include "serve/scores.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

struct RerankRequest {
  std::string model, query;
  std::vector<std::string> documents;
  size_t top_n = 0;
  bool with_documents = false;
};

Result<RerankRequest> read_rerank(const json::value& value) {
  Fields body(value, "");
  RerankRequest request;
  request.model = body.text("model").value_or("");
  request.query = body.text("query").value_or("");
  if (request.query.empty()) body.wrong("query", "is missing or empty");
  const json::array* documents = body.array("documents");
  if (documents == nullptr || documents->empty()) body.wrong("documents", "is missing or empty");
  for (size_t i = 0; documents != nullptr && i < documents->size(); ++i) {
    const json::value& document = (*documents)[i];
    const json::value* text = document.is_object() ? document.get_object().if_contains("text") : &document;
    if (text == nullptr || !text->is_string() || text->get_string().empty())
      body.wrong(fmt::format("documents[{}]", i), "need a text or an object with one");
    else
      request.documents.emplace_back(text->get_string());
  }
  if (request.documents.size() > limits::kInputs)
    body.wrong("documents", fmt::format("has {}, the limit is {}", request.documents.size(), limits::kInputs));
  request.top_n = static_cast<size_t>(body.integer("top_n", 1, INT32_MAX).value_or(INT32_MAX));
  request.with_documents = body.flag("return_documents").value_or(false);
  TRY(body.check());
  return request;
}

void answer(const RouteCall& call, const RerankRequest& request, const std::vector<double>& scores, int tokens) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return scores[i]; });
  json::array results;
  for (const size_t i : std::span(order).first(std::min(order.size(), request.top_n))) {
    json::object one{{"index", i}, {"relevance_score", scores[i]}};
    if (request.with_documents) one["document"] = json::object{{"text", request.documents[i]}};
    results.push_back(std::move(one));
  }
  call.record->prompt_tokens = tokens;
  reply_json(call, 200,
             json::object{{"object", "list"},
                          {"model", call.record->model},
                          {"results", std::move(results)},
                          {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
}

double dot(std::span<const float> a, std::span<const float> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Result<void> by_vectors(const RouteCall& call, std::shared_ptr<LoadedModel> model, RerankRequest request) {
  std::vector<std::vector<Token>> texts;
  texts.push_back(TRY(encoder_tokens(*model->encoder, request.query, "query", true)));
  for (const std::string& document : request.documents)
    texts.push_back(TRY(encoder_tokens(*model->encoder, document, "documents", true)));
  embed_all(call, std::move(model), std::move(texts),
            [call, request = std::move(request)](const Embeddings& embeddings) {
              const auto query = embeddings.of(0);
              std::vector<double> scores;
              for (size_t i = 1; i <= request.documents.size(); ++i) {
                const auto document = embeddings.of(i);
                const double lengths = std::sqrt(dot(query, query) * dot(document, document));
                scores.push_back(lengths > 0 ? dot(query, document) / lengths : 0.0);
              }
              answer(call, request, scores, embeddings.tokens);
            });
  return {};
}

// The probability of yes against no. The query comes first, so that its state is shared.
Result<void> by_asking(const RouteCall& call, Acquired acquired, RerankRequest request) {
  const TextSide& text = acquired.text();
  const bool has_template = text.chat_template || text.template_error;
  std::vector<Request> requests;
  for (const std::string& document : request.documents) {
    ChatRequest chat;
    const std::string question = fmt::format(
        "Query: {}\n\nDocument: {}\n\nDoes the document answer the query? Answer yes or no.", request.query, document);
    chat.messages.push_back({{"role", "user"}, {"content", question}});
    chat.template_arguments["enable_thinking"] = false;
    ChatPrompt prompt;
    if (has_template)
      prompt.tokens = TRY(chat_tokens(text, chat));
    else
      prompt.tokens = encode_prompt(*text.tokenizer, question + "\n\nAnswer:");
    Request& score = requests.emplace_back(engine_request(call, acquired, chat.options, prompt));
    for (const std::string_view label : {"yes", "no"})
      score.candidates.push_back(text.tokenizer->encode((has_template ? "" : " ") + std::string(label),
                                                        {.parse_special = false, .add_bos = false}));
  }
  return run_all(call, std::move(acquired), std::move(requests),
                 [call, request = std::move(request)](const std::vector<Piece>& pieces) {
                   std::vector<double> scores;
                   int tokens = 0;
                   for (const Piece& piece : pieces) {
                     tokens += piece.usage.prompt_tokens;
                     const bool scored = piece.scores.size() == 2;
                     scores.push_back(scored ? 1.0 / (1.0 + std::exp(piece.scores[1] - piece.scores[0])) : 0.0);
                   }
                   answer(call, request, scores, tokens);
                 });
}

Result<void> try_rerank(Server& server, const RouteCall& call) {
  const json::value body = TRY(json_body(call));
  RerankRequest request = TRY(read_rerank(body));
  Acquired acquired = TRY(acquire_any(server, call, request.model));
  if (acquired.model->encoder) return by_vectors(call, std::move(acquired.model), std::move(request));
  return by_asking(call, std::move(acquired), std::move(request));
}

void rerank(Server& server, RouteCall call) {
  call.record->operation = "rerank";
  if (const auto done = try_rerank(server, call); !done) reply_error(call, done.error());
}

}  // namespace

const Route kRerank{"POST", "/v1/rerank", Access::kUser, Dialect::kOpenAi, rerank};

}  // namespace hearth::serve
