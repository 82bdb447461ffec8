// How likely continuations of a prompt are: the prompt runs once, then all candidates in one batch, each in a fork of it.
#include <algorithm>

#include "engine/engine_active.h"

namespace hearth {

// Candidates on their way through the decoder: the rows of the next run, and which token follows each.
class Engine::ScoreBatch {
 public:
  ScoreBatch(Engine& engine, Active& active) : engine_(engine), store_(*engine.store_), active_(active) {
    engine_.tokens_.clear(), engine_.rows_.clear();
  }
  ~ScoreBatch() { release_all_but(-1); }
  ScoreBatch(const ScoreBatch&) = delete;
  ScoreBatch& operator=(const ScoreBatch&) = delete;

  // A chain lost the state: nothing of this counts.
  [[nodiscard]] bool lost() const { return lost_; }

  // Puts all tokens of a candidate but the last into rows, and runs them whenever a step is full. Errors: no room for its state.
  Result<void> add(size_t index) {
    const std::span<const Token> candidate = active_.request.candidates[index];
    if (candidate.size() < 2 || lost_) return {};
    const SequenceId fork = TRY(open_fork());
    for (size_t begin = 0; begin + 1 < candidate.size() && !lost_;) {
      const size_t first_row = engine_.tokens_.size();
      const size_t free = static_cast<size_t>(engine_.model_.decoder->rows_max()) - first_row;
      const size_t count = std::min(free, candidate.size() - 1 - begin);
      TRY(reserve(fork, static_cast<int>(count)));
      engine_.rows_.push_back(store_.rows(fork, static_cast<int>(first_row), static_cast<int>(count)));
      sequences_.push_back(fork);
      for (const size_t end = begin + count; begin < end; ++begin) {
        engine_.tokens_.push_back(candidate[begin]);
        next_.emplace_back(index, candidate[begin + 1]);
      }
      if (count == free) run(fork);
    }
    return {};
  }

  // Runs the rows there are and lets go of all sequences but `kept`.
  void run(SequenceId kept = -1) {
    if (!next_.empty() && !lost_) {
      engine_.adapters_.assign(engine_.rows_.size(), active_.request.adapter.get());
      engine_.exits_.clear();  // those of the step's own sequences
      if (!engine_.run_rows()) return forget();
      for (size_t i = 0; i < sequences_.size(); ++i) store_.advance(sequences_[i], engine_.rows_[i].count);
      add_scores();
      engine_.prompt_rows_ += static_cast<int>(next_.size());
    }
    release_all_but(kept);
    next_.clear(), sequences_.clear(), engine_.tokens_.clear(), engine_.rows_.clear();
  }

 private:
  // A few rows of logits at a time.
  void add_scores() {
    constexpr size_t kRows = 8;
    const auto n_vocab = static_cast<size_t>(engine_.model_.decoder->config().n_vocab);
    auto& wanted = engine_.wanted_;
    for (size_t first = 0; first < next_.size(); first += kRows) {
      wanted.clear();
      for (size_t row = first; row < std::min(first + kRows, next_.size()); ++row)
        wanted.push_back(static_cast<int32_t>(row));
      engine_.find_logits();
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto logits = std::span(engine_.logits_).subspan(i * n_vocab, n_vocab);
        const auto [index, token] = next_[first + i];
        active_.scores[index] += logits[static_cast<size_t>(token)] - log_sum_exp(logits);
      }
    }
  }

  // Stages that begin anew know nothing of the forks, and are not told of their end.
  void forget() {
    lost_ = true;
    const size_t told = engine_.ops_.size();
    release_all_but(-1);
    engine_.ops_.resize(told);
  }

  Result<SequenceId> open_fork() {
    auto fork = store_.fork(active_.sequence);
    if (!fork) run();
    while (!fork && (fork = store_.fork(active_.sequence), !fork) && engine_.make_room()) continue;
    if (fork) forks_.push_back(*fork);
    return fork;
  }

  Result<void> reserve(SequenceId fork, int count) {
    auto room = store_.reserve(fork, count);
    while (!room && engine_.make_room()) room = store_.reserve(fork, count);
    return room;
  }

  void release_all_but(SequenceId kept) {
    for (const SequenceId fork : forks_)
      if (fork != kept) store_.release(fork);
    std::erase_if(forks_, [&](SequenceId fork) { return fork != kept; });
  }

  Engine& engine_;
  SequenceStore& store_;
  Active& active_;
  bool lost_ = false;
  std::vector<SequenceId> forks_, sequences_;  // open ones; those of the rows
  std::vector<std::pair<size_t, Token>> next_;
};

// The first token of each candidate, from the logits after the prompt.
void Engine::begin_scores(Active& active, std::span<const float> logits) {
  const double normaliser = log_sum_exp(logits);
  for (const auto& candidate : active.request.candidates)
    active.scores.push_back(logits[static_cast<size_t>(candidate.front())] - normaliser);
  scored_.push_back(&active);
}

// Their other tokens: as many candidates at a time as there are rows.
void Engine::finish_scores(Active& active) {
  if (active.waiting(*store_) > 0) return active.scores.clear();  // a chain lost the prompt's state: it runs again
  ScoreBatch batch(*this, active);
  for (size_t i = 0; i < active.request.candidates.size(); ++i) {
    if (batch.add(i)) continue;
    active.scores.clear();
    return finish(active, Finish::kContext);
  }
  batch.run();
  if (batch.lost()) return active.scores.clear();
  finish(active, Finish::kEnd);
}

}  // namespace hearth
