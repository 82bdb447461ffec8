// The parts of an http or https URL that decisions hang on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth {

struct Url {
  std::string text;    // as given
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case, without brackets
  std::string port;    // the scheme's own if none is given
  std::string path;    // begins with '/', still percent-encoded

  // Same scheme, host and port: the only place a token may go.
  [[nodiscard]] bool same_origin(const Url& other) const;
  // True for this machine (127.0.0.0/8, ::1, localhost): what is sent there crosses no network.
  [[nodiscard]] bool loopback() const;
  // For messages and records: without user, password, query and fragment, which may hold secrets.
  [[nodiscard]] std::string shown() const;
  // The last part of the path, percent-decoded; empty if there is none or it does not decode.
  [[nodiscard]] std::string file_name() const;
};

// kInvalidArgument if it is no URL, has control characters or another scheme than http or https.
Result<Url> parse_url(std::string_view text);

// Percent-decoded; empty if it does not decode or holds control characters.
std::optional<std::string> percent_decoded(std::string_view text);
// A path segment percent-encoded; '/' stays.
std::string escape_path(std::string_view path);

}  // namespace hearth
