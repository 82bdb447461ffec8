// Drafted tokens: found before a step, judged as the sampler picks.
#include <algorithm>

#include "engine/engine_active.h"

namespace hearth {
namespace {

// Earlier answers are kept for so many tenants, and so many tokens of each.
constexpr size_t kTenantsMax = 16, kAnswerTokens = 8192;
// A guesser's guesses are also counted all together, as matches of this length, which no text has.
constexpr int kAnyMatch = 1;

}  // namespace

// What may follow in the sequences of the step, and how much of it is worth running. Nothing while prompts run, whose rows cost
// otherwise, and nothing that a recurrent layer could not forget again.
void Engine::find_drafts() {
  for (const auto& active : active_)
    if (!active->in_flight) active->draft.length = active->draft.rows = active->draft.taken = 0;
  guessing_seconds_ = 0;
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

int Engine::drafts_allowed(const Active& active) const {
  int most = std::min(kDraftMax, model_.decoder->context() - static_cast<int>(active.tokens.size()) - 1);
  if (active.request.max_tokens >= 0)
    most = std::min(most, active.request.max_tokens - active.usage.completion_tokens - 1);
  for (const int limit : {options_.drafts_max, active.request.drafts_max, pacing_.drafts_max})
    if (limit >= 0) most = std::min(most, limit);
  return std::max(most, 0);
}

void Engine::find_draft(Active& active) {
  active.index.append(std::span(active.tokens).subspan(active.indexed));
  active.indexed = active.tokens.size();
  const int most = drafts_allowed(active);
  if (most == 0) return;
  Draft& draft = active.draft;
  draft.source = DraftSource::kText;
  DraftIndex::Match match = active.index.find(active.tokens);
  const DraftIndex* from = &active.index;
  if (const DraftIndex* answers = answers_of(active.request.tenant)) {
    if (const DraftIndex::Match other = answers->find(active.tokens); other.length > match.length)
      match = other, from = answers, draft.source = DraftSource::kAnswers;
  }
  if (match.length > 0) {
    const auto tokens = std::span(draft.tokens).first(static_cast<size_t>(most));
    from->copy(match, tokens);
    for (const Token token : tokens)
      if (!add_to_draft(active, token, match.length + draft.length)) break;
  }
  if (guesser_ && shares_.size() == 1 && posted_.empty()) guess_by_model(active, most);
}

// False if the draft ends before the token: an answer needs no step for its end.
bool Engine::add_to_draft(Active& active, Token token, int match) {
  if (model_.text.tokenizer->ends_generation(token) && !active.request.ignore_eos) return false;
  Draft& draft = active.draft;
  const auto at = static_cast<size_t>(draft.length++);
  draft.tokens[at] = token;
  draft.matches[at] = match;
  draft.chances[at] = chance_of(active, draft.source, match);
  return true;
}

double Engine::chance_of(const Active& active, DraftSource source, int match) const {
  return active.acceptance.chance(source, match, acceptance_.chance(source, match, Acceptance::expected(match)));
}

// In the place of what was found in texts, if that promises less.
void Engine::guess_by_model(Active& active, int most) {
  constexpr int kTryAgain = 200;    // steps until a model that did not pay is asked for one guess
  constexpr double kUntried = 0.7;  // that a guess of it comes true, as long as nobody knows
  Draft& draft = active.draft;
  const DraftSource source = guesser_->source();
  const double usual = active.acceptance.chance(source, kAnyMatch, acceptance_.chance(source, kAnyMatch, kUntried));
  std::array<double, kDraftMax> chances{};
  chances.fill(usual);
  const double each = guesser_->guess_seconds();
  const GuessPlan found =
      plan_guesses(std::span(draft.chances).first(static_cast<size_t>(draft.length)), 0, row_costs_);
  GuessPlan plan = plan_guesses(std::span(chances).first(static_cast<size_t>(most)), each, row_costs_);
  if (options_.drafts_max > 0)
    plan.count = draft.length > 0 ? 0 : most;
  else if (plan.rate <= found.rate)
    plan.count = 0;
  if (plan.count == 0 && (++steps_unguessed_ < kTryAgain || options_.drafts_max > 0 || draft.length > 0)) return;
  steps_unguessed_ = 0;
  draft.length = 0;
  draft.source = source;
  std::array<Token, kDraftMax> tokens{};
  double reached = 1;
  const auto begin = EngineClock::now();
  guesser_->guess(active.request.tenant, active.sequence, active.tokens, active.sampler,
                  std::span(tokens).first(static_cast<size_t>(std::max(1, plan.count))), [&](double probability) {
                    if (!add_to_draft(active, tokens[static_cast<size_t>(draft.length)], match_of(probability)))
                      return false;
                    reached *= draft.chances[static_cast<size_t>(draft.length) - 1];
                    // Another one costs its guess, and gives what it likely saves: a step.
                    return options_.drafts_max > 0 || reached * usual * row_costs_.seconds(1) > each;
                  });
  guessing_seconds_ = seconds(EngineClock::now() - begin);
}

// Counts whether the draft foresaw a token, run or not: so what a draft is worth is known before one is run.
void Engine::judge_draft(Active& active, Token token) {
  Draft& draft = active.draft;
  if (draft.taken >= draft.length) return;
  const auto at = static_cast<size_t>(draft.taken);
  const bool came_true = draft.tokens[at] == token;
  for (Acceptance* each : {&active.acceptance, &acceptance_}) {
    each->add(draft.source, draft.matches[at], came_true);
    if (draft.source >= DraftSource::kModel) each->add(draft.source, kAnyMatch, came_true);
  }
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
  ++accepted_[static_cast<size_t>(active.draft.source)];
  ++active.usage.accepted_tokens;
  ++step_accepted_;
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
