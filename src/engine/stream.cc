#include "engine/stream.h"

#include "engine/stream_shared.h"

namespace hearth {

void Stream::Shared::push(std::string_view text, Token token, TokenLogprob* logprob) {
  const std::scoped_lock lock(mutex);
  pending.text += text;
  if (token != kNoToken) pending.tokens.push_back(token);
  if (logprob) pending.logprobs.push_back(std::move(*logprob));
  const bool tell = !std::exchange(has_news, true);
  ready.notify_one();
  if (tell && listener) listener();
}

void Stream::Shared::end(Finish finish, const Usage& usage, std::vector<double> scores) {
  const std::scoped_lock lock(mutex);
  pending.done = true;
  pending.finish = finish;
  pending.usage = usage;
  pending.scores = std::move(scores);
  has_news = true;
  ready.notify_one();
  if (listener) listener();
}

Piece Stream::Shared::take() {
  Piece piece = pending;
  pending.text.clear();
  pending.tokens.clear();
  pending.logprobs.clear();
  has_news = pending.done;
  return piece;
}

Stream::~Stream() {
  on_news({});
  cancel();
}

void Stream::cancel() { shared_->cancelled.store(true); }

void Stream::on_news(std::function<void()> listener) {
  const std::scoped_lock lock(shared_->mutex);
  shared_->listener = std::move(listener);
  if (shared_->has_news && shared_->listener) shared_->listener();
}

Piece Stream::next() {
  std::unique_lock lock(shared_->mutex);
  shared_->ready.wait(lock, [&] { return shared_->has_news; });
  return shared_->take();
}

std::optional<Piece> Stream::next_for(std::chrono::milliseconds timeout) {
  std::unique_lock lock(shared_->mutex);
  if (!shared_->ready.wait_for(lock, timeout, [&] { return shared_->has_news; })) return std::nullopt;
  return shared_->take();
}

}  // namespace hearth
