#include "engine/request.h"

#include <algorithm>
#include <array>

#include "base/limits.h"

namespace hearth {
namespace {

constexpr std::array<std::string_view, 6> kFinishNames{"end", "stop", "length", "context", "cancelled", "deadline"};
constexpr std::array<std::string_view, 3> kClassNames{"realtime", "interactive", "batch"};

Result<void> check_tokens(std::string_view what, std::span<const Token> tokens, int n_vocab) {
  for (const Token token : tokens)
    if (token < 0 || token >= n_vocab)
      return fail(Code::kInvalidArgument, "{} holds token {}, the vocabulary has {}", what, token, n_vocab);
  return {};
}

Result<void> check_candidates(const Request& request, int n_vocab, int context) {
  if (request.candidates.size() > limits::kCandidates)
    return fail(Code::kLimit, "{} candidates, the limit is {}", request.candidates.size(), limits::kCandidates);
  for (const auto& candidate : request.candidates) {
    if (candidate.empty()) return fail(Code::kInvalidArgument, "a candidate has no tokens");
    if (candidate.size() + request.prompt.size() > static_cast<size_t>(context))
      return fail(Code::kLimit, "a candidate has {} tokens and the prompt {}, the context {}", candidate.size(),
                  request.prompt.size(), context);
    TRY(check_tokens("a candidate", candidate, n_vocab));
  }
  return {};
}

}  // namespace

std::string_view name(Finish finish) { return kFinishNames[static_cast<size_t>(finish)]; }
std::string_view name(RequestClass request_class) { return kClassNames[static_cast<size_t>(request_class)]; }

Result<RequestClass> parse_request_class(std::string_view name) {
  const auto found = std::ranges::find(kClassNames, name);
  if (found == kClassNames.end())
    return fail(Code::kInvalidArgument, "no request class \"{}\"; there are realtime, interactive and batch", name);
  return static_cast<RequestClass>(found - kClassNames.begin());
}

Result<void> check(const Request& request, int n_vocab, int context) {
  TRY(check(request.sampling));
  if (request.prompt.empty()) return fail(Code::kInvalidArgument, "the prompt is empty");
  if (request.prompt.size() >= static_cast<size_t>(context))
    return fail(Code::kLimit, "the prompt has {} tokens, the context {}; use a larger --context or a shorter prompt",
                request.prompt.size(), context);
  TRY(check_tokens("the prompt", request.prompt, n_vocab));
  TRY(check_tokens("the prediction", request.prediction, n_vocab));
  for (const auto& [token, bias] : request.sampling.logit_bias) TRY(check_tokens("logit_bias", {&token, 1}, n_vocab));
  if (request.stop.size() > limits::kStopTexts)
    return fail(Code::kLimit, "{} stop texts, the limit is {}", request.stop.size(), limits::kStopTexts);
  for (const std::string& stop : request.stop)
    if (stop.empty() || stop.size() > limits::kStopBytes)
      return fail(Code::kInvalidArgument, "a stop text has {} bytes; use 1 to {}", stop.size(), limits::kStopBytes);
  if (request.max_tokens < -1) return fail(Code::kInvalidArgument, "max_tokens is {}", request.max_tokens);
  if (request.logprobs < -1 || request.logprobs > limits::kLogprobs)
    return fail(Code::kInvalidArgument, "logprobs is {}; use -1 to {}", request.logprobs, limits::kLogprobs);
  if (request.ignore_eos && request.grammar)
    return fail(Code::kInvalidArgument, "ignore_eos: cannot be combined with a form of the output or tools");
  if (!(request.exit_kld <= 10)) return fail(Code::kInvalidArgument, "exit_kld is {}; use 0 to 10", request.exit_kld);
  if (request.deadline_seconds && !(*request.deadline_seconds > 0))
    return fail(Code::kInvalidArgument, "the deadline is {} seconds away", *request.deadline_seconds);
  return check_candidates(request, n_vocab, context);
}

}  // namespace hearth
