#include "capi/given.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/limits.h"

namespace hearth {
namespace {

// The first published form of each struct; a caller's cannot be shorter. No padding at the end, where a later field would
// hide behind an unchanged size.
constexpr size_t kOptionsBytes = offsetof(hearth_options, queue) + sizeof(int32_t);
constexpr size_t kRequestBytes = offsetof(hearth_request, frequency_penalty) + sizeof(float);
constexpr size_t kPieceBytes = offsetof(hearth_piece, usage) + sizeof(void*);
static_assert(kOptionsBytes == offsetof(hearth_options, cache) && kRequestBytes == sizeof(hearth_request) &&
              kPieceBytes == sizeof(hearth_piece));

Result<void> check_size(std::string_view what, size_t size, size_t smallest) {
  if (size >= smallest) return {};
  return fail(Code::kInvalidArgument, "{}.size is {}, at least {}; begin with its _INIT macro", what, size, smallest);
}

}  // namespace

Result<void> given(std::string_view what, const void* pointer) {
  if (pointer != nullptr) return {};
  return fail(Code::kInvalidArgument, "{} is NULL", what);
}

Result<void> in_range(std::string_view what, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return {};
  return fail(Code::kInvalidArgument, "{} is {}; use {} to {}", what, value, min, max);
}

Result<void> check_bytes(std::string_view what, size_t bytes) {
  if (bytes <= limits::kPromptBytes) return {};
  return fail(Code::kLimit, "{}: {} bytes, the limit is {}", what, bytes, limits::kPromptBytes);
}

Result<hearth_options> take(const hearth_options* options) {
  constexpr int64_t kThreadsMax = 1024, kParallelMax = 256, kQueueMax = 65536;
  hearth_options taken = HEARTH_OPTIONS_INIT;
  if (options == nullptr) return taken;
  TRY(check_size("hearth_options", options->size, kOptionsBytes));
  std::memcpy(&taken, options, std::min(options->size, sizeof(taken)));
  TRY(in_range("hearth_options.threads", taken.threads, 0, kThreadsMax));
  TRY(in_range("hearth_options.context", taken.context, 0, limits::kContext));
  TRY(in_range("hearth_options.parallel", taken.parallel, 0, kParallelMax));
  TRY(in_range("hearth_options.queue", taken.queue, 0, kQueueMax));
  return taken;
}

Result<hearth_request> take(const hearth_request* request) {
  TRY(check_size("hearth_request", request->size, kRequestBytes));
  hearth_request taken = HEARTH_REQUEST_INIT;
  std::memcpy(&taken, request, std::min(request->size, sizeof(taken)));
  if (taken.n_messages > 0) TRY(given("hearth_request.messages", taken.messages));
  if (taken.n_stop > 0) TRY(given("hearth_request.stop", taken.stop));
  return taken;
}

Result<void> check_piece(const hearth_piece* piece) {
  TRY(given("piece", piece));
  return check_size("hearth_piece", piece->size, kPieceBytes);
}

SamplingOptions sampling_of(const hearth_request& request) {
  SamplingOptions sampling;
  sampling.temperature = request.temperature;
  sampling.top_k = request.top_k;
  sampling.top_p = request.top_p;
  sampling.min_p = request.min_p;
  sampling.repetition_penalty = request.repetition_penalty;
  sampling.presence_penalty = request.presence_penalty;
  sampling.frequency_penalty = request.frequency_penalty;
  sampling.seed = request.seed;
  return sampling;
}

Result<std::vector<std::string>> stops_of(const hearth_request& request) {
  std::vector<std::string> stops;
  for (const char* stop : std::span(request.stop, request.n_stop)) {
    TRY(given("a stop text", stop));
    stops.emplace_back(stop);
  }
  return stops;
}

}  // namespace hearth
