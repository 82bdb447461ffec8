// Steps through a chain: several under way at once, each of other sequences, so that all its stages have something to do.
#include "base/check.h"
#include "base/log.h"
#include "engine/engine_active.h"

namespace hearth {

// Fills the chain, and takes the oldest step out of it. False if there is none, or all is lost.
bool Engine::run_through_chain() {
  while (!draining_ && scored_.empty() && std::cmp_less(posted_.size(), options_.chain->depth())) {
    compose_rows();
    if (tokens_.empty()) break;
    if (!post_rows()) return false;
  }
  return collect_rows();
}

// All that is under way to its end.
void Engine::drain() {
  draining_ = true;
  while (!posted_.empty()) step();
  draining_ = false;
}

bool Engine::post_rows() {
  Posted& step = posted_.emplace_back();
  step.stream.resize(tokens_.size() * static_cast<size_t>(model_.decoder->config().d_model));
  model_.decoder->embed(tokens_, step.stream);
  step.tokens.swap(tokens_), step.rows.swap(rows_), step.ran.swap(ran_);
  step.prompt_rows = prompt_rows_, step.decode_rows = decode_rows_, step.drafted = step_drafted_;
  for (const Ran& ran : step.ran) ran.active->in_flight = true;
  const auto posted = options_.chain->post(ops_, step.rows, step.stream);
  ops_.clear();
  return is_there(posted);
}

bool Engine::collect_rows() {
  prompt_rows_ = decode_rows_ = step_drafted_ = step_accepted_ = 0;
  if (posted_.empty() || !is_there(options_.chain->collect())) return false;
  Posted& step = posted_.front();
  model_.decoder->finish(step.stream);
  step.tokens.swap(tokens_), step.rows.swap(rows_), step.ran.swap(ran_);
  prompt_rows_ = step.prompt_rows, decode_rows_ = step.decode_rows, step_drafted_ = step.drafted;
  for (const Ran& ran : ran_) ran.active->in_flight = false;
  posted_.pop_front();
  return true;
}

// Rows that nothing else is under way beside.
bool Engine::run_rows_through_chain() {
  CHECK(posted_.empty());
  stream_.resize(tokens_.size() * static_cast<size_t>(model_.decoder->config().d_model));
  model_.decoder->embed(tokens_, stream_);
  const auto posted = options_.chain->post(ops_, rows_, stream_);
  ops_.clear();
  if (!is_there(posted) || !is_there(options_.chain->collect())) return false;
  model_.decoder->finish(stream_);
  return true;
}

// False if the chain lost its state: then all runs again from the tokens, or nothing can.
bool Engine::is_there(const Result<Chain::Ran>& ran) {
  if (ran && *ran == Chain::Ran::kYes) return true;
  start_over();
  if (ran) return false;
  LOG(kError, "the model's layers are not to be had: {}", ran.error().message);
  for (const auto& active : active_)
    if (!active->finished) finish(*active, Finish::kCancelled);
  return false;
}

// Tokens are the truth: sequences begin again with nothing, and what was only kept is gone.
void Engine::start_over() {
  posted_.clear();
  for (const auto& active : active_) active->in_flight = false;
  while (release_kept(0, false)) continue;
  for (const auto& active : active_) store_->release(active->sequence);
  ops_.clear();
  for (const auto& active : active_) active->sequence = store_->open().value();
}

}  // namespace hearth
