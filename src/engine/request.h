// What is asked of the engine, and what an answer is made of.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/sampler.h"

namespace hearth {

class Adapter;
class Grammar;

// Real-time work pre-empts the others at the next token; batch work takes what is left.
enum class RequestClass : uint8_t { kRealtime, kInteractive, kBatch };
inline constexpr int kRequestClasses = 3;
std::string_view name(RequestClass request_class);
Result<RequestClass> parse_request_class(std::string_view name);

struct Request {
  std::vector<Token> prompt;  // at least one token
  SamplingOptions sampling{};
  int max_tokens = -1;              // -1: until the model ends or the context is full
  std::vector<std::string> stop{};  // texts that end the answer; not part of it
  bool special = false;             // control tokens appear as text
  bool ignore_eos = false;          // goes on when the model would end (benchmarks)
  int logprobs = -1;  // alternatives told of for each token of the answer; -1: no log probabilities at all
  bool prompt_logprobs =
      false;  // with logprobs: first those of the prompt's tokens but the first; all of it is run then
  std::shared_ptr<const Grammar> grammar{};  // the language the answer must be in; null: any text
  std::shared_ptr<const Adapter> adapter{};  // null: the model as it is

  // What the answer will be, or much of it, as far as whoever asks can tell: drafts are copied from it. Changes no token.
  std::vector<Token> prediction{};
  int drafts_max = -1;  // drafted tokens in a step, at most, where the engine allows more; -1: as the engine is set

  // Tokens may leave the model before its last layers, as long as the mean divergence from the whole model that was measured
  // stays within this (model/exits.h). The answer is another one. 0: none may; negative: as the engine is set.
  double exit_kld = -1;

  // Instead of an answer, how likely each of these continuations of the prompt is (Piece::scores). Nothing is generated.
  std::vector<std::vector<Token>> candidates{};

  std::string tenant{};  // whose request it is: cached state is shared within a tenant only
  RequestClass request_class = RequestClass::kInteractive;
  int priority = 0;                          // within a class, the higher first
  std::optional<double> deadline_seconds{};  // from submission to the last token
};
// kInvalidArgument or kLimit naming the field.
Result<void> check(const Request& request, int n_vocab, int context);

enum class Finish : uint8_t {
  kEnd,        // the model ended its answer
  kStop,       // a stop text appeared
  kLength,     // max_tokens
  kContext,    // the context is full
  kCancelled,  // the engine shut down, or the consumer cancelled
  kDeadline,   // the deadline passed; what there was until then is the answer
};
std::string_view name(Finish finish);

struct Usage {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  int drafted_tokens = 0, accepted_tokens = 0;  // run as guesses, and those of them that became part of the answer
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  double joules = -1;                      // of the steps it was part of, its share by rows; negative: nobody knows
  bool joules_measured = false;            // else estimated, at least in part
  bool bits_lowered = false;               // the pacer had some of it computed at 4 bits
  int row_bits = 32;                       // of numbers between the machines of a chain
  double exit_kld_max = 0;                 // the bound under which tokens of the answer left early; 0: none did
  int exit_layers = 0, exited_tokens = 0;  // so many layers were left out for so many of its tokens
};
inline std::string_view joules_source(const Usage& usage) { return usage.joules_measured ? "measured" : "estimated"; }

// How likely the model held a token to be (natural logarithm, before temperature, penalties and grammar).
struct TokenLogprob {
  Token token = kNoToken;
  float logprob = 0;
  std::vector<std::pair<Token, float>> top{};  // the most likely ones, best first
};

}  // namespace hearth
