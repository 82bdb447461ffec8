// The C++ face of libhearth (C++17): hearth.h with owners, strings and ranges. Header only; what hearth.h says about threads
// and meaning holds here. Errors are values: an Outcome holds what was asked for, or why there is none.
//
//   auto engine = hearth::Engine::load("model.gguf");
//   if (!engine) return complain(engine.error().message);
//   hearth::Request request;
//   request.messages = {{"user", "What is the capital of France?"}};
//   auto stream = engine->submit(request);
//   if (!stream) return complain(stream.error().message);
//   for (std::string_view piece : *stream) std::cout << piece << std::flush;
//
// A Stream may outlive its Engine; it then ends as cancelled.
#ifndef HEARTH_HEARTH_HPP
#define HEARTH_HEARTH_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "hearth/hearth.h"

namespace hearth {
inline namespace v0 {

struct Error {
  hearth_code code = HEARTH_OK;
  std::string message;
};

// A value or an Error. Reading the value of one that has none is undefined, as with std::optional.
template <typename T>
class Outcome {
 public:
  Outcome(T value) : state_(std::move(value)) {}
  Outcome(Error error) : state_(std::move(error)) {}
  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() { return *std::get_if<0>(&state_); }
  const T& operator*() const { return *std::get_if<0>(&state_); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  const Error& error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

// The fields of hearth_options; empty texts and zeros are its defaults.
struct Options {
  std::string store, backend, kv_type;
  int32_t threads = 0, context = 0, parallel = 0, queue = 0;
  std::optional<std::string> cache;  // "": no cache of packs
};

struct Message {
  std::string role, content;
};

// The fields of hearth_request. With messages it is a conversation, else a text to go on from.
struct Request {
  std::string prompt;
  std::vector<Message> messages;
  std::vector<std::string> stop;
  // Sampling and length, with hearth.h's names; the pointers in it are not used.
  hearth_request options = HEARTH_REQUEST_INIT;
};

// An answer as it comes. Movable; dropping it cancels.
class Stream {
 public:
  explicit Stream(hearth_stream* stream) : stream_(stream) {}

  // Waits for the next text, at most `timeout` if given: empty if nothing came in time, or after the end (see done()).
  Outcome<std::string_view> next(std::optional<std::chrono::milliseconds> timeout = std::nullopt) {
    hearth_error error;
    const int32_t wait_ms = timeout ? static_cast<int32_t>(timeout->count()) : -1;
    const hearth_code code = hearth_next(stream_.get(), wait_ms, &piece_, &error);
    if (code == HEARTH_OK) return std::string_view(piece_.text, piece_.text_bytes);
    if (code == HEARTH_TIMEOUT) return std::string_view();
    error_ = Error{code, error.message};
    return error_;
  }
  void cancel() { hearth_cancel(stream_.get()); }

  bool done() const { return piece_.done != 0; }
  hearth_finish finish() const { return piece_.finish; }                                // when done
  hearth_usage usage() const { return piece_.usage ? *piece_.usage : hearth_usage{}; }  // when done
  // Why a loop over the pieces ended before done().
  const Error& error() const { return error_; }

  // A range of std::string_view, to be walked once; each is valid until the next.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = std::string_view;

    explicit Iterator(Stream* stream) : stream_(stream) {
      if (stream_) ++*this;
    }
    std::string_view operator*() const { return text_; }
    Iterator& operator++() {
      do {
        if (stream_->done()) return end();
        const auto next = stream_->next();
        if (!next) return end();
        text_ = *next;
      } while (text_.empty());
      return *this;
    }
    bool operator==(const Iterator& other) const { return stream_ == other.stream_; }
    bool operator!=(const Iterator& other) const { return stream_ != other.stream_; }

   private:
    Iterator& end() {
      stream_ = nullptr;
      return *this;
    }
    Stream* stream_;
    std::string_view text_;
  };
  Iterator begin() { return Iterator(this); }
  Iterator end() { return Iterator(nullptr); }

 private:
  struct Free {
    void operator()(hearth_stream* stream) const { hearth_stream_free(stream); }
  };
  std::unique_ptr<hearth_stream, Free> stream_;
  hearth_piece piece_ = HEARTH_PIECE_INIT;
  Error error_;
};

// A loaded model. Movable; its functions may be called from several threads.
class Engine {
 public:
  static Outcome<Engine> load(const std::string& model, const Options& options = {}) {
    const auto text = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    const hearth_options given{
        sizeof(hearth_options), text(options.store), text(options.backend),
        text(options.kv_type),  options.threads,     options.context,
        options.parallel,       options.queue,       options.cache ? options.cache->c_str() : nullptr};
    hearth_error error;
    if (hearth_engine* engine = hearth_load(model.c_str(), &given, &error)) return Engine(engine);
    return Error{error.code, error.message};
  }

  Outcome<Stream> submit(const Request& request) {
    std::vector<hearth_message> messages;
    for (const Message& message : request.messages) messages.push_back({message.role.c_str(), message.content.c_str()});
    std::vector<const char*> stop;
    for (const std::string& text : request.stop) stop.push_back(text.c_str());
    hearth_request given = request.options;
    given.prompt = messages.empty() ? request.prompt.c_str() : nullptr;
    given.messages = messages.empty() ? nullptr : messages.data();
    given.n_messages = messages.size();
    given.stop = stop.data();
    given.n_stop = stop.size();
    hearth_error error;
    if (hearth_stream* stream = hearth_submit(engine_.get(), &given, &error)) return Stream(stream);
    return Error{error.code, error.message};
  }

  // `flags`: HEARTH_SPECIAL, HEARTH_BOS.
  Outcome<std::vector<int32_t>> tokenize(std::string_view text, unsigned flags = 0) const {
    return filled<std::vector<int32_t>>([&](int32_t* out, size_t capacity, size_t* total, hearth_error* error) {
      return hearth_tokenize(engine_.get(), text.data(), text.size(), flags, out, capacity, total, error);
    });
  }
  Outcome<std::string> detokenize(const std::vector<int32_t>& tokens, unsigned flags = 0) const {
    return filled<std::string>([&](char* out, size_t capacity, size_t* total, hearth_error* error) {
      return hearth_detokenize(engine_.get(), tokens.data(), tokens.size(), flags, out, capacity, total, error);
    });
  }
  int32_t context() const { return hearth_context(engine_.get()); }
  // What AThermal_getThermalHeadroom says; false if that cannot be.
  bool thermal_headroom(float headroom) {
    return hearth_thermal_headroom(engine_.get(), headroom, nullptr) == HEARTH_OK;
  }

 private:
  explicit Engine(hearth_engine* engine) : engine_(engine) {}

  // Asks for the size, then for the content.
  template <typename Container, typename Call>
  static Outcome<Container> filled(const Call& call) {
    Container out;
    hearth_error error;
    size_t total = 0;
    if (call(nullptr, 0, &total, &error) == HEARTH_OK) {
      out.resize(total);
      if (call(out.data(), out.size(), &total, &error) == HEARTH_OK) return out;
    }
    return Error{error.code, error.message};
  }

  struct Free {
    void operator()(hearth_engine* engine) const { hearth_engine_free(engine); }
  };
  std::unique_ptr<hearth_engine, Free> engine_;
};

}  // namespace v0
}  // namespace hearth

#endif
