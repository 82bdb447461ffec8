#include "engine/draft_model.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "engine/state_cache.h"

namespace hearth {
namespace {

Result<void> check_same_vocabulary(const Model& draft, const Model& target) {
  const TokenizerData &small = draft.text.tokenizer->data(), &large = target.text.tokenizer->data();
  const auto differ = std::ranges::mismatch(small.tokens, large.tokens);
  if (differ.in1 == small.tokens.end() && differ.in2 == large.tokens.end()) return {};
  const auto at = differ.in1 - small.tokens.begin();
  const auto shown = [at](const std::vector<std::string>& tokens) {
    return static_cast<size_t>(at) < tokens.size() ? fmt::format("\"{}\"", tokens[static_cast<size_t>(at)])
                                                   : std::string("not there");
  };
  return fail(
      Code::kInvalidArgument,
      "the draft model has another vocabulary ({} tokens and {}; token {} is {} and {}): use a smaller model of the "
      "same family",
      small.tokens.size(), large.tokens.size(), at, shown(small.tokens), shown(large.tokens));
}

}  // namespace

Result<void> DraftModel::check_fits(const Model& draft, const Model& target) {
  TRY(check_same_vocabulary(draft, target));
  const Decoder& decoder = *draft.decoder;
  if (decoder.context() < target.decoder->context())
    return fail(Code::kInvalidArgument, "the draft model's context is {}, the model's {}; use a smaller --context",
                decoder.context(), target.decoder->context());
  if (std::ranges::any_of(decoder.config().layers, [](const auto& layer) { return layer.mixer != Mixer::kAttention; }))
    return fail(Code::kInvalidArgument, "the draft model has recurrent layers, which could not take back a guess");
  return {};
}

Result<std::unique_ptr<DraftModel>> DraftModel::create(Model model, const Model& target) {
  TRY(check_fits(model, target));
  auto store = TRY(
      SequenceStore::create(*model.backend, model.decoder->config(),
                            {.kv_type = KvType::kF16, .positions_max = model.decoder->context(), .sequences_max = 1}));
  std::unique_ptr<DraftModel> made(new DraftModel(std::move(model)));
  made->sequence_ = TRY(store->open());
  made->store_ = std::move(store);
  made->n_vocab_ = target.decoder->config().n_vocab;
  return made;
}

int64_t DraftModel::memory_bytes() const {
  const auto pages = int64_t{store_->free_pages()} + store_->used_pages();
  return model_.decoder->weight_bytes() + model_.decoder->scratch_bytes() + pages * store_->page_bytes();
}

// In steps of as many rows as there may be; the last one's output can be asked for then. The context has room for them.
void DraftModel::run(std::span<const Token> tokens) {
  while (!tokens.empty()) {
    const int count = std::min(static_cast<int>(tokens.size()), model_.decoder->rows_max());
    const auto some = tokens.first(static_cast<size_t>(count));
    CHECK(store_->reserve(sequence_, count).has_value());
    const SequenceRows rows = store_->rows(sequence_, 0, count);
    model_.decoder->run({.tokens = some, .sequences = {&rows, 1}}, *store_);
    store_->advance(sequence_, count);
    tokens_.insert(tokens_.end(), some.begin(), some.end());
    tokens = tokens.subspan(some.size());
    last_row_ = count - 1;
  }
}

int DraftModel::guess(const std::string& tenant, SequenceId /*sequence*/, std::span<const Token> text, Sampler& sampler,
                      std::span<Token> out, FunctionRef<bool(double probability)> keep_on) {
  // The last token runs in any case: its output is the first guess.
  const int same = tenant == tenant_ ? common_prefix(tokens_, text.first(text.size() - 1)) : 0;
  tenant_ = tenant;
  tokens_.resize(static_cast<size_t>(store_->truncate(sequence_, same)));
  const int looked = looked_at(sampler, model_.decoder->config().n_vocab);
  top_tokens_.resize(static_cast<size_t>(looked)), top_logits_.resize(top_tokens_.size());
  auto rest = text.subspan(tokens_.size());
  // Embeddings may have more rows than the vocabulary they share has tokens, and not as many.
  const Token end = std::min(model_.decoder->config().n_vocab, n_vocab_);
  if (std::ranges::any_of(rest, [&](Token token) { return token >= end; })) return 0;
  const auto context = static_cast<size_t>(model_.decoder->context());
  size_t guessed = 0;
  while (guessed < out.size() && tokens_.size() + rest.size() <= context) {
    const auto begin = std::chrono::steady_clock::now();
    const bool one = rest.size() == 1;
    run(rest);
    model_.decoder->most_likely({&last_row_, 1}, looked, top_tokens_, top_logits_);
    const Pick picked = pick(sampler, top_tokens_, top_logits_, static_cast<int64_t>(text.size() + guessed));
    if (picked.token >= end) break;
    Token& guess = out[guessed++];
    guess = picked.token;
    if (one) took(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    rest = {&guess, 1};
    if (!keep_on(picked.probability)) break;
  }
  return static_cast<int>(guessed);
}

}  // namespace hearth
