#include "net/http_connection.h"

#include <algorithm>

namespace hearth {
namespace {
constexpr size_t kSliceBytes = 64 << 10;                 // what a client has to take within write_time
constexpr std::chrono::milliseconds kGoodbyeTime{2000};  // for the client to close, too
}  // namespace

HttpConnection::HttpConnection(HttpConnectionHost& host, std::shared_ptr<Socket> socket, Origin origin)
    : host_(host),
      socket_(std::move(socket)),
      origin_(origin),
      reader_(host.options.reader),
      read_timer_(host.loop->timer()),
      write_timer_(host.loop->timer()) {}

void HttpConnection::start() {
  enter(Phase::kHead);
  read();
}

std::optional<std::chrono::steady_clock::time_point> HttpConnection::idle_since() const {
  return phase_ == Phase::kIdle ? std::optional(since_) : std::nullopt;
}

void HttpConnection::close_if_idle() {
  if (phase_ == Phase::kIdle || (phase_ == Phase::kHead && input_.empty())) close();
}

// A phase has its time from when it begins: bytes that trickle in do not prolong it.
void HttpConnection::enter(Phase phase) {
  phase_ = phase;
  since_ = std::chrono::steady_clock::now();
  const HttpServerOptions& options = host_.options;
  std::chrono::milliseconds time{};
  if (phase == Phase::kIdle) time = options.idle_time;
  if (phase == Phase::kHead) time = options.head_time;
  if (phase == Phase::kBody) time = options.body_time;
  if (phase == Phase::kClosing) time = kGoodbyeTime;
  read_timer_->cancel();
  if (time.count() > 0) {
    read_timer_->set(time, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->time_out();
    });
  }
}

void HttpConnection::time_out() {
  if ((phase_ == Phase::kHead && !input_.empty()) || phase_ == Phase::kBody)
    return refuse(408, "the request did not arrive in time");
  close();
}

void HttpConnection::read() {
  // While an answer is on its way reading goes on, for that shows when the client goes.
  if (reading_ || ended_ || phase_ == Phase::kClosing || phase_ == Phase::kClosed) return;
  if (input_.size() >= limits::kHttpPipelineBytes) return;
  reading_ = true;
  socket_->read_some(chunk_, [self = shared_from_this()](size_t bytes) {
    self->reading_ = false;
    self->take_input(bytes);
  });
}

void HttpConnection::take_input(size_t bytes) {
  if (phase_ == Phase::kClosing || phase_ == Phase::kClosed) return;
  if (bytes == 0) return take_end();
  input_.append(chunk_.data(), bytes);
  advance();
  read();
}

// Whoever has asked and only shut down its side of the connection still gets its answer; whoever has gone refuses what is sent, so
// something harmless is, where the answer has not begun.
void HttpConnection::take_end() {
  if (phase_ != Phase::kBusy) return close();
  ended_ = true;
  socket_->when_lost([self = shared_from_this()] { self->close(); });
  if (answer_ && answer_->awaited() && !reader_.http_1_0()) {
    out_ += "HTTP/1.1 102 Processing\r\n\r\n";
    write_out();
  }
}

void HttpConnection::advance() {
  if (phase_ == Phase::kBusy || phase_ == Phase::kClosing || phase_ == Phase::kClosed || input_.empty()) return;
  if (phase_ == Phase::kIdle) enter(Phase::kHead);
  input_.erase(0, reader_.feed(input_));
  switch (reader_.state()) {
    case HttpReader::State::kHead:
      break;
    case HttpReader::State::kBody:
      if (phase_ != Phase::kBody) enter(Phase::kBody);
      if (reader_.take_expectation()) {
        out_ += "HTTP/1.1 100 Continue\r\n\r\n";
        write_out();
      }
      break;
    case HttpReader::State::kComplete:
      dispatch();
      break;
    case HttpReader::State::kFailed:
      refuse(reader_.error_status(), reader_.error_message());
      break;
  }
}

void HttpConnection::dispatch() {
  enter(Phase::kBusy);
  HttpRequest request = reader_.take();
  request.peer = socket_->peer();
  request.local = origin_.local;
  request.door = origin_.door;
  request.tls = socket_->tls();
  const ServerAnswer::Form form{.http_1_0 = reader_.http_1_0(),
                                .keep_alive = reader_.keep_alive() && !host_.draining,
                                .head_only = request.method == "HEAD",
                                .stream_buffer_bytes = host_.options.stream_buffer_bytes};
  auto news = [loop = host_.loop, weak = weak_from_this()] {
    loop->post([weak] {
      if (const auto self = weak.lock()) self->flush();
    });
  };
  const auto answer = std::make_shared<ServerAnswer>(std::move(request), form, host_.workers, std::move(news));
  answer_ = answer->output();
  complete_ = false;
  answer->post([answer, &handler = host_.handler] { handler(answer); });
}

// An answer without a handler, after which nothing of this client is read.
void HttpConnection::refuse(int status, std::string_view message) {
  const std::string body = fmt::format("{}\n", message);
  out_ += http_head(status, "text/plain", {}, static_cast<int64_t>(body.size()), "close", false) + body;
  input_.clear();
  enter(Phase::kBusy);
  close_after_ = true;
  write_out();
}

void HttpConnection::flush() {
  if (phase_ == Phase::kClosed || writing_ || !answer_ || complete_) return;
  ServerAnswer::Output::Fetched fetched = answer_->fetch();
  if (fetched.cut) return close();
  complete_ = fetched.complete;
  close_after_ = fetched.close;
  out_ += fetched.bytes;
  if (!out_.empty()) return write_out();
  if (complete_) answered();
}

void HttpConnection::write_out() {
  if (writing_ || phase_ == Phase::kClosed) return;
  writing_ = true;
  const std::string_view slice = std::string_view(out_).substr(out_sent_, kSliceBytes);
  write_timer_->set(host_.options.write_time, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  socket_->write(slice, [self = shared_from_this(), bytes = slice.size()](bool sent) {
    self->writing_ = false;
    if (self->phase_ == Phase::kClosed) return;
    self->write_timer_->cancel();
    if (!sent) return self->close();
    self->out_sent_ += bytes;
    if (self->out_sent_ < self->out_.size()) return self->write_out();
    self->out_.clear();
    self->out_sent_ = 0;
    if (self->answer_ ? self->complete_ : self->close_after_) return self->answered();
    self->flush();
  });
}

void HttpConnection::answered() {
  if (answer_) answer_->sent();
  answer_.reset();
  if (close_after_ || host_.draining) return finish();
  enter(Phase::kIdle);
  advance();
  if (ended_ && (phase_ == Phase::kIdle || phase_ == Phase::kHead || phase_ == Phase::kBody)) return finish();
  read();
}

void HttpConnection::finish() {
  enter(Phase::kClosing);
  socket_->finish([self = shared_from_this()] { self->close(); });
}

void HttpConnection::close() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  phase_ = Phase::kClosed;
  read_timer_->cancel();
  write_timer_->cancel();
  socket_->close();
  if (const auto answer = std::exchange(answer_, nullptr)) answer->gone();
  host_.connection_closed(*this);
}

}  // namespace hearth
