#include "serve/reach.h"

#include <algorithm>
#include <array>

namespace hearth::serve {
namespace {
constexpr std::array<std::string_view, 3> kNames{"local-only", "site", "any"};
}

std::string_view name(Reach reach) { return kNames[static_cast<size_t>(reach)]; }

Result<Reach> parse_reach(std::string_view text) {
  const auto* found = std::ranges::find(kNames, text);
  if (found == kNames.end())
    return fail(Code::kInvalidArgument, "policy: want local-only, site or any, got '{}'", text.substr(0, 40));
  return static_cast<Reach>(found - kNames.begin());
}

Result<Reach> allowed_reach(const ReachRules& rules, std::string_view key, std::string_view model,
                            const ReachWords& said) {
  Reach reach = said.header.empty() && said.field.empty() ? rules.usual : Reach::kAny;
  for (const std::string_view word : {said.header, said.field})
    if (!word.empty()) reach = std::min(reach, TRY(parse_reach(word)));
  const auto limit = [&](const auto& table, std::string_view name, Reach otherwise) {
    const auto found = table.find(name);
    reach = std::min(reach, found == table.end() ? otherwise : found->second);
  };
  limit(rules.keys, key, Reach::kAny);
  limit(rules.models, model, Reach::kAny);
  for (const std::string_view name : {said.class_header, said.class_field})
    if (!name.empty()) limit(rules.classes, name, Reach::kLocal);
  return reach;
}

}  // namespace hearth::serve
