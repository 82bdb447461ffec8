#include "net/http_transfer.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <memory>
#include <string_view>
#include <thread>

#include "base/freed.h"
#include "base/limits.h"

namespace hearth {
namespace {

constexpr long kStalledBelowBytesPerSecond = 1000;
constexpr int kTextAttempts = 4;
constexpr auto kTextPause = std::chrono::milliseconds(250);

// OpenSSL's writes to a connection that the server has closed raise SIGPIPE, which would end the program; libcurl leaves that to
// us when CURLOPT_NOSIGNAL is set. Blocks it for this thread and takes away one that came meanwhile.
class PipeSignalBlock {
 public:
  PipeSignalBlock() {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeSignalBlock() {
    constexpr timespec kNow{0, 0};
    if (::sigismember(&before_, SIGPIPE) == 0) {
      while (::sigtimedwait(&pipe_, nullptr, &kNow) == SIGPIPE) {
      }
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalBlock(const PipeSignalBlock&) = delete;
  PipeSignalBlock& operator=(const PipeSignalBlock&) = delete;

 private:
  sigset_t pipe_{}, before_{};
};
using HeaderList = std::unique_ptr<curl_slist, Freed<curl_slist_free_all>>;

// libcurl's process-wide state, made once and before any use.
bool library_ready() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

// What one exchange (one hop) collects. libcurl calls back into it on the calling thread.
struct Exchange {
  const TransferSink* sink = nullptr;
  const std::atomic<bool>* cancel = nullptr;
  HttpAnswer answer;
  uint64_t header_bytes = 0;
  uint64_t dropped_bytes = 0;
  bool head_shown = false;
  bool enough = false;           // the rest of a body nobody wants
  std::optional<Error> refused;  // the sink's or our own refusal

  [[nodiscard]] bool redirect() const { return answer.status >= 300 && answer.status < 400 && answer.status != 304; }
  [[nodiscard]] bool wanted() const { return answer.status == 200 || answer.status == 206; }

  bool show_head() {
    if (head_shown || redirect()) return true;
    head_shown = true;
    if (auto taken = sink->head(answer); !taken) refused = std::move(taken).error();
    return !refused;
  }
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && curl_strnequal(a.data(), b.data(), a.size());
}

void take_header(HttpAnswer& answer, std::string_view name, std::string_view value) {
  if (equal_ignoring_case(name, "etag")) answer.etag = value;
  if (equal_ignoring_case(name, "last-modified")) answer.last_modified = value;
  if (equal_ignoring_case(name, "content-range")) answer.content_range = value;
  if (equal_ignoring_case(name, "content-encoding")) answer.content_encoding = value;
  if (equal_ignoring_case(name, "retry-after")) {
    std::from_chars(value.data(), value.data() + value.size(), answer.retry_after_seconds);
  }
  uint64_t length = 0;
  if (equal_ignoring_case(name, "content-length") &&
      std::from_chars(value.data(), value.data() + value.size(), length).ec == std::errc()) {
    answer.content_length = length;
  }
}

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view line(data, size * count);
  exchange.header_bytes += line.size();
  if (exchange.header_bytes > limits::kHttpHeaderBytes) {
    exchange.refused =
        Error{Code::kLimit, fmt::format("the server sent more than {} bytes of headers", limits::kHttpHeaderBytes)};
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // also after "100 Continue" and a proxy's answer
    exchange.answer = {};
    const size_t space = line.find(' ');
    if (space != std::string_view::npos) {
      std::from_chars(line.data() + space + 1, line.data() + line.size(), exchange.answer.status);
    }
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    take_header(exchange.answer, line.substr(0, colon), trimmed(line.substr(colon + 1)));
  }
  return line.size();
}

size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const size_t bytes = size * count;
  if (!exchange.show_head()) return CURL_WRITEFUNC_ERROR;
  if (!exchange.wanted()) {
    exchange.dropped_bytes += bytes;
    exchange.enough = exchange.dropped_bytes > limits::kErrorPageBytes;
    return exchange.enough ? CURL_WRITEFUNC_ERROR : bytes;
  }
  auto taken = exchange.sink->body(std::as_bytes(std::span(data, bytes)));
  if (taken) return bytes;
  exchange.refused = std::move(taken).error();
  return CURL_WRITEFUNC_ERROR;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto* cancel = static_cast<const Exchange*>(user)->cancel;
  return cancel && cancel->load(std::memory_order_relaxed) ? 1 : 0;
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return true;
    default:
      return false;
  }
}

TransferFailure failure_of(CURLcode code, const char* detail, const Url& url, Exchange& exchange) {
  if (exchange.refused) return {std::move(*exchange.refused), false};
  if (code == CURLE_ABORTED_BY_CALLBACK) return {{Code::kCancelled, "cancelled"}, false};
  const std::string reason = *detail ? detail : curl_easy_strerror(code);
  std::string advice;
  if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT) advice = "; is this machine on the network?";
  if (code == CURLE_PEER_FAILED_VERIFICATION) {
    advice = "; if a company's proxy stands between, name its certificates with SSL_CERT_FILE";
  }
  return {{Code::kIo, fmt::format("{}: {}{}", url.shown(), reason, advice)}, is_transient(code)};
}

HeaderList header_list(const std::vector<std::string>& headers, const std::string& token) {
  curl_slist* list = curl_slist_append(nullptr, "Accept-Encoding: identity");
  for (const std::string& header : headers) list = curl_slist_append(list, header.c_str());
  if (!token.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + token).c_str());
  return HeaderList(list);
}

