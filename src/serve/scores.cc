#include "serve/scores.h"

#include <algorithm>

namespace hearth::serve {
namespace {

// Owned by the exchange, as a Generation is.
class Batch : public std::enable_shared_from_this<Batch> {
 public:
  Batch(RouteCall call, Acquired acquired, std::function<void(std::vector<Piece>)> done)
      : call_(std::move(call)), acquired_(std::move(acquired)), done_(std::move(done)) {}

  Result<void> start(std::vector<Request> requests) {
    requests_ = std::move(requests);
    for (const Request& request : requests_) call_.record->prompt_tokens += static_cast<int>(request.prompt.size());
    pieces_.resize(requests_.size());
    TRY(submit());
    call_.exchange->on_gone([self = shared_from_this(), exchange = std::weak_ptr(call_.exchange)]() mutable {
      if (const auto lane = exchange.lock()) lane->post([self = std::move(self)] { self->release(); });
    });
    return {};
  }

 private:
  static constexpr size_t kAtOnce = 16;  // what is asked together, so that a long list does not fill the engine's queue

  Result<void> submit() {
    while (streams_.size() < requests_.size() && streams_.size() < finished_ + kAtOnce) {
      streams_.push_back(TRY(acquired_.model->engine->submit(std::move(requests_[streams_.size()]))));
      streams_.back()->on_news([exchange = call_.exchange, self = weak_from_this()] {
        exchange->post([self] {
          if (const auto batch = self.lock()) batch->drain();
        });
      });
    }
    return {};
  }

  void drain() {
    if (streams_.empty()) return;
    for (size_t i = 0; i < streams_.size(); ++i) {
      if (pieces_[i].done) continue;
      if (auto piece = streams_[i]->next_for(std::chrono::milliseconds(0))) pieces_[i] = std::move(*piece);
      finished_ += pieces_[i].done ? 1 : 0;
    }
    if (finished_ < requests_.size()) {
      const auto submitted = submit();
      if (submitted) return;
      release();
      return reply_error(call_, submitted.error());
    }
    std::vector<Piece> pieces = std::move(pieces_);
    release();
    if (std::ranges::find(pieces, Finish::kCancelled, &Piece::finish) != pieces.end())
      return reply_error(call_, {Code::kCancelled, "the server shuts down"});
    done_(std::move(pieces));
  }
  void release() {
    streams_.clear();
    acquired_.model.reset();
  }

  RouteCall call_;
  Acquired acquired_;
  std::function<void(std::vector<Piece>)> done_;
  std::vector<Request> requests_;
  std::vector<std::unique_ptr<Stream>> streams_;
  size_t finished_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace

Result<void> run_all(const RouteCall& call, Acquired acquired, std::vector<Request> requests,
                     std::function<void(std::vector<Piece>)> done) {
  return std::make_shared<Batch>(call, std::move(acquired), std::move(done))->start(std::move(requests));
}

}  // namespace hearth::serve
