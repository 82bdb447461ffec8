#include "cli/answer.h"

#include <CLI/CLI.hpp>
#include <chrono>

#include "cli/chain_options.h"
#include "cli/core_options.h"
#include "cli/output.h"
#include "cli/session_file.h"
#include "model/kv_gate.h"

namespace hearth::cli {

void declare_answer_options(CLI::App& app, AnswerOptions& options) {
  declare_model_options(app, options.model);
  declare_speculate_option(app, options.model);
  declare_exit_kld_option(app, options.model);
  declare_exits_option(app, options.model);
  declare_memory_option(app, options.model);
  declare_power_options(app, options.power);
  declare_cores_option(app, options.power);
  declare_chain_options(app, options.model);
  app.add_option("--max-tokens,-n", options.max_tokens, "Tokens of the answer at most (default: until it ends)")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("--temperature", options.sampling.temperature, "0: always the likeliest token")->capture_default_str();
  app.add_option("--top-k", options.sampling.top_k, "Only the K likeliest tokens; 0: all")->capture_default_str();
  app.add_option("--top-p", options.sampling.top_p, "Only the likeliest tokens that make up this probability")
      ->capture_default_str();
  app.add_option("--min-p", options.sampling.min_p, "Only tokens at least this likely, relative to the likeliest")
      ->capture_default_str();
  app.add_option("--repetition-penalty", options.sampling.repetition_penalty,
                 "Makes tokens already there less likely; 1: off")
      ->capture_default_str();
  app.add_option("--presence-penalty", options.sampling.presence_penalty,
                 "Subtracted from the logit of a token already there")
      ->capture_default_str();
  app.add_option("--frequency-penalty", options.sampling.frequency_penalty, "Subtracted for each time it is there")
      ->capture_default_str();
  app.add_option("--seed", options.sampling.seed, "Same seed, same answer")->capture_default_str();
  app.add_option("--system", options.system, "The system prompt");
  app.add_option("--stop", options.stop, "A text that ends the answer; may be given several times")
      ->allow_extra_args(false);
  app.add_option(
      "--session", options.session,
      "Go on with the conversation in this file, and save it there at the end: what was said and its state, sealed");
  declare_swap_options(app, options.swap);
  app.add_option("--adapter", options.adapter_file, "Answer with this LoRA adapter (GGUF)");
  app.add_flag("--raw", options.raw, "No chat template: the model goes on from the prompt as it is");
  app.add_flag("--stats", options.stats, "Print speeds on stderr at the end");
}

Result<std::unique_ptr<Engine>> make_engine(AnswerOptions& options) {
  TRY(planned_kv_type(options.model.kv_type));  // before the model is loaded for nothing
  const int most = TRY(drafts_max(options.model));
  TRY(check(options.sampling));
  if (!options.session.empty() && !options.adapter_file.empty())
    return fail(Code::kInvalidArgument, "--session cannot be used with --adapter: its state is the model's alone");
  if (!options.adapter_file.empty()) options.model.adapters = {"adapter=" + options.adapter_file};
  const CoreOptions cores = TRY(CoreOptions::prepare(options.power, options.model.n_threads));
  EngineOptions engine{.parallel = 1};
  engine.state_cache = TRY(open_swap(options.swap));
  Model model = TRY(load(options.model));
  const Adapters adapters = TRY(load_adapters(options.model, model, false));
  if (!adapters.empty()) options.adapter = adapters.begin()->second;
  const KvType kv_type = TRY(kv_type_for(model, options.model));
  std::optional<Model> draft = TRY(load_draft(options.model, model, false));
  TRY(use_machines(options.model, model, engine));
  auto governor = TRY(start_governor(options.power, options.model.n_threads, may_switch_precision(options.model)));
  if (const SettleCores settle = cores.settle(governor); settle && !engine.chain) TRY(settle(model, kv_type));
  set_state_options(engine, model, state_digest(options.model, model.checkpoint->path()));
  engine.kv_type = kv_type;
  engine.drafts_max = most;
  engine.may_switch_precision = may_switch_precision(options.model);
  engine.pacer = make_pacer(std::move(governor));
  TRY(set_exits(options.model, model, false, engine));
  return Engine::create(std::move(model), engine, std::move(draft));
}

Result<Answer> answer_prompt(Engine& engine, const AnswerOptions& options, std::string_view prompt,
                             const std::atomic<bool>& interrupted, const std::function<void(std::string_view)>& show) {
  Request request{.prompt = encode_prompt(*engine.model().text.tokenizer, prompt),
                  .sampling = options.sampling,
                  .max_tokens = options.max_tokens,
                  .stop = options.stop,
                  .adapter = options.adapter};
  request.tenant = kLocalTenant;
  const std::unique_ptr<Stream> stream = TRY(engine.submit(std::move(request)));
  constexpr std::chrono::milliseconds kLookAgain{50};
  Answer answer;
  for (;;) {
    if (interrupted.load()) stream->cancel();
    const std::optional<Piece> piece = stream->next_for(kLookAgain);
    if (!piece) continue;
    answer.text += piece->text;
    if (!piece->text.empty()) show(piece->text);
    if (!piece->done) continue;
    answer.finish = piece->finish;
    answer.usage = piece->usage;
    return answer;
  }
}

std::string stats_line(const Usage& usage, const EngineStats& stats) {
  const int ran = usage.prompt_tokens - usage.cached_tokens;
  auto rate = [](int tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0.0; };
  return fmt::format(
      "prompt {} tokens ({} cached), {:.1f} tokens/s; answer {} tokens, {:.1f} tokens/s; {:.3g} J ({}){}{}{}{}{}",
      usage.prompt_tokens, usage.cached_tokens, rate(ran, usage.prefill_seconds), usage.completion_tokens,
      rate(std::max(0, usage.completion_tokens - 1), usage.decode_seconds), std::max(usage.joules, 0.0),
      joules_source(usage),
      usage.drafted_tokens == 0
          ? ""
          : fmt::format("; {} of {} guessed tokens came true", usage.accepted_tokens, usage.drafted_tokens),
      stats.weight_read_bytes == 0
          ? ""
          : fmt::format("; {} of weights read from disk so far", human_bytes(stats.weight_read_bytes)),
      stats.expert_misses == 0 ? ""
                               : fmt::format(", {} of {} times an expert was in memory", stats.expert_hits,
                                             stats.expert_hits + stats.expert_misses),
      usage.exit_kld_max == 0 ? ""
                              : fmt::format("; {} tokens left {} layers out (KLD at most {:g})", usage.exited_tokens,
                                            usage.exit_layers, usage.exit_kld_max),
      usage.row_bits == 32 ? "" : fmt::format("; numbers of {} bits between machines", usage.row_bits));
}

}  // namespace hearth::cli
