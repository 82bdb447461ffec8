#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/limits.h"
#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/session_file.h"

namespace hearth::cli {
namespace {

struct RunOptions {
  AnswerOptions answer;
  std::string prompt;
  bool json = false;
};

Result<std::string> prompt_from_pipe() {
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (text.size() > limits::kPromptBytes)
    return fail(Code::kLimit, "the prompt has {} bytes, the limit is {}", text.size(), limits::kPromptBytes);
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

void print_json(const Answer& answer, std::string_view model) {
  const Usage& usage = answer.usage;
  const boost::json::object out{
      {"model", model},
      {"text", answer.text},
      {"finish", name(answer.finish)},
      {"usage",
       {{"prompt_tokens", usage.prompt_tokens},
        {"completion_tokens", usage.completion_tokens},
        {"drafted_tokens", usage.drafted_tokens},
        {"accepted_tokens", usage.accepted_tokens},
        {"joules", std::max(usage.joules, 0.0)},
        {"joules_source", joules_source(usage)},
        {"bits_lowered", usage.bits_lowered},
        {"exited_tokens", usage.exited_tokens},
        {"exit_layers", usage.exit_layers},
        {"exit_kld_max", usage.exit_kld_max}}},
      {"timing", {{"prefill_seconds", usage.prefill_seconds}, {"decode_seconds", usage.decode_seconds}}},
  };
  fmt::print("{}\n", boost::json::serialize(out));
}

Result<void> run(RunOptions& options) {
  const bool interactive = options.prompt.empty() && ::isatty(STDIN_FILENO) != 0;
  if (options.prompt.empty() && !interactive) options.prompt = TRY(prompt_from_pipe());
  if (options.prompt.empty() && !interactive) return fail(Code::kInvalidArgument, "the prompt is empty");
  if (interactive && options.answer.raw)
    return fail(Code::kInvalidArgument, "--raw needs a prompt; the chat uses the model's template");
  const std::unique_ptr<Engine> engine = TRY(make_engine(options.answer));
  SessionFile session = TRY(SessionFile::open(*engine, options.answer.session));
  if (interactive) return chat(*engine, options.answer, session);

  const TextSide& side = engine->model().text;
  if (!options.answer.raw && !side.chat_template && !side.template_error)
    fmt::print(stderr,
               "hearth: this model has no chat template (a base model); it goes on from the prompt as with --raw\n");
  const std::string text = TRY(session.ask(side, options.prompt, options.answer.system, options.answer.raw));
  InterruptFlag interrupt;
  auto show = [&](std::string_view piece) {
    if (options.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  const Answer answer = TRY(answer_prompt(*engine, options.answer, text, interrupt.flag(), show));
  if (options.json)
    print_json(answer, options.answer.model.model);
  else
    fmt::print("\n");
  if (options.answer.stats) fmt::print(stderr, "{}\n", stats_line(answer.usage, engine->stats()));
  session.answered(answer.text);
  return session.save(*engine);
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  app.add_option("MODEL", options->answer.model.model, "A name in the store, a .gguf file or a Hugging Face folder")
      ->capture_default_str();
  app.add_option("PROMPT", options->prompt, "What to answer; without it a chat, or the prompt is read from a pipe");
  declare_answer_options(app, options->answer);
  app.add_flag("--json", options->json, "Print one JSON object: {model, text, finish, usage, timing}");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kRun;
const Command kRun{"run", "answer a prompt, or chat",
                   "  hearth run default \"What is the capital of France?\"\n"
                   "  hearth run tiny                              # a chat; /help shows its commands\n"
                   "  hearth run default --temperature 0 < question.txt\n"
                   "  hearth run default \"And its river?\" --session france.session   # goes on, and can go on again\n"
                   "  hearth run ./model.gguf \"Once upon a time\" --raw --max-tokens 64",
                   declare};

}  // namespace hearth::cli
