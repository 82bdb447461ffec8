// A smaller model that guesses what a larger one will say next. It runs on the larger one's backend, between its steps.
//
// Its pick at a position takes the same draw as the sampler's there, so that drawn answers are guessed, too. What it says only
// decides what is tried: a wrong guess, or a model that says nonsense, changes no token.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/guesser.h"
#include "model/model.h"

namespace hearth {

class DraftModel final : public Guesser {
 public:
  // kInvalidArgument if its vocabulary differs from the target's (with the first token that does), if it has recurrent layers, which
  // could not take back a guess, or a shorter context.
  static Result<void> check_fits(const Model& draft, const Model& target);
  static Result<std::unique_ptr<DraftModel>> create(Model model, const Model& target);

  [[nodiscard]] DraftSource source() const override { return DraftSource::kModel; }
  // What it has of the last text it goes on from, if that begins alike and was `tenant`'s, too.
  int guess(const std::string& tenant, SequenceId sequence, std::span<const Token> text, Sampler& sampler,
            std::span<Token> out, FunctionRef<bool(double probability)> keep_on) override;
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
};

}  // namespace hearth
