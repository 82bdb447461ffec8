// Drives the answers to one request from the engine to the client. No thread waits for anything: the engine's news become jobs of
// the exchange.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/catalog.h"
#include "serve/answer.h"
#include "serve/route.h"
#include "serve/server.h"

namespace hearth::serve {

// A model for a request, and how long the client waited for it.
struct Acquired {
  std::shared_ptr<LoadedModel> model;
  std::shared_ptr<const Adapter> adapter{};  // null: the model as it is
  double load_seconds = 0;
  [[nodiscard]] const TextSide& text() const { return model->engine->model().text; }
  [[nodiscard]] const Tokenizer& tokenizer() const {
    return model->encoder ? model->encoder->tokenizer() : *text().tokenizer;
  }
};
// The model of that name, or that with an adapter of that name, or the server's own if there is none, if who asks may use it; notes
// it in the record. kNotFound, kInvalidArgument if it does not generate text, and what the catalog says. Takes as long as a model
// takes to load.
Result<Acquired> acquire(Server& server, const RouteCall& call, std::string& name,
                         std::optional<KeepAlive> keep_alive = {});
// The same for one that is to answer a text, which the server's smaller model does while power is short: the name is then that one's, and a
// header of the reply, Hearth-Instead-Of, has the one that was asked for.
Result<Acquired> acquire_to_answer(Server& server, const RouteCall& call, std::string& name,
                                   std::optional<KeepAlive> keep_alive = {});
// The same for a model of any kind, or one that turns text into vectors (kInvalidArgument if it does not).
Result<Acquired> acquire_any(Server& server, const RouteCall& call, std::string& name,
                             std::optional<KeepAlive> keep_alive = {});
Result<std::shared_ptr<LoadedModel>> acquire_encoder(Server& server, const RouteCall& call, std::string& name,
                                                     std::optional<KeepAlive> keep_alive = {});
// The name that a request means, allowed to who asks.
Result<std::string> allowed_model(Server& server, const RouteCall& call, std::string name);

// What is generated: options.n answers to each of the prompts, the answers to one prompt next to each other.
struct Generate {
  Acquired acquired;
  std::vector<ChatPrompt> prompts;
  AnswerOptions options;
  std::unique_ptr<AnswerWriter> writer;
  std::string id = random_id();  // of the answer
};
// Answers the call, now (with an error) or as the engine goes on. If the client goes, the work ends; the record has what it took.
void generate(RouteCall call, Generate what);

// The engine's request for one answer to a prompt, for who asks.
Request engine_request(const RouteCall& call, const Acquired& acquired, const AnswerOptions& options,
                       const ChatPrompt& prompt);

}  // namespace hearth::serve
