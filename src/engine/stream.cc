#include "engine/stream.h"

#include "engine/stream_shared.h"

namespace hearth {

void Stream::Shared::push(std::string_view text, Token token, TokenLogprob* logprob) {
  const std::scoped_lock lock(mutex);
  pending.text += text;
  if (token != kNoToken) pending.tokens.push_back(token);
  if (logprob) pending.logprobs.push_back(std::move(*logprob));
  pending.parts.push_back({pending.text.size(), pending.tokens.size(), pending.logprobs.size()});
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
  pending.parts.clear();
  has_news = pending.done;
  return piece;
}

std::vector<Piece> split(const Piece& piece) {
  std::vector<Piece> pieces;
  Piece::Part begin{};
  for (const Piece::Part& part : piece.parts) {
    Piece& one = pieces.emplace_back();
    one.text = piece.text.substr(begin.text_end, part.text_end - begin.text_end);
    one.tokens.assign(piece.tokens.begin() + static_cast<ptrdiff_t>(begin.tokens_end),
                      piece.tokens.begin() + static_cast<ptrdiff_t>(part.tokens_end));
    one.logprobs.assign(piece.logprobs.begin() + static_cast<ptrdiff_t>(begin.logprobs_end),
                        piece.logprobs.begin() + static_cast<ptrdiff_t>(part.logprobs_end));
    begin = part;
  }
  if (!piece.done) return pieces;
  Piece& end = pieces.emplace_back();
  end.done = true, end.finish = piece.finish, end.usage = piece.usage, end.scores = piece.scores;
  return pieces;
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
