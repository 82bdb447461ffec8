// Answers in Ollama's form: POST /api/chat and /api/generate.
#include "serve/all.h"
#include "serve/generation.h"
#include "serve/model_defaults.h"
#include "serve/ollama.h"

namespace hearth::serve {
namespace {

using Reader = Result<OllamaRequest> (*)(const boost::json::value&);

// Ollama's way of loading a model and of putting it out: a request with nothing to answer.
Result<void> only_load(Server& server, const RouteCall& call, OllamaRequest& request) {
  std::string& name = request.chat.model;
  std::string_view reason = "load";
  if (request.keep_alive == KeepAlive(0)) {
    name = TRY(allowed_model(server, call, std::move(name)));
    if (!server.catalog().library().find(name)) return fail(Code::kNotFound, "model '{}' not found", name);
    server.catalog().unload(name);
    reason = "unload";
  } else {
    TRY(acquire(server, call, name, request.keep_alive));
  }
  reply_json(call, 200, ollama_loaded(name, request.generate, reason));
  return {};
}

Result<void> try_answer(Server& server, const RouteCall& call, Reader read) {
  const boost::json::value body = TRY(json_body(call));
  OllamaRequest request = TRY(read(body));
  if (request.only_loads) return only_load(server, call, request);
  Generate what;
  std::string name = request.chat.model;
  what.acquired = TRY(acquire_to_answer(server, call, name, request.keep_alive));
  apply_parameters(*what.acquired.model, body, true, read, request);
  add_system(*what.acquired.model, request.chat.messages);
  const TextSide& text = what.acquired.text();
  if (request.raw || (request.generate && !text.chat_template && !text.template_error)) {
    ChatPrompt& prompt = what.prompts.emplace_back();
    prompt.tokens = encode_prompt(*text.tokenizer, request.prompt);
    prompt.grammar = TRY(grammar_of(request.chat.options.form));
  } else {
    what.prompts.push_back(TRY(make_chat_prompt(text, request.chat)));
  }
  what.writer = ollama_writer(name, request.generate);
  what.options = std::move(request.chat.options);
  generate(call, std::move(what));
  return {};
}

void chat(Server& server, RouteCall call) {
  call.record->operation = "chat";
  if (const auto done = try_answer(server, call, read_ollama_chat); !done) reply_error(call, done.error());
}
void generate_text(Server& server, RouteCall call) {
  call.record->operation = "text_completion";
  if (const auto done = try_answer(server, call, read_ollama_generate); !done) reply_error(call, done.error());
}

}  // namespace

const Route kOllamaChat{"POST", "/api/chat", Access::kUser, Dialect::kOllama, chat};
const Route kOllamaGenerate{"POST", "/api/generate", Access::kUser, Dialect::kOllama, generate_text};

}  // namespace hearth::serve
