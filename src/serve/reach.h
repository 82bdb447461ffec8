// How far a request may travel. Pure; nothing leaves this machine or the site but by what this allows.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::serve {

// In order: each may do what those before it may.
enum class Reach : uint8_t {
  kLocal,  // computed here
  kSite,   // by machines of the site, too
  kAny,    // by a cloud, too
};
std::string_view name(Reach reach);
// "local-only", "site" or "any".
Result<Reach> parse_reach(std::string_view text);

// What the server's owner said. A class of data that a request names and nobody said anything of stays here.
struct ReachRules {
  Reach usual = Reach::kSite;  // of requests that do not say
  std::map<std::string, Reach, std::less<>> models{}, keys{}, classes{};
};

// What a request says of itself; empty: nothing. Header and field may both speak, and then the stricter counts.
struct ReachWords {
  std::string_view header{}, field{};
  std::string_view class_header{}, class_field{};
};

// The strictest of all that has a say. kInvalidArgument for a word that is none.
Result<Reach> allowed_reach(const ReachRules& rules, std::string_view key, std::string_view model,
                            const ReachWords& said);

}  // namespace hearth::serve
