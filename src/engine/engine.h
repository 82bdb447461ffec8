// The engine: takes requests, runs them together on one decoder, and hands out text as it appears.
//
// Threads: submit() from any thread. One engine thread drives the decoder. A Stream is for one consumer thread; dropping it
// cancels its request.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "engine/schedule.h"
#include "model/model.h"
#include "model/sequence.h"
#include "text/sampler.h"

namespace hearth {

struct Request {
  std::vector<Token> prompt;  // at least one token
  SamplingOptions sampling;
  int max_tokens = -1;            // -1: until the model ends or the context is full
  std::vector<std::string> stop;  // texts that end the answer; not part of it
  bool special = false;           // control tokens appear as text
  bool ignore_eos = false;        // goes on when the model would end (benchmarks)
};
// kInvalidArgument or kLimit naming the field.
Result<void> check(const Request& request, int n_vocab, int context);

enum class Finish : uint8_t {
  kEnd,        // the model ended its answer
  kStop,       // a stop text appeared
  kLength,     // max_tokens
  kContext,    // the context is full
  kCancelled,  // the engine shut down
};
std::string_view name(Finish finish);

struct Usage {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};

// What next() returns: text of one or more tokens, or the end.
struct Piece {
  std::string text;           // whole characters, may be empty
  std::vector<Token> tokens;  // generated since the last piece
  bool done = false;
  Finish finish = Finish::kEnd;  // if done
  Usage usage;                   // if done
};

class Stream {
 public:
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // Waits for the next piece; after the one with `done` it returns that again.
  Piece next();
  // Waits at most so long; empty if nothing came.
  std::optional<Piece> next_for(std::chrono::milliseconds timeout);
  void cancel();

 private:
  friend class Engine;
  Stream() = default;
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

struct EngineOptions {
  int parallel = 1;  // sequences at once
  KvType kv_type = KvType::kF16;
  int queue_max = 64;     // requests waiting; more are refused with kBusy
  int prefill_max = 512;  // rows of one chunk of a prompt
};

class Engine {
 public:
  // Takes over the model. KV room for `parallel` full contexts is reserved (and taken as it fills).
  static Result<std::unique_ptr<Engine>> create(Model model, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Refuses at once what cannot work: kInvalidArgument, kLimit (longer than the context), kBusy (queue full).
  Result<std::unique_ptr<Stream>> submit(Request request);

  [[nodiscard]] const Model& model() const { return model_; }

 private:
  struct Active;

  Engine(Model model, const EngineOptions& options);
  void work(std::stop_token stop);
  bool take_requests(std::stop_token stop);
  Result<void> admit(Active& active);
  void step();
  void take_token(Active& active, Token token);
  void finish(Active& active, Finish finish);
  void retire_finished();
  bool evict_idle();

  Model model_;
  EngineOptions options_;
  std::unique_ptr<SequenceStore> store_;

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::unique_ptr<Active>> queue_;

  // The engine thread's alone.
  std::vector<std::unique_ptr<Active>> active_;
  struct Idle {  // a finished sequence whose state the next turn of a conversation can go on from
    SequenceId sequence;
    std::vector<Token> tokens;
  };
  std::vector<Idle> idle_;  // least recently used first
  size_t turn_ = 0;
  std::vector<float> logits_;
  std::jthread thread_;  // last: joins before anything above goes
};

}  // namespace hearth
