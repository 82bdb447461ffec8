#include "net/server_answer.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>

namespace hearth {
namespace {

std::string_view phrase(int status) {
  struct Row {
    int status;
    std::string_view phrase;
  };
  static constexpr Row kRows[] = {{100, "Continue"},
                                  {200, "OK"},
                                  {202, "Accepted"},
                                  {204, "No Content"},
                                  {304, "Not Modified"},
                                  {400, "Bad Request"},
                                  {401, "Unauthorized"},
                                  {403, "Forbidden"},
                                  {404, "Not Found"},
                                  {405, "Method Not Allowed"},
                                  {408, "Request Timeout"},
                                  {409, "Conflict"},
                                  {413, "Content Too Large"},
                                  {414, "URI Too Long"},
                                  {415, "Unsupported Media Type"},
                                  {417, "Expectation Failed"},
                                  {421, "Misdirected Request"},
                                  {429, "Too Many Requests"},
                                  {431, "Request Header Fields Too Large"},
                                  {500, "Internal Server Error"},
                                  {501, "Not Implemented"},
                                  {503, "Service Unavailable"},
                                  {505, "HTTP Version Not Supported"}};
  const auto* row = std::ranges::find(kRows, status, &Row::status);
  return row == std::end(kRows) ? "Status" : row->phrase;
}

bool is_plain(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
}

}  // namespace

std::string http_head(int status, std::string_view content_type, const HttpHeaders& headers, int64_t length,
                      std::string_view connection, bool chunked) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {:%a, %d %b %Y %H:%M:%S GMT}\r\n", status, phrase(status),
                                 fmt::gmtime(std::time(nullptr)));
  if (!content_type.empty() && is_plain(content_type)) head += fmt::format("Content-Type: {}\r\n", content_type);
  if (length >= 0) head += fmt::format("Content-Length: {}\r\n", length);
  if (chunked) head += "Transfer-Encoding: chunked\r\n";
  if (!connection.empty()) head += fmt::format("Connection: {}\r\n", connection);
  for (const auto& [name, value] : headers) {
    if (is_plain(name) && is_plain(value)) head += fmt::format("{}: {}\r\n", name, value);
  }
  return head + "\r\n";
}

ServerAnswer::ServerAnswer(HttpRequest request, Form form, std::shared_ptr<HttpWorkers> workers,
                           std::function<void()> news)
    : request_(std::move(request)), form_(form), news_(std::move(news)), output_(std::make_shared<Output>()) {
  output_->workers_ = std::move(workers);
  output_->close_ = !form.keep_alive;
  output_->head_only_ = form.head_only;
}

ServerAnswer::~ServerAnswer() {
  bool cut = false;
  {
    const std::scoped_lock lock(output_->mutex_);
    if (output_->ended_ || output_->gone_) return;
    if (output_->begun_) cut = output_->cut_ = true;
  }
  if (cut)
    news_();
  else
    reply(500, "text/plain", "the request was given up\n");
}

void ServerAnswer::add_header(std::string name, std::string value) {
  const std::scoped_lock lock(output_->mutex_);
  output_->headers_.emplace_back(std::move(name), std::move(value));
}

void ServerAnswer::reply(int status, std::string_view content_type, std::string body, HttpHeaders headers) {
  Output& out = *output_;
  {
    const std::scoped_lock lock(out.mutex_);
    if (out.begun_ || out.gone_) return;
    out.begun_ = out.ended_ = true;
    out.outcome_.status = status;
    headers.insert(headers.end(), out.headers_.begin(), out.headers_.end());
    const bool has_body = status != 204 && status != 304;
    const auto length = has_body ? static_cast<int64_t>(body.size()) : -1;
    out.bytes_ += http_head(status, has_body ? content_type : "", headers, length,
                            out.close_       ? "close"
                            : form_.http_1_0 ? "keep-alive"
                                             : "",
                            false);
    if (has_body && !form_.head_only) out.bytes_ += body;
  }
  news_();
}

void ServerAnswer::begin(int status, std::string_view content_type, HttpHeaders headers) {
  Output& out = *output_;
  {
    const std::scoped_lock lock(out.mutex_);
    if (out.begun_ || out.gone_) return;
    out.begun_ = true;
    out.chunked_ = !form_.http_1_0;
    if (form_.http_1_0) out.close_ = true;  // its end is the end of the connection
    out.outcome_.status = status;
    headers.insert(headers.end(), out.headers_.begin(), out.headers_.end());
    out.bytes_ += http_head(status, content_type, headers, -1, out.close_ ? "close" : "", out.chunked_);
  }
  news_();
}

bool ServerAnswer::write(std::string bytes) {
  Output& out = *output_;
  {
    const std::scoped_lock lock(out.mutex_);
    if (!out.begun_ || out.ended_ || out.gone_ || out.cut_) return false;
    if (bytes.empty() || form_.head_only) return true;
    const bool told = !out.bytes_.empty();
    if (out.bytes_.size() + bytes.size() > form_.stream_buffer_bytes) {
      out.cut_ = true;
    } else if (out.chunked_) {
      out.bytes_ += fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
    } else {
      out.bytes_ += bytes;
    }
    if (told && !out.cut_) return true;
    if (out.cut_) bytes.clear();
  }
  news_();
  return !bytes.empty();
}

void ServerAnswer::end() {
  Output& out = *output_;
  {
    const std::scoped_lock lock(out.mutex_);
    if (!out.begun_ || out.ended_ || out.gone_) return;
    out.ended_ = true;
    if (out.chunked_ && !form_.head_only) out.bytes_ += "0\r\n\r\n";
  }
  news_();
}

void ServerAnswer::on_gone(std::function<void()> gone) {
  {
    const std::scoped_lock lock(output_->mutex_);
    if (!output_->gone_) {
      if (!output_->finished_) output_->on_gone_ = std::move(gone);
      return;
    }
  }
  gone();
}

void ServerAnswer::on_done(std::function<void(const HttpOutcome&)> done) {
  Output& out = *output_;
  const std::scoped_lock lock(out.mutex_);
  if (!out.finished_) {
    out.on_done_ = std::move(done);
  } else {
    out.workers_->post(out.lane_, [done = std::move(done), outcome = out.outcome_] { done(outcome); });
  }
}

void ServerAnswer::run_waiting(const std::function<void()>& wait) { output_->workers_->stand_in_for(wait); }

void ServerAnswer::post(std::function<void()> job) { output_->workers_->post(output_->lane_, std::move(job)); }

ServerAnswer::Output::Fetched ServerAnswer::Output::fetch() {
  const std::scoped_lock lock(mutex_);
  outcome_.bytes += bytes_.size();
  return {.bytes = std::exchange(bytes_, {}), .complete = ended_, .close = close_, .cut = cut_};
}

bool ServerAnswer::Output::awaited() {
  const std::scoped_lock lock(mutex_);
  return !begun_;
}

void ServerAnswer::Output::gone() { finish(true); }
void ServerAnswer::Output::sent() { finish(false); }

void ServerAnswer::Output::finish(bool client_gone) {
  std::function<void()> gone;
  {
    const std::scoped_lock lock(mutex_);
    if (finished_) return;
    finished_ = true;
    gone_ = client_gone;
    outcome_.client_gone = client_gone;
    gone.swap(on_gone_);
    if (on_done_) workers_->post(lane_, [done = std::move(on_done_), outcome = outcome_] { done(outcome); });
    on_done_ = nullptr;
    bytes_.clear();
  }
  if (client_gone && gone) gone();
}

}  // namespace hearth
