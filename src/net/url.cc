#include "net/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "base/freed.h"
#include "base/limits.h"

namespace hearth {
namespace {

std::string part(CURLU* url, CURLUPart which, unsigned int flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, flags) != CURLUE_OK) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

bool unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~' || c == '/';
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool Url::same_origin(const Url& other) const {
  return scheme == other.scheme && host == other.host && port == other.port;
}

bool Url::loopback() const {
  const bool ipv4 =
      host.starts_with("127.") && std::ranges::all_of(host, [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
  return ipv4 || host == "localhost" || host == "::1";
}

std::string Url::shown() const {
  const bool usual = (scheme == "http" && port == "80") || (scheme == "https" && port == "443");
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return fmt::format("{}://{}{}{}", scheme, name, usual ? "" : ":" + port, path);
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') return std::nullopt;
    out += c;
  }
  return out;
}

std::string Url::file_name() const {
  return percent_decoded(std::string_view(path).substr(path.rfind('/') + 1)).value_or("");
}

Result<Url> parse_url(std::string_view text) {
  if (text.size() > limits::kUrlBytes) {
    return fail(Code::kInvalidArgument, "URL of {} bytes, at most {} are allowed", text.size(), limits::kUrlBytes);
  }
  if (std::ranges::any_of(text, [](char c) { return c <= ' ' || c > '~'; })) {
    return fail(Code::kInvalidArgument, "URL with a space, a control character or a character that is not ASCII");
  }
  const std::unique_ptr<CURLU, Freed<curl_url_cleanup>> parsed(curl_url());
  const CURLUcode code = curl_url_set(parsed.get(), CURLUPART_URL, std::string(text).c_str(), CURLU_NON_SUPPORT_SCHEME);
  if (code != CURLUE_OK) return fail(Code::kInvalidArgument, "not a URL ({})", curl_url_strerror(code));
  Url url;
  url.text = text;
  url.scheme = part(parsed.get(), CURLUPART_SCHEME);
  if (url.scheme != "http" && url.scheme != "https") {
    return fail(Code::kInvalidArgument, "URL with the scheme '{}'; only http and https are fetched", url.scheme);
  }
  url.host = part(parsed.get(), CURLUPART_HOST);
  std::ranges::transform(url.host, url.host.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (url.host.starts_with('[')) url.host = url.host.substr(1, url.host.size() - 2);
  url.port = part(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.path = part(parsed.get(), CURLUPART_PATH);
  if (url.host.empty()) return fail(Code::kInvalidArgument, "URL without a host");
  return url;
}

std::string escape_path(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (unreserved(c)) {
      text += c;
    } else {
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

}  // namespace hearth