void configure(CURL* curl, const Url& url, const HttpOptions& options, Exchange& exchange, char* detail) {
  curl_easy_setopt(curl, CURLOPT_URL, url.text.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);  // each hop is judged in http_get
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  if (!options.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options.ca_file.c_str());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "hearth");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(options.connect_seconds_max));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, kStalledBelowBytesPerSecond);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_seconds_max));
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

// One hop: gives the URL to go on with if the answer is a redirect.
std::expected<std::optional<std::string>, TransferFailure> exchange_once(CURL* curl, const Url& url,
                                                                         const HeaderList& headers,
                                                                         const HttpOptions& options,
                                                                         Exchange& exchange) {
  char detail[CURL_ERROR_SIZE] = "";
  configure(curl, url, options, exchange, detail);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  const PipeSignalBlock no_pipe_signal;
  const CURLcode code = curl_easy_perform(curl);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
  if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && exchange.enough)) {
    return std::unexpected(failure_of(code, detail, url, exchange));
  }
  if (!exchange.redirect()) {
    if (!exchange.show_head()) return std::unexpected(TransferFailure{std::move(*exchange.refused), false});
    return std::nullopt;
  }
  char* next = nullptr;
  curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &next);
  if (next) return std::string(next);
  return std::unexpected(TransferFailure{{Code::kIo, fmt::format("{}: answered with status {} and no address to go to",
                                                                 url.shown(), exchange.answer.status)},
                                         false});
}

Result<Url> next_hop(const Url& from, const std::string& to) {
  auto next = parse_url(to);
  if (!next) return within(from.shown() + ": redirect refused", std::move(next).error());
  if (from.scheme == "https" && next->scheme == "http") {
    return fail(Code::kIo, "{}: redirect refused: it leads from https to unencrypted {}", from.shown(), next->shown());
  }
  return next;
}

}  // namespace

std::expected<HttpAnswer, TransferFailure> http_get(const Url& first, const std::vector<std::string>& headers,
                                                    const HttpOptions& options, const TransferSink& sink) {
  if (!library_ready()) return std::unexpected(TransferFailure{{Code::kIo, "libcurl cannot be started"}, false});
  if (!options.bearer_token.empty() && first.scheme != "https" && !first.loopback()) {
    return std::unexpected(TransferFailure{
        {Code::kInvalidArgument, fmt::format("{}: a token is not sent without encryption; use https", first.shown())},
        false});
  }
  if (std::ranges::any_of(options.bearer_token, [](char c) { return c <= ' ' || c > '~'; })) {
    return std::unexpected(
        TransferFailure{{Code::kInvalidArgument, "the token has a space or a control character in it"}, false});
  }
  Url url = first;
  for (int hop = 0; hop <= limits::kRedirects; ++hop) {
    const std::unique_ptr<CURL, Freed<curl_easy_cleanup>> curl(curl_easy_init());
    if (!curl) return std::unexpected(TransferFailure{{Code::kIo, "libcurl cannot be started"}, false});
    Exchange exchange;
    exchange.sink = &sink;
    exchange.cancel = options.cancel;
    const HeaderList list = header_list(headers, url.same_origin(first) ? options.bearer_token : "");
    auto next = exchange_once(curl.get(), url, list, options, exchange);
    if (!next) return std::unexpected(std::move(next).error());
    if (!*next) return exchange.answer;
    auto target = next_hop(url, **next);
    if (!target) return std::unexpected(TransferFailure{std::move(target).error(), false});
    url = std::move(*target);
  }
  return std::unexpected(TransferFailure{{Code::kIo, fmt::format("{}: more than {} redirects, the last to {}",
                                                                 first.shown(), limits::kRedirects, url.shown())},
                                         false});
}

TransferFailure http_status_error(const Url& url, const HttpAnswer& answer, bool with_token) {
  const int status = answer.status;
  const bool transient = status == 408 || status == 425 || status == 429 || status >= 500;
  Code code = Code::kIo;
  std::string meaning = "the server answered with status " + std::to_string(status);
  if (status == 404 || status == 410) {
    code = Code::kNotFound;
    meaning = fmt::format("not there (status {}); check the spelling", status);
  } else if (status == 401 || status == 403) {
    code = Code::kInvalidArgument;
    meaning =
        fmt::format("access refused (status {}); {}", status,
                    with_token ? "the token may be wrong, or the model's licence is not accepted yet on its page"
                               : "if it needs an account, put a token in a variable and name it with --token-env");
  } else if (transient) {
    meaning += status == 429 ? " (too many requests); try again later" : " (its own trouble); try again later";
  }
  return {{code, fmt::format("{}: {}", url.shown(), meaning)}, transient};
}

Result<std::string> http_get_text(const Url& url, const HttpOptions& options, uint64_t bytes_max) {
  std::optional<TransferFailure> failure;
  for (int attempt = 0; attempt < kTextAttempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kTextPause * (1 << attempt));
    std::string text;
    const TransferSink sink{[](const HttpAnswer&) { return Result<void>{}; },
                            [&](std::span<const std::byte> bytes) -> Result<void> {
                              if (text.size() + bytes.size() > bytes_max) {
                                return fail(Code::kLimit, "{}: more than {} bytes", url.shown(), bytes_max);
                              }
                              text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                              return {};
                            }};
    auto answer = http_get(url, {}, options, sink);
    if (answer && answer->status == 200) return text;
    failure = answer ? http_status_error(url, *answer, !options.bearer_token.empty()) : std::move(answer).error();
    if (!failure->transient) break;
  }
  return std::unexpected(std::move(failure->error));
}

std::string http_library_version() { return curl_version(); }

}  // namespace hearth
