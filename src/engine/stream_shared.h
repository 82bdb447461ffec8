// The engine's end of a Stream.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/stream.h"

namespace hearth {

struct Stream::Shared {
  void push(std::string_view text, Token token, TokenLogprob* logprob = nullptr);
  void end(Finish finish, const Usage& usage, std::vector<double> scores = {});
  Piece take();  // with the lock held

  std::mutex mutex;
  std::condition_variable ready;
  Piece pending;
  bool has_news = false;
  std::function<void()> listener;
  std::atomic<bool> cancelled{false};
};

}  // namespace hearth
