#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_format.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
// Filters on text take anything and see its text.
template <std::string (*kTransform)(std::string_view)>
Result<Value> transform(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::string text = TRY(text_of(environment.heap, value));
  TRY(environment.heap.work_bytes(text.size() * 4));
  return environment.heap.string(kTransform(text));
}

Result<Value> trim(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"chars"}));
  const std::string text = TRY(text_of(environment.heap, value));
  if (bound[0].is_absent() || bound[0].is_none())
    return environment.heap.string(std::string(stripped(text, nullptr, true, true)));
  const std::string_view characters = TRY(text_argument(bound[0], "chars"));
  TRY(environment.heap.work_bytes(text.size() * std::min<size_t>(characters.size(), 1 << 20)));
  return environment.heap.string(std::string(stripped(text, &characters, true, true)));
}

Result<Value> replace(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"old", "new", "count"}, 2));
  const std::string text = TRY(text_of(environment.heap, value));
  const std::string from = TRY(text_of(environment.heap, bound[0])), to = TRY(text_of(environment.heap, bound[1]));
  const int64_t count = bound[2].is_none() ? -1 : TRY(integer_or(bound[2], -1, "count"));
  return replace_bounded(environment.heap, text, from, to, count);
}

Result<Value> string(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  if (value.is_string()) return value;
  return environment.heap.string(TRY(text_of(environment.heap, value)));
}

Result<Value> escape(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::string text = TRY(text_of(environment.heap, value));
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return environment.heap.string(std::move(out));
}

Result<Value> indent(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"width", "first", "blank"}));
  std::string prefix;
  if (bound[0].is_string()) {
    prefix = bound[0].text();
  } else {
    const int64_t width = TRY(integer_or(bound[0], 4, "width"));
    TRY(check_text_size(static_cast<uint64_t>(std::max<int64_t>(width, 0))));
    prefix.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool first = boolean_or(bound[1], false), blank = boolean_or(bound[2], false);
  const std::string text =
      std::string(TRY(text_argument(value, "s"))) + '\n';  // as Jinja does, so that the last line counts
  const auto lines = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  TRY(check_text_size(text.size() + lines * prefix.size()));
  TRY(environment.heap.work_bytes(text.size() + lines * prefix.size()));
  std::string out;
  for (size_t at = 0, line = 0; at < text.size(); ++line) {
    const size_t end = text.find('\n', at);
    const bool empty = end == at;
    if (line > 0) out += '\n';
    if ((line > 0 || first) && (blank || !empty || (line == 0 && first))) out += prefix;
    out.append(text, at, end - at);
    at = end + 1;
  }
  return environment.heap.string(std::move(out));
}

Result<Value> wordcount(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::string text = TRY(text_of(environment.heap, value));
  TRY(environment.heap.work_bytes(text.size() * 4));
  int64_t words = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    const bool word = is_letter_or_digit(c) || c == '_';
    words += word && !in_word ? 1 : 0;
    in_word = word;
  }
  return Value(words);
}

Result<Value> center(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"width"}));
  const std::string text = TRY(text_of(environment.heap, value));
  return pad_text(environment.heap, text, TRY(integer_or(bound[0], 80, "width")), " ", 0);
}

Result<Value> format(Environment& environment, const Value& value, const Arguments& arguments) {
  const std::string text = TRY(text_of(environment.heap, value));
  if (!arguments.names.empty() && !arguments.positional.empty())
    return fail(Code::kMalformed, "takes positional or named arguments, not both");
  if (arguments.names.empty())
    return format_percent(environment.heap, text, {arguments.positional.begin(), arguments.positional.end()},
                          Value::none());
  std::vector<Entry> entries;
  for (size_t i = 0; i < arguments.names.size(); ++i) entries.emplace_back(arguments.names[i], arguments.named[i]);
  const Value names = TRY(environment.heap.dict(std::move(entries)));
  return format_percent(environment.heap, text, {names}, names);
}

Result<Value> truncate(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"length", "killwords", "end", "leeway"}));
  const int64_t most = TRY(integer_or(bound[0], 255, "length"));
  const std::string_view end = TRY(text_or(bound[2], "...", "end"));
  const int64_t leeway = bound[3].is_none() ? 5 : TRY(integer_or(bound[3], 5, "leeway"));
  const std::string text = std::string(TRY(text_argument(value, "s")));
  const int64_t end_size = code_points(end);
  if (most < end_size || leeway < 0) return fail(Code::kMalformed, "'length' {} is below the size of 'end'", most);
  const std::vector<size_t> offsets = code_point_offsets(text);
  if (static_cast<int64_t>(offsets.size()) - 1 - leeway <= most) return environment.heap.string(text);
  std::string_view kept = std::string_view(text).substr(0, offsets[static_cast<size_t>(most - end_size)]);
  if (!boolean_or(bound[1], false)) kept = kept.substr(0, kept.rfind(' '));
  return environment.heap.string(std::string(kept).append(end));
}

Result<Value> tojson(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = boolean_or(bound[0], false);
  style.sort_keys = boolean_or(bound[3], false);
  if (!bound[1].is_absent() && !bound[1].is_none()) {
    style.pretty = true;
    style.item_separator = ",";
    if (bound[1].is_string()) {
      style.indent = bound[1].text();
    } else {
      const int64_t width = TRY(integer_or(bound[1], 0, "indent"));
      if (width > 1024) return fail(Code::kLimit, "an indent of {} is over 1024", width);
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (bound[2].is(Kind::kList)) {
    if (bound[2].items().size() != 2) return fail(Code::kMalformed, "'separators' needs two texts");
    style.item_separator = TRY(text_argument(bound[2].items()[0], "separators"));
    style.key_separator = TRY(text_argument(bound[2].items()[1], "separators"));
  }
  std::string out;
  TRY(append_json(environment.heap, out, value, style));
  return environment.heap.string(std::move(out));
}

constexpr std::array kTextFilters{
    Builtin{"trim", trim},
    Builtin{"upper", transform<upper>},
    Builtin{"lower", transform<lower>},
    Builtin{"title", transform<titled_words>},
    Builtin{"capitalize", transform<capitalized>},
    Builtin{"replace", replace},
    Builtin{"string", string},
    Builtin{"safe", string},
    Builtin{"escape", escape},
    Builtin{"e", escape},
    Builtin{"forceescape", escape},
    Builtin{"indent", indent},
    Builtin{"wordcount", wordcount},
    Builtin{"center", center},
    Builtin{"format", format},
    Builtin{"truncate", truncate},
    Builtin{"tojson", tojson},
};
}  // namespace

std::span<const Builtin> text_filters() { return kTextFilters; }

}  // namespace hearth::jinja
