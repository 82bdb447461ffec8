// One request over HTTP or HTTPS to a program that answers at once or bit by bit: a collector, a cloud, another machine of the
// site. No redirects, nothing tried again.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/url.h"

namespace hearth {

// A machine's certificates, for connections where both sides show one of the site's authority.
struct SiteFiles {
  std::filesystem::path authority, certificate, key;
};

struct HttpCall {
  std::string_view method = "POST";
  std::vector<std::string> headers{};
  std::string_view body{};
  const SiteFiles* site = nullptr;  // null: the system's authorities, and the host's name has to be right
  // 0: without bound. `silence`: without a byte of the answer.
  std::chrono::milliseconds total_max{0}, connect_max{10'000}, silence_max{0};
  uint64_t answer_bytes_max = 64u << 20;  // of all of the answer's body; more is kLimit
  // Bytes of an answer with status 200 as they come, instead of in HttpReply::body; false ends the call with kCancelled.
  std::function<bool(std::string_view)> take{};
  // Asked a few times a second: true ends the call with kCancelled.
  std::function<bool()> cancelled{};
};

struct HttpReply {
  int status = 0;
  std::string body;  // as far as `take` did not get it
};

// Blocks. kIo if there is no whole answer, saying why; its status may be any. The process must ignore SIGPIPE.
Result<HttpReply> http_call(const Url& url, const HttpCall& call);

// Makes calls one after the other over the same connection, as long as that lasts. One thread at a time.
class HttpCaller {
 public:
  HttpCaller();
  ~HttpCaller();
  HttpCaller(const HttpCaller&) = delete;
  HttpCaller& operator=(const HttpCaller&) = delete;
  Result<HttpReply> call(const Url& url, const HttpCall& call);

 private:
  void *curl_, *multi_;
};

}  // namespace hearth
