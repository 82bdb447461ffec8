// One answer of a model on the terminal: what `run` and the chat share.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "cli/power_options.h"
#include "cli/state_options.h"
#include "engine/engine.h"

namespace hearth::cli {

struct AnswerOptions {
  ModelOptions model;
  PowerOptions power;
  SamplingOptions sampling;
  int max_tokens = -1;
  std::vector<std::string> stop;
  std::string system;
  bool raw = false;  // the prompt as it is, without the model's template
  bool stats = false;
  SwapOptions swap;
  std::filesystem::path session;           // to go on with, and where it is saved; empty: none
  std::string adapter_file;                // a LoRA adapter to answer with
  std::shared_ptr<const Adapter> adapter;  // loaded from it by make_engine
};
void declare_answer_options(CLI::App& app, AnswerOptions& options);

struct Answer {
  std::string text;
  Finish finish = Finish::kEnd;
  Usage usage;
};

Result<std::unique_ptr<Engine>> make_engine(AnswerOptions& options);
// Generates until the end or until `interrupted` is set; `show` gets each piece of text as it appears.
Result<Answer> answer_prompt(Engine& engine, const AnswerOptions& options, std::string_view prompt,
                             const std::atomic<bool>& interrupted, const std::function<void(std::string_view)>& show);
// "prompt 12 tokens, 240.1 tokens/s; answer 30 tokens, 88.0 tokens/s"
std::string stats_line(const Usage& usage, const EngineStats& stats);

}  // namespace hearth::cli
