// Drafted tokens: found before a step, judged as the sampler picks.
#include <algorithm>

#include "engine/engine_active.h"

namespace hearth {
namespace {

// Earlier answers are kept for so many tenants, and so many tokens of each.
constexpr size_t kTenantsMax = 16, kAnswerTokens = 8192;

}  // namespace

// What may follow in the sequences of the step, and how much of it is worth running. Nothing while prompts run, whose rows cost
// otherwise, and nothing that a recurrent layer could not forget again.
void Engine::find_drafts() {
  for (const auto& active : active_) active->draft.length = active->draft.rows = active->draft.taken = 0;
  const bool any_prompt = std::ranges::any_of(
      shares_, [&](const Share& share) { return runnables_[static_cast<size_t>(share.index)].prefill; });
  if (options_.drafts_max == 0 || any_prompt || store_->state_stride() > 0) return;
  chances_.clear();
  for (const Share share : shares_) {
    Active& active = *active_[static_cast<size_t>(share.index)];
    find_draft(active);
    chances_.emplace_back(active.draft.chances.data(), static_cast<size_t>(active.draft.length));
  }
  draft_counts_.resize(chances_.size());
  if (options_.drafts_max < 0) {
    choose_drafts(chances_, row_costs_, model_.decoder->rows_max(), draft_counts_);
  } else {
    int left = model_.decoder->rows_max() - static_cast<int>(shares_.size());
    for (size_t i = 0; i < chances_.size(); ++i) {
      draft_counts_[i] = std::min(left, static_cast<int>(chances_[i].size()));
      left -= draft_counts_[i];
    }
  }
  for (size_t i = 0; i < shares_.size(); ++i)
    active_[static_cast<size_t>(shares_[i].index)]->draft.rows = draft_counts_[i];
}

void Engine::find_draft(Active& active) {
  Draft& draft = active.draft;
  active.index.append(std::span(active.tokens).subspan(active.indexed));
  active.indexed = active.tokens.size();
  int most = model_.decoder->context() - static_cast<int>(active.tokens.size()) - 1;
  if (active.request.max_tokens >= 0)
    most = std::min(most, active.request.max_tokens - active.usage.completion_tokens - 1);
  for (const int limit : {options_.drafts_max, active.request.drafts_max})
    if (limit >= 0) most = std::min(most, limit);
  most = std::min(most, kDraftMax);
  if (most <= 0) return;

  draft.source = DraftSource::kText;
  DraftIndex::Match match = active.index.find(active.tokens);
  const DraftIndex* from = &active.index;
  if (const DraftIndex* answers = answers_of(active.request.tenant)) {
    if (const DraftIndex::Match other = answers->find(active.tokens); other.length > match.length)
      match = other, from = answers, draft.source = DraftSource::kAnswers;
  }
  if (match.length == 0) return;
  draft.match = match.length;
  const auto tokens = std::span(draft.tokens).first(static_cast<size_t>(most));
  from->copy(match, tokens);
  for (const Token token : tokens) {  // an answer needs no step for its end
    if (model_.text.tokenizer->ends_generation(token) && !active.request.ignore_eos) break;
    const int length = draft.match + draft.length;
    const double expected = acceptance_.chance(draft.source, length, Acceptance::expected(length));
    draft.chances[static_cast<size_t>(draft.length++)] = active.acceptance.chance(draft.source, length, expected);
  }
}

// Counts whether the draft foresaw a token, run or not: so what a draft is worth is known before one is run.
void Engine::judge_draft(Active& active, Token token) {
  Draft& draft = active.draft;
  if (draft.taken >= draft.length) return;
  const bool came_true = draft.tokens[static_cast<size_t>(draft.taken)] == token;
  const int match = draft.match + draft.taken;
  active.acceptance.add(draft.source, match, came_true);
  acceptance_.add(draft.source, match, came_true);
  if (came_true)
    ++draft.taken;
  else
    draft.length = draft.taken;
}

// After the sampler's pick for the newest row that counts, `row` rows into the draft: whether the next row counts, since it ran with
// that pick.
bool Engine::next_row_counts(Active& active, int row) {
  if (active.finished || row >= active.draft.rows || active.draft.taken <= row) return false;
  store_->advance(active.sequence, 1);
  const auto source = static_cast<size_t>(active.draft.source);
  ++accepted_[source];
  ++active.usage.accepted_tokens;
  return true;
}

const DraftIndex* Engine::answers_of(const std::string& tenant) const {
  const auto place = std::ranges::find(answers_, tenant, &Answers::tenant);
  return place == answers_.end() ? nullptr : &place->index;
}

// For drafts in later answers to the same tenant.
void Engine::remember_answer(const Active& active) {
  if (options_.drafts_max == 0 || store_->state_stride() > 0) return;
  const auto answer = std::span(active.tokens).subspan(active.request.prompt.size());
  if (answer.empty()) return;
  auto place = std::ranges::find(answers_, active.request.tenant, &Answers::tenant);
  if (place != answers_.end()) {
    std::rotate(place, place + 1, answers_.end());
  } else {
    if (answers_.size() == kTenantsMax) answers_.erase(answers_.begin());
    answers_.push_back({active.request.tenant, DraftIndex(kAnswerTokens)});
  }
  answers_.back().index.append(answer);
}

}  // namespace hearth
