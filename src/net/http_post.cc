#include "net/http_post.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

namespace hearth {
namespace {

struct Freed {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// What does not fit is dropped.
size_t keep(char* data, size_t size, size_t count, void* answer) {
  constexpr size_t kAnswerBytes = 64u << 20;
  auto* text = static_cast<std::string*>(answer);
  if (text) text->append(data, std::min(size * count, kAnswerBytes - std::min(kAnswerBytes, text->size())));
  return size * count;
}

}  // namespace

Result<int> http_post(const Url& url, const std::vector<std::string>& headers, std::string_view body, int seconds_max,
                      std::string* answer) {
  const std::unique_ptr<CURL, Freed> curl(curl_easy_init());
  if (!curl) return fail(Code::kIo, "{}: libcurl is not usable", url.shown());
  std::unique_ptr<curl_slist, Freed> list;
  for (const std::string& header : headers) {
    curl_slist* longer = curl_slist_append(list.get(), header.c_str());
    if (!longer) return fail(Code::kLimit, "out of memory");
    (void)list.release();
    list.reset(longer);
  }
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.text.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, static_cast<long>(seconds_max));
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, list.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, keep);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, answer);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK)
    return fail(Code::kIo, "{}: {}", url.shown(), curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

}  // namespace hearth
