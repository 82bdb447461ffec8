#include "net/http_reader.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

#include "base/result.h"

namespace hearth {

namespace http = boost::beast::http;

struct HttpReader::Parser {
  http::request_parser<http::string_body> request;
};

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

size_t count(const HttpRequest& request, std::string_view name) {
  return static_cast<size_t>(
      std::ranges::count(request.headers, name, [](const auto& header) { return header.first; }));
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  const auto found = std::ranges::find(headers, name, [](const auto& header) { return header.first; });
  return found == headers.end() ? std::string_view() : found->second;
}

HttpReader::HttpReader(const HttpReaderLimits& limits) : limits_(limits) {}
HttpReader::~HttpReader() = default;

size_t HttpReader::fail(int status, std::string message) {
  state_ = State::kFailed;
  error_status_ = status;
  error_message_ = std::move(message);
  return 0;
}

size_t HttpReader::feed(std::string_view input) {
  size_t used = 0;
  if (state_ == State::kHead && scanned_ == 0 && !skipped_line_ && input.starts_with("\r\n")) {
    skipped_line_ = true;  // after a body, as old clients send (RFC 9112, 2.2)
    used = 2;
  }
  if (state_ == State::kHead) used += feed_head(input.substr(used));
  if (state_ == State::kBody) used += feed_body(input.substr(used));
  return used;
}

// The end of the head is found here, and what Beast would let pass on the way to it refused: a line end that others see
// where we see none is how requests are smuggled.
size_t HttpReader::feed_head(std::string_view head) {
  for (; scanned_ < head.size(); ++scanned_) {
    const char c = head[scanned_];
    if (c == '\0') return fail(400, "the request holds a zero byte");
    if (c == '\r' && scanned_ + 1 == head.size()) break;  // looked at again with its LF
    if (c == '\r' && head[scanned_ + 1] != '\n') return fail(400, "a line ends in CR without LF");
    if ((c == ' ' || c == '\t') && scanned_ > 0 && head[scanned_ - 1] == '\n')
      return fail(400, "a header goes on in a second line");
    if (c != '\n') continue;
    if (scanned_ == 0 || head[scanned_ - 1] != '\r') return fail(400, "a line ends in LF without CR");
    if (scanned_ >= 3 && head.substr(scanned_ - 3, 4) == "\r\n\r\n" && scanned_ < limits_.head_bytes)
      return parse_head(head.substr(0, scanned_ + 1));
  }
  if (scanned_ > limits_.head_bytes) {
    const bool in_target = head.substr(0, limits_.head_bytes).find("\r\n") == std::string_view::npos;
    return fail(in_target ? 414 : 431, fmt::format("the headers are longer than {} bytes", limits_.head_bytes));
  }
  return 0;
}

size_t HttpReader::parse_head(std::string_view head) {
  parser_ = std::make_unique<Parser>();
  parser_->request.header_limit(static_cast<uint32_t>(limits_.head_bytes));
  parser_->request.body_limit(limits_.body_bytes);
  boost::system::error_code error;
  parser_->request.put(boost::asio::buffer(head.data(), head.size()), error);
  if (error == http::error::body_limit)
    return fail(413, fmt::format("the body is longer than {} bytes", limits_.body_bytes));
  if (error == http::error::bad_version) return fail(505, "only HTTP/1.0 and HTTP/1.1");
  if (error && error != http::error::need_more) return fail(400, "no HTTP request: " + error.message());
  if (!parser_->request.is_header_done()) return fail(400, "no HTTP request");
  scanned_ = 0;
  if (!accept_head()) return 0;
  parser_->request.eager(true);
  state_ = parser_->request.is_done() ? State::kComplete : State::kBody;
  return head.size();
}

bool HttpReader::accept_head() {
  const auto& message = parser_->request.get();
  request_ = HttpRequest();
  request_.method = std::string(message.method_string());
  for (const auto& field : message) {
    if (request_.headers.size() >= limits_.headers)
      return fail(431, fmt::format("more than {} headers", limits_.headers)), false;
    request_.headers.emplace_back(lower(field.name_string()), std::string(field.value()));
  }
  http_1_0_ = message.version() == 10;
  keep_alive_ = message.keep_alive();
  return accept_target(std::string_view(message.target())) && accept_framing();
}

bool HttpReader::accept_target(std::string_view target) {
  if (target.size() > limits_.target_bytes)
    return fail(414, fmt::format("the path has {} bytes, limit {}", target.size(), limits_.target_bytes)), false;
  if (count(request_, "host") > 1 || (count(request_, "host") == 0 && !http_1_0_))
    return fail(400, "want one Host header"), false;
  request_.host = std::string(request_.header("host"));
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!lower(target.substr(0, scheme.size())).starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t slash = std::min(target.find_first_of("/?"), target.size());
    request_.host = std::string(target.substr(0, slash));
    target.remove_prefix(slash);
    if (target.empty()) target = "/";
  }
  if (!target.starts_with('/') && !(target == "*" && request_.method == "OPTIONS"))
    return fail(400, "the path does not begin with /"), false;
  if (target.contains('#')) return fail(400, "the path holds a fragment"), false;
  const size_t question = std::min(target.find('?'), target.size());
  request_.path = std::string(target.substr(0, question));
  request_.query = std::string(target.substr(std::min(question + 1, target.size())));
  return true;
}

