// An answer on its way from the engine to whoever asked.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace hearth {

// Text of one or more tokens, or the end.
struct Piece {
  std::string text;                    // whole characters, may be empty
  std::vector<Token> tokens;           // generated since the last piece
  std::vector<TokenLogprob> logprobs;  // of those tokens, if asked for; before the first of them those of the prompt
  struct Part {
    size_t text_end, tokens_end, logprobs_end;
  };
  std::vector<Part> parts;     // what came at once: the same however long the consumer waited
  std::vector<double> scores;  // if done, of a request with candidates: the log probability of each
  bool done = false;
  Finish finish = Finish::kEnd;  // if done
  Usage usage;                   // if done
};

// A piece as it would have come to a consumer that never waits: depends on the tokens alone. The end is a piece by itself.
std::vector<Piece> split(const Piece& piece);

// For one consumer thread. A consumer that does not read gets longer pieces, not more: what waits is one piece that grows, bounded
// by the context. Dropping a Stream cancels its request.
class Stream {
 public:
  struct Shared;  // what the engine writes to
  explicit Stream(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // Waits for the next piece; after the one with `done` it returns that again.
  Piece next();
  // Waits at most so long; empty if nothing came.
  std::optional<Piece> next_for(std::chrono::milliseconds timeout);
  // `listener` is called from the engine's thread each time next() would no longer wait, and at once if it would not now. It may
  // only enqueue. Not called any more once this returns with another one, or the Stream is gone.
  void on_news(std::function<void()> listener);
  void cancel();

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace hearth
