// One POST over HTTP or HTTPS.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/url.h"

namespace hearth {

// Blocks until the answer is there, at most `seconds_max`; no redirects. The status, whatever it is, and up to 64 MiB of the answer's body in `answer` if that is not null; kIo if there is no answer. The process must ignore SIGPIPE.
Result<int> http_post(const Url& url, const std::vector<std::string>& headers, std::string_view body, int seconds_max,
                      std::string* answer = nullptr);

}  // namespace hearth
