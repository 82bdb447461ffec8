// The C interface over the engine. Whatever may fail runs inside guarded(), so nothing leaves as an exception.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>
#include <optional>
#include <system_error>

#include "base/limits.h"
#include "base/log.h"
#include "base/topology.h"
#include "capi/given.h"
#include "engine/engine.h"
#include "engine/governed_pacer.h"
#include "hearth/hearth.h"
#include "model/kv_gate.h"
#include "power/governor.h"
#include "store/pack_cache.h"
#include "store/store.h"
#include "text/utf8.h"

struct hearth_engine {
  std::shared_ptr<hearth::power::Governor> governor;
  std::unique_ptr<hearth::Engine> engine;
};

struct hearth_stream {
  std::unique_ptr<hearth::Stream> stream;
  hearth::Piece piece;  // what the last hearth_next showed
  hearth_usage usage;
};

namespace hearth {
namespace {

namespace fs = std::filesystem;

static_assert(static_cast<int>(Code::kInvalidArgument) + 1 == HEARTH_INVALID_ARGUMENT);
static_assert(static_cast<int>(Code::kInternal) + 1 == HEARTH_INTERNAL);
hearth_code code_of(Code code) { return static_cast<hearth_code>(static_cast<int>(code) + 1); }

static_assert(static_cast<int>(Finish::kEnd) + 1 == HEARTH_FINISH_END);
static_assert(static_cast<int>(Finish::kCancelled) + 1 == HEARTH_FINISH_CANCELLED);
static_assert(static_cast<int>(Finish::kDeadline) + 1 == HEARTH_FINISH_DEADLINE);
hearth_finish finish_of(Finish finish) { return static_cast<hearth_finish>(static_cast<int>(finish) + 1); }

hearth_code report(hearth_error* error, hearth_code code, std::string_view message) {
  if (error == nullptr) return code;
  error->code = code;
  message = message.substr(0, sizeof(error->message) - 1);
  message.remove_suffix(incomplete_utf8_tail(message));
  message.copy(error->message, message.size());
  error->message[message.size()] = '\0';
  return code;
}

// Runs body, which returns Result<void>, and tells the caller how it went.
template <typename Body>
hearth_code guarded(hearth_error* error, Body body) noexcept {
  try {
    const Result<void> result = body();
    if (result) return report(error, HEARTH_OK, "");
    return report(error, code_of(result.error().code), result.error().message);
  } catch (const std::bad_alloc&) {
    return report(error, HEARTH_LIMIT, "out of memory");
  } catch (const std::system_error& e) {
    return report(error, HEARTH_IO, e.what());
  } catch (const std::exception& e) {
    return report(error, HEARTH_INTERNAL, e.what());
  } catch (...) {
    return report(error, HEARTH_INTERNAL, "an exception of an unknown kind");
  }
}

Result<fs::path> find_model(const char* model, const char* store) {
  TRY(given("model", model));
  if (store != nullptr) {
    std::error_code ignored;
    if (!fs::is_directory(fs::path(store) / "models", ignored))
      return fail(Code::kNotFound, "{}: no model store (no folder 'models' in it)", store);
    return TRY(Store::open(store)).resolve(model);
  }
  std::error_code error;
  const fs::path path(model);
  if (fs::is_directory(path, error)) return model_in_folder(path);
  if (fs::is_regular_file(path, error)) return path;
  return fail(Code::kNotFound, "{}: no such file or folder; for the name of a model set hearth_options.store", model);
}

// Where packs are kept; empty if the caller wants none, or, with a warning in the log, if the folder cannot be made.
std::optional<PackCache> cache_of(const hearth_options& options) {
  if (options.cache != nullptr ? *options.cache == '\0' : options.store == nullptr) return std::nullopt;
  const fs::path store(options.store != nullptr ? options.store : "");
  const fs::path folder = options.cache != nullptr ? fs::path(options.cache) : store / "packs";
  auto cache = PackCache::open(folder, store.empty() ? store : fs::absolute(store) / "models");
  if (cache) return std::move(*cache);
  LOG(kWarning, "{}", cache.error().message);
  return std::nullopt;
}

Result<hearth_engine> load(const char* model, const hearth_options* given_options) {
  const hearth_options options = TRY(take(given_options));
  const std::string_view kv_type = options.kv_type != nullptr ? options.kv_type : "f16";
  TRY(planned_kv_type(kv_type));  // before the model is loaded for nothing
  const fs::path path = TRY(find_model(model, options.store));
  const int n_threads = options.threads > 0 ? options.threads : fast_cores().count;
  auto backend =
      TRY(create_backend(options.backend != nullptr ? options.backend : "cpu", {.n_threads = n_threads, .isa = {}}));
  const auto cache = cache_of(options);
  Model loaded = TRY(load_model(path, std::move(backend), {.context = options.context, .rows_max = 0, .progress = {}},
                                {.cache = cache ? &*cache : nullptr, .n_threads = n_threads, .progress = {}}));
  EngineOptions engine_options{
      .kv_type = TRY(
          choose_kv_type(loaded, kv_type, {.memory = cache ? cache->notes(loaded.checkpoint->path()) : fs::path()}))};
  if (options.parallel > 0) engine_options.parallel = options.parallel;
  if (options.queue > 0) engine_options.queue_max = options.queue;
  std::shared_ptr governor = power::Governor::start({.policy = {.n_threads = n_threads}});
  engine_options.pacer = std::make_shared<GovernedPacer<power::Governor>>(governor);
  std::unique_ptr<Engine> engine = TRY(Engine::create(std::move(loaded), engine_options));
  return hearth_engine{std::move(governor), std::move(engine)};
}

Result<std::string> prompt_of(const TextSide& text, const hearth_request& request) {
  if ((request.prompt != nullptr) == (request.messages != nullptr))
    return fail(Code::kInvalidArgument, "hearth_request: set either prompt or messages");
  if (request.prompt != nullptr) {
    TRY(check_bytes("prompt", std::strlen(request.prompt)));
    return std::string(request.prompt);
  }
  boost::json::array messages;
  size_t bytes = 0;
  for (const hearth_message& message : std::span(request.messages, request.n_messages)) {
    TRY(given("a message's role", message.role));
    TRY(given("a message's content", message.content));
    bytes += std::strlen(message.role) + std::strlen(message.content);
    TRY(check_bytes("messages", bytes));
    messages.push_back(boost::json::object{{"role", message.role}, {"content", message.content}});
  }
  return render_chat(text, messages);
}

Result<std::unique_ptr<Stream>> submit(Engine& engine, const hearth_request* given_request) {
  const hearth_request given_one = TRY(take(given_request));
  std::vector<std::string> stops = TRY(stops_of(given_one));
  Request request{
      .prompt = {}, .sampling = sampling_of(given_one), .max_tokens = given_one.max_tokens, .stop = std::move(stops)};
  const std::string prompt = TRY(prompt_of(engine.model().text, given_one));
  request.prompt = encode_prompt(*engine.model().text.tokenizer, prompt);
  return engine.submit(std::move(request));
}

hearth_usage usage_of(const Usage& usage) {
  const hearth_source source = usage.joules < 0        ? HEARTH_SOURCE_ABSENT
                               : usage.joules_measured ? HEARTH_SOURCE_MEASURED
                                                       : HEARTH_SOURCE_ESTIMATED;
  return {.prompt_tokens = usage.prompt_tokens,
          .cached_tokens = usage.cached_tokens,
          .completion_tokens = usage.completion_tokens,
          .queue_seconds = usage.queue_seconds,
          .prefill_seconds = usage.prefill_seconds,
          .decode_seconds = usage.decode_seconds,
          .joules = std::max(usage.joules, 0.0),
          .joules_source = source,
          .drafted_tokens = usage.drafted_tokens,
          .accepted_tokens = usage.accepted_tokens,
          .bits_lowered = usage.bits_lowered ? 1 : 0};
}

// What the caller sees of the stream's piece. Pieces of callers with an older header are shorter.
void show(hearth_stream& stream, hearth_piece& out) {
  const Piece& piece = stream.piece;
  stream.usage = usage_of(piece.usage);
  const hearth_piece shown{.size = out.size,
                           .text = piece.text.c_str(),
                           .text_bytes = piece.text.size(),
                           .tokens = piece.tokens.data(),
                           .n_tokens = piece.tokens.size(),
                           .done = piece.done ? 1 : 0,
                           .finish = piece.done ? finish_of(piece.finish) : HEARTH_FINISH_NONE,
                           .usage = piece.done ? &stream.usage : nullptr};
  std::memcpy(&out, &shown, std::min(out.size, sizeof(shown)));
}

// Copies what fits; `total` becomes what there is.
template <typename From, typename To>
Result<void> hand_out(const From& from, To* to, size_t capacity, size_t* total) {
  TRY(given("where the count goes", total));
  if (capacity > 0) TRY(given("where the result goes", to));
  *total = from.size();
  std::copy_n(from.begin(), std::min(capacity, from.size()), to);
  return {};
}

Result<void> check_flags(unsigned flags) {
  if ((flags & ~(HEARTH_SPECIAL | HEARTH_BOS)) == 0) return {};
  return fail(Code::kInvalidArgument, "flags are {:#x}; known are HEARTH_SPECIAL and HEARTH_BOS", flags);
}

}  // namespace
}  // namespace hearth

