// A smaller model that guesses what a larger one will say next. It runs on the larger one's backend, between its steps.
//
// Its pick at a position takes the same draw as the sampler's there, so that drawn answers are guessed, too. What it says only
// decides what is tried: a wrong guess, or a model that says nonsense, changes no token.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/result.h"
#include "model/model.h"
#include "text/sampler.h"

namespace hearth {

class DraftModel {
 public:
  // kInvalidArgument if its vocabulary differs from the target's (with the first token that does), if it has recurrent layers, which
  // could not take back a guess, or a shorter context.
  static Result<void> check_fits(const Model& draft, const Model& target);
  static Result<std::unique_ptr<DraftModel>> create(Model model, const Model& target);

  // Guesses what follows `text`, token by token, up to out.size() or until `keep_on`, asked after each with how likely the draft model
  // holds it to be among the likeliest, says no. Returns how many. `sampler`: the text's. What it has of the last text it goes on from,
  // if that begins alike and was `tenant`'s, too.
  int guess(const std::string& tenant, std::span<const Token> text, Sampler& sampler, std::span<Token> out,
            FunctionRef<bool(double probability)> keep_on);
  // What one guess takes here, as measured; 0: nothing yet.
  [[nodiscard]] double guess_seconds() const { return guess_seconds_; }
  [[nodiscard]] int64_t memory_bytes() const;

 private:
  explicit DraftModel(Model model) : model_(std::move(model)) {}
  void run(std::span<const Token> tokens);

  Model model_;
  std::unique_ptr<SequenceStore> store_;  // of one sequence,
  SequenceId sequence_ = -1;
  std::string tenant_;         // for whom
  std::vector<Token> tokens_;  // this is the state of
  int32_t last_row_ = 0;
  int n_vocab_ = 0;  // of the target
  std::vector<Token> top_tokens_;
  std::vector<float> top_logits_;
  double guess_seconds_ = 0;
};

}  // namespace hearth
