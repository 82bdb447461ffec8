// One POST over HTTP or HTTPS.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/url.h"

namespace hearth {

// Blocks until the answer is there, at most `seconds_max`; no redirects, the answer's body is dropped. The status, whatever it
// is; kIo if there is no answer. The process must ignore SIGPIPE.
Result<int> http_post(const Url& url, const std::vector<std::string>& headers, std::string_view body, int seconds_max);

}  // namespace hearth