using hearth::guarded;
using hearth::Result;

const char* hearth_version(void) { return HEARTH_VERSION; }

const char* hearth_code_name(hearth_code code) {
  if (code == HEARTH_OK) return "ok";
  if (code == HEARTH_TIMEOUT) return "timeout";
  if (code < HEARTH_OK || code > HEARTH_INTERNAL) return "unknown";
  return hearth::info(static_cast<hearth::Code>(code - 1)).name.data();
}

hearth_engine* hearth_load(const char* model, const hearth_options* options, hearth_error* error) {
  hearth_engine* made = nullptr;
  guarded(error, [&]() -> Result<void> {
    auto engine = TRY(hearth::load(model, options));  // before new: TRY may return, and an allocation would be lost
    made = new hearth_engine(std::move(engine));
    return {};
  });
  return made;
}

void hearth_engine_free(hearth_engine* engine) { delete engine; }

int32_t hearth_context(const hearth_engine* engine) {
  return engine == nullptr ? 0 : engine->engine->model().decoder->context();
}

hearth_code hearth_thermal_headroom(hearth_engine* engine, float headroom, hearth_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TRY(hearth::given("engine", engine));
    if (std::isnan(headroom)) return {};
    constexpr float kMost = 100;
    if (!(headroom >= 0 && headroom <= kMost))
      return hearth::fail(hearth::Code::kInvalidArgument, "headroom is {}; use 0 to {}", headroom, kMost);
    engine->governor->tell_headroom(headroom);
    return {};
  });
}

