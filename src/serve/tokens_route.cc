// POST /tokenize and /detokenize, in llama.cpp's form (content) and vLLM's (prompt).
#include <boost/json/array.hpp>

#include "base/limits.h"
#include "serve/all.h"
#include "serve/generation.h"
#include "text/utf8.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

Result<void> try_tokenize(Server& server, const RouteCall& call) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string model = body.text("model").value_or("");
  auto content = body.text("content");
  if (!content) content = body.text("prompt");
  if (!content) body.wrong("content", "is missing");
  const bool bos = body.flag("add_special").value_or(false), special = body.flag("parse_special").value_or(true);
  const bool pieces = body.flag("with_pieces").value_or(false);
  TRY(body.check());
  const Acquired acquired = TRY(acquire_any(server, call, model));
  const Tokenizer& tokenizer = acquired.tokenizer();
  json::array tokens;
  for (const Token token : tokenizer.encode(*content, {.parse_special = special, .add_bos = bos})) {
    if (pieces)
      tokens.push_back({{"id", token}, {"piece", with_replacement(tokenizer.bytes(token, true, false))}});
    else
      tokens.emplace_back(token);
  }
  const LoadedModel& loaded = *acquired.model;
  const int context = loaded.engine ? loaded.engine->model().decoder->context() : loaded.encoder->tokens_max();
  reply_json(call, 200, {{"count", tokens.size()}, {"tokens", tokens}, {"max_model_len", context}});
  return {};
}

Result<void> try_detokenize(Server& server, const RouteCall& call) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string model = body.text("model").value_or("");
  const auto* ids = body.array("tokens");
  if (!ids) body.wrong("tokens", "is missing");
  TRY(body.check());
  const Acquired acquired = TRY(acquire_any(server, call, model));
  const Tokenizer& tokenizer = acquired.tokenizer();
  const std::vector<Token> tokens = TRY(read_token_ids(*ids, "tokens", tokenizer.n_vocab()));
  const std::string text = with_replacement(tokenizer.decode(tokens, true));
  reply_json(call, 200, {{"content", text}, {"prompt", text}});
  return {};
}

void tokenize(Server& server, RouteCall call) {
  if (const auto done = try_tokenize(server, call); !done) reply_error(call, done.error());
}
void detokenize(Server& server, RouteCall call) {
  if (const auto done = try_detokenize(server, call); !done) reply_error(call, done.error());
}

}  // namespace

const Route kTokenize{"POST", "/tokenize", Access::kUser, Dialect::kOpenAi, tokenize};
const Route kDetokenize{"POST", "/detokenize", Access::kUser, Dialect::kOpenAi, detokenize};

}  // namespace hearth::serve