bool HttpReader::accept_framing() {
  const size_t lengths = count(request_, "content-length"), codings = count(request_, "transfer-encoding");
  if (lengths > 1 || codings > 1 || (lengths && codings)) return fail(400, "the length is given twice"), false;
  if (codings && (http_1_0_ || lower(request_.header("transfer-encoding")) != "chunked"))
    return fail(http_1_0_ ? 400 : 501, "a transfer coding other than chunked"), false;
  if (lengths && !std::ranges::all_of(request_.header("content-length"), [](char c) { return c >= '0' && c <= '9'; }))
    return fail(400, "the length is no number"), false;
  const auto length = parser_->request.content_length();
  if (length && *length > limits_.body_bytes)
    return fail(413, fmt::format("a body of {} bytes, limit {}", *length, limits_.body_bytes)), false;
  expects_continue_ = lower(request_.header("expect")) == "100-continue" && !http_1_0_;
  if (!request_.header("expect").empty() && !expects_continue_ && !http_1_0_)
    return fail(417, "an expectation other than 100-continue"), false;
  return true;
}

size_t HttpReader::feed_body(std::string_view input) {
  size_t used = 0;
  // Of a last chunk Beast 1.81 wants all five bytes at once, or it ends the process.
  const size_t least = parser_->request.chunked() ? std::string_view("0\r\n\r\n").size() : 1;
  while (input.size() - used >= least && state_ == State::kBody) {
    boost::system::error_code error;
    const size_t taken = parser_->request.put(boost::asio::buffer(input.data() + used, input.size() - used), error);
    used += taken;
    if (error == http::error::body_limit)
      return fail(413, fmt::format("the body is longer than {} bytes", limits_.body_bytes)), used;
    if (error && error != http::error::need_more) return fail(400, "no HTTP body: " + error.message()), used;
    if (parser_->request.is_done()) state_ = State::kComplete;
    if (taken == 0 && state_ == State::kBody) {
      // The line before a chunk, or the headers after the last: no longer than a head may be.
      if (input.size() - used > limits_.head_bytes) return fail(400, "a chunk begins with too long a line"), used;
      break;
    }
  }
  if (used > 0) expects_continue_ = false;
  return used;
}

bool HttpReader::take_expectation() { return state_ == State::kBody && std::exchange(expects_continue_, false); }

HttpRequest HttpReader::take() {
  request_.body = std::move(parser_->request.get().body());
  parser_.reset();
  state_ = State::kHead;
  expects_continue_ = skipped_line_ = false;
  return std::exchange(request_, {});
}

}  // namespace hearth