hearth_stream* hearth_submit(hearth_engine* engine, const hearth_request* request, hearth_error* error) {
  hearth_stream* made = nullptr;
  guarded(error, [&]() -> Result<void> {
    TRY(hearth::given("engine", engine));
    TRY(hearth::given("request", request));
    auto stream = TRY(hearth::submit(*engine->engine, request));
    made = new hearth_stream{std::move(stream), {}, {}};
    return {};
  });
  return made;
}

hearth_code hearth_next(hearth_stream* stream, int32_t timeout_ms, hearth_piece* piece, hearth_error* error) {
  bool came = true;
  const hearth_code code = guarded(error, [&]() -> Result<void> {
    TRY(hearth::given("stream", stream));
    TRY(hearth::check_piece(piece));
    TRY(hearth::in_range("timeout_ms", timeout_ms, -1, INT32_MAX));
    if (timeout_ms < 0) {
      stream->piece = stream->stream->next();
    } else {
      auto next = stream->stream->next_for(std::chrono::milliseconds(timeout_ms));
      came = next.has_value();
      stream->piece = came ? std::move(*next) : hearth::Piece{};
    }
    hearth::show(*stream, *piece);
    return {};
  });
  return came ? code : hearth::report(error, HEARTH_TIMEOUT, "nothing came in time");
}

void hearth_cancel(hearth_stream* stream) {
  if (stream != nullptr) stream->stream->cancel();
}

void hearth_stream_free(hearth_stream* stream) { delete stream; }

hearth_code hearth_tokenize(const hearth_engine* engine, const char* text, size_t text_bytes, unsigned flags,
                            int32_t* tokens, size_t capacity, size_t* n_tokens, hearth_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TRY(hearth::given("engine", engine));
    if (text_bytes > 0) TRY(hearth::given("text", text));
    TRY(hearth::check_bytes("text", text_bytes));
    TRY(hearth::check_flags(flags));
    const auto encoded = engine->engine->model().text.tokenizer->encode(
        {text, text_bytes}, {.parse_special = (flags & HEARTH_SPECIAL) != 0, .add_bos = (flags & HEARTH_BOS) != 0});
    return hearth::hand_out(encoded, tokens, capacity, n_tokens);
  });
}

hearth_code hearth_detokenize(const hearth_engine* engine, const int32_t* tokens, size_t n_tokens, unsigned flags,
                              char* text, size_t capacity, size_t* text_bytes, hearth_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TRY(hearth::given("engine", engine));
    if (n_tokens > 0) TRY(hearth::given("tokens", tokens));
    TRY(hearth::check_flags(flags));
    const auto& tokenizer = *engine->engine->model().text.tokenizer;
    for (const int32_t token : std::span(tokens, n_tokens))
      TRY(hearth::in_range("a token", token, 0, tokenizer.n_vocab() - 1));
    const std::string decoded = tokenizer.decode({tokens, n_tokens}, (flags & HEARTH_SPECIAL) != 0);
    return hearth::hand_out(hearth::with_replacement(decoded), text, capacity, text_bytes);
  });
}
