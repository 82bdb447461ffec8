#include "net/http_call.h"

#include <curl/curl.h>

#include <memory>

#include "base/freed.h"

namespace hearth {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr int kLookMs = 50;  // how often whoever calls is asked whether to go on

struct Progress {
  const HttpCall* call;
  CURL* curl;
  HttpReply reply{};
  uint64_t bytes = 0;
  Clock::time_point heard = Clock::now();
  bool too_long = false, refused = false;
};

size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& progress = *static_cast<Progress*>(user);
  const std::string_view bytes(data, size * count);
  progress.heard = Clock::now();
  progress.bytes += bytes.size();
  progress.too_long = progress.bytes > progress.call->answer_bytes_max;
  if (progress.too_long) return CURL_WRITEFUNC_ERROR;
  long status = 0;
  curl_easy_getinfo(progress.curl, CURLINFO_RESPONSE_CODE, &status);
  if (!progress.call->take || status != 200) {
    progress.reply.body += bytes;
    return bytes.size();
  }
  progress.refused = !progress.call->take(bytes);
  return progress.refused ? CURL_WRITEFUNC_ERROR : bytes.size();
}

void configure(CURL* curl, const Url& url, const HttpCall& call, curl_slist* headers, Progress& progress) {
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, url.text.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "hearth");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(call.total_max.count()));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(call.connect_max.count()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &progress);
  if (call.method == "GET") {
    curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
  } else {
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call.body.data());
  }
  if (!call.site) return;
  // Machines have names, which are no hosts': that the authority signed the certificate is what counts.
  curl_easy_setopt(curl, CURLOPT_CAINFO, call.site->authority.c_str());
  curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);
  curl_easy_setopt(curl, CURLOPT_SSLCERT, call.site->certificate.c_str());
  curl_easy_setopt(curl, CURLOPT_SSLKEY, call.site->key.c_str());
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_3);
}

// Until the transfer has ended, one way or the other.
Result<CURLcode> drive(CURLM* multi, const Url& url, const HttpCall& call, const Progress& progress) {
  for (;;) {
    int running = 0;
    if (curl_multi_perform(multi, &running) != CURLM_OK) return fail(Code::kIo, "{}: libcurl failed", url.shown());
    if (running == 0) {
      int left = 0;
      const CURLMsg* message = curl_multi_info_read(multi, &left);
      return message ? message->data.result : CURLE_OK;
    }
    if (call.cancelled && call.cancelled()) return fail(Code::kCancelled, "{}: not waited for any more", url.shown());
    if (call.silence_max.count() > 0 && Clock::now() - progress.heard > call.silence_max)
      return fail(Code::kIo, "{}: silent for {} ms", url.shown(), call.silence_max.count());
    curl_multi_poll(multi, nullptr, 0, kLookMs, nullptr);
  }
}

}  // namespace

HttpCaller::HttpCaller() : curl_(curl_easy_init()), multi_(curl_multi_init()) {}
HttpCaller::~HttpCaller() {
  curl_easy_cleanup(curl_);
  curl_multi_cleanup(multi_);
}

Result<HttpReply> HttpCaller::call(const Url& url, const HttpCall& call) {
  if (!curl_ || !multi_) return fail(Code::kIo, "{}: libcurl is not usable", url.shown());
  std::unique_ptr<curl_slist, Freed<curl_slist_free_all>> headers;
  for (const std::string& header : call.headers) {
    curl_slist* longer = curl_slist_append(headers.get(), header.c_str());
    if (!longer) return fail(Code::kLimit, "out of memory");
    (void)headers.release();
    headers.reset(longer);
  }
  Progress progress{.call = &call, .curl = curl_};
  configure(curl_, url, call, headers.get(), progress);
  curl_multi_add_handle(multi_, curl_);
  const Result<CURLcode> code = drive(multi_, url, call, progress);
  curl_multi_remove_handle(multi_, curl_);
  if (!code) return std::unexpected(code.error());
  if (progress.refused) return fail(Code::kCancelled, "{}: not waited for any more", url.shown());
  if (progress.too_long)
    return fail(Code::kLimit, "{}: the answer has more than {} bytes", url.shown(), call.answer_bytes_max);
  if (*code != CURLE_OK) return fail(Code::kIo, "{}: {}", url.shown(), curl_easy_strerror(*code));
  long status = 0;
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
  progress.reply.status = static_cast<int>(status);
  return std::move(progress.reply);
}

Result<HttpReply> http_call(const Url& url, const HttpCall& call) { return HttpCaller().call(url, call); }

}  // namespace hearth
