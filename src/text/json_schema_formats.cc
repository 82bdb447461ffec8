// String formats as patterns. Each accepts less than its standard rather than more: years of four digits, no leap seconds, host
// names and addresses in ASCII.
#include <string>

#include "text/json_schema.h"

namespace hearth {
namespace {

const std::string kDate =
    R"((?:[1-9]\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|)"
    R"(02-(?:0[1-9]|1\d|2[0-8]))|(?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29))";
const std::string kTime = R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))";
const std::string kOctet = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
const std::string kLabel = R"([a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?)";
const std::string kHost = kLabel + "(?:\\." + kLabel + "){0,3}";
const std::string kHex4 = "[0-9a-fA-F]{1,4}";
const std::string kWord = R"([A-Za-z0-9_+-]+)";

}  // namespace

const std::string* format_pattern(std::string_view format) {
  struct Format {
    std::string_view name;
    std::string pattern;
  };
  const std::string path = R"((?:/[A-Za-z0-9_.~-]*)*(?:\?[A-Za-z0-9_.~=&-]*)?(?:#[A-Za-z0-9_.~-]*)?$)";
  static const Format kFormats[] = {
      {"date", "^" + kDate + "$"},
      {"time", "^" + kTime + "$"},
      {"date-time", "^" + kDate + "T" + kTime + "$"},
      {"duration", R"(^P(?:\d{1,4}W|\d{1,4}D(?:T\d{1,4}[HMS])?|T\d{1,4}[HMS]|T\d{1,4}H\d{1,4}M)$)"},
      {"uuid", R"(^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$)"},
      {"email", "^" + kWord + "(?:\\." + kWord + ")*@" + kHost + "\\.[a-z]{2,10}$"},
      {"json-pointer", "^(?:/[A-Za-z0-9_-]+)*$"},
      {"relative-json-pointer", "^(?:0|[1-9]{1,2})(?:/[A-Za-z0-9_-]+)*$"},
      {"regex", "^[A-Za-z0-9 _-]*$"},
      {"hostname", "^" + kHost + "$"},
      {"ipv4", "^" + kOctet + "(?:\\." + kOctet + "){3}$"},
      {"ipv6", "^(?:(?:" + kHex4 + ":){7}" + kHex4 + "|::(?:" + kHex4 + ")?|" + kHex4 + "::(?:" + kHex4 +
                   ")?|(?:" + kHex4 + ":){2}:" + kHex4 + ")$"},
      {"uri", "^(?:https?|ftp)://" + kHost + "(?::[1-9]\\d{1,3})?" + path},
  };
  // What a wider standard allows, the narrower one does.
  static constexpr std::pair<std::string_view, std::string_view> kWider[] = {
      {"idn-email", "email"},   {"idn-hostname", "hostname"}, {"url", "uri"},         {"iri", "uri"},
      {"uri-reference", "uri"}, {"iri-reference", "uri"},     {"uri-template", "uri"}};
  for (const auto& [wide, narrow] : kWider) {
    if (format == wide) format = narrow;
  }
  for (const Format& each : kFormats) {
    if (each.name == format) return &each.pattern;
  }
  return nullptr;
}

}  // namespace hearth
