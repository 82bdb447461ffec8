#include <algorithm>
#include <charconv>

#include "text/jinja_builtins.h"
#include "text/jinja_format.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
Result<Value> strip_sides(Environment& environment, const Value& text, const Arguments& arguments, bool left,
                          bool right) {
  const auto bound = TRY(bind(arguments, {"chars"}));
  if (bound[0].is_absent() || bound[0].is_none())
    return environment.heap.string(std::string(stripped(text.text(), nullptr, left, right)));
  const std::string_view characters = TRY(text_argument(bound[0], "chars"));
  TRY(environment.heap.work_bytes(text.text().size() * std::min<size_t>(characters.size(), 1 << 20)));
  return environment.heap.string(std::string(stripped(text.text(), &characters, left, right)));
}
Result<Value> strip(Environment& e, const Value& text, const Arguments& a) {
  return strip_sides(e, text, a, true, true);
}
Result<Value> lstrip(Environment& e, const Value& text, const Arguments& a) {
  return strip_sides(e, text, a, true, false);
}
Result<Value> rstrip(Environment& e, const Value& text, const Arguments& a) {
  return strip_sides(e, text, a, false, true);
}

template <std::string (*kTransform)(std::string_view)>
Result<Value> transform(Environment& environment, const Value& text, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  TRY(environment.heap.work_bytes(text.text().size() * 4));
  return environment.heap.string(kTransform(text.text()));
}

std::string swapped_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    next_code_point(text, at);
    const std::string_view one = text.substr(begin, at - begin);
    const std::string raised = upper(one);
    out += raised == one ? lower(one) : raised;
  }
  return out;
}

// Pieces between runs of whitespace.
std::vector<std::string_view> split_words(std::string_view text, int64_t count) {
  std::vector<std::string_view> pieces;
  for (;;) {
    text = stripped(text, nullptr, true, false);
    if (text.empty()) return pieces;
    if (count >= 0 && static_cast<int64_t>(pieces.size()) == count) {
      pieces.push_back(text);
      return pieces;
    }
    size_t at = 0, end = 0;
    while (end < text.size() && !is_whitespace(next_code_point(text, at))) end = at;
    pieces.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::vector<std::string_view> split_words_from_right(std::string_view text, int64_t count) {
  std::vector<std::string_view> words = split_words(text, -1);
  if (count < 0 || static_cast<int64_t>(words.size()) <= count) return words;
  const auto kept = words.end() - count;
  const std::string_view last = *(kept - 1);
  const std::string_view rest = text.substr(0, static_cast<size_t>(last.data() + last.size() - text.data()));
  std::vector<std::string_view> pieces{rest};
  pieces.insert(pieces.end(), kept, words.end());
  return pieces;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, int64_t count) {
  std::vector<std::string_view> pieces;
  for (;;) {
    const size_t hit = count >= 0 && static_cast<int64_t>(pieces.size()) >= count ? text.npos : text.find(separator);
    pieces.push_back(text.substr(0, hit));
    if (hit == text.npos) return pieces;
    text.remove_prefix(hit + separator.size());
  }
}

std::vector<std::string_view> split_at_from_right(std::string_view text, std::string_view separator, int64_t count) {
  std::vector<std::string_view> pieces;
  for (;;) {
    const bool done = text.size() < separator.size() || (count >= 0 && static_cast<int64_t>(pieces.size()) >= count);
    const size_t hit = done ? text.npos : text.rfind(separator);
    if (hit == text.npos) break;
    pieces.push_back(text.substr(hit + separator.size()));
    text = text.substr(0, hit);
  }
  pieces.push_back(text);
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Result<Value> strings(Heap& heap, const std::vector<std::string_view>& pieces, ListKind kind = ListKind::kList) {
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) items.push_back(TRY(heap.string(std::string(piece))));
  return heap.list(std::move(items), kind);
}

Result<Value> split_side(Environment& environment, const Value& text, const Arguments& arguments, bool right) {
  const auto bound = TRY(bind(arguments, {"sep", "maxsplit"}));
  const int64_t count = TRY(integer_or(bound[1], -1, "maxsplit"));
  TRY(environment.heap.work_bytes(text.text().size()));
  if (bound[0].is_absent() || bound[0].is_none())
    return strings(environment.heap,
                   right ? split_words_from_right(text.text(), count) : split_words(text.text(), count));
  const std::string_view separator = TRY(text_argument(bound[0], "sep"));
  if (separator.empty()) return fail(Code::kMalformed, "an empty separator");
  return strings(environment.heap,
                 right ? split_at_from_right(text.text(), separator, count) : split_at(text.text(), separator, count));
}
Result<Value> split(Environment& e, const Value& text, const Arguments& a) { return split_side(e, text, a, false); }
Result<Value> rsplit(Environment& e, const Value& text, const Arguments& a) { return split_side(e, text, a, true); }

Result<Value> splitlines(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"keepends"}));
  const bool keep = boolean_or(bound[0], false);
  std::vector<std::string_view> lines;
  std::string_view text = value.text();
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = next_code_point(text, at);
    const bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return strings(environment.heap, lines);
}

Result<Value> partition_side(Environment& environment, const Value& value, const Arguments& arguments, bool right) {
  const auto bound = TRY(bind(arguments, {"sep"}, 1));
  const std::string_view separator = TRY(text_argument(bound[0], "sep"));
  if (separator.empty()) return fail(Code::kMalformed, "an empty separator");
  const std::string_view text = value.text();
  const size_t hit = right ? text.rfind(separator) : text.find(separator);
  std::vector<std::string_view> pieces{text, "", ""};
  if (hit != text.npos) pieces = {text.substr(0, hit), separator, text.substr(hit + separator.size())};
  if (hit == text.npos && right) pieces = {"", "", text};
  return strings(environment.heap, pieces, ListKind::kTuple);
}
Result<Value> partition(Environment& e, const Value& v, const Arguments& a) { return partition_side(e, v, a, false); }
Result<Value> rpartition(Environment& e, const Value& v, const Arguments& a) { return partition_side(e, v, a, true); }

Result<Value> affix(const Value& value, const Arguments& arguments, bool at_end) {
  const auto bound = TRY(bind(arguments, {"affix"}, 1));
  auto matches = [&](const Value& candidate) -> Result<bool> {
    const std::string_view text = TRY(text_argument(candidate, "affix"));
    return at_end ? value.text().ends_with(text) : value.text().starts_with(text);
  };
  if (!bound[0].is_list(ListKind::kTuple)) return Value(TRY(matches(bound[0])));
  for (const Value& candidate : bound[0].items())
    if (TRY(matches(candidate))) return Value(true);
  return Value(false);
}
Result<Value> startswith(Environment&, const Value& v, const Arguments& a) { return affix(v, a, false); }
Result<Value> endswith(Environment&, const Value& v, const Arguments& a) { return affix(v, a, true); }

Result<Value> removed_affix(Environment& environment, const Value& value, const Arguments& arguments, bool at_end) {
  const auto bound = TRY(bind(arguments, {"affix"}, 1));
  std::string_view text = value.text();
  const std::string_view part = TRY(text_argument(bound[0], "affix"));
  if (at_end && text.ends_with(part)) text.remove_suffix(part.size());
  if (!at_end && text.starts_with(part)) text.remove_prefix(part.size());
  return environment.heap.string(std::string(text));
}
Result<Value> removeprefix(Environment& e, const Value& v, const Arguments& a) { return removed_affix(e, v, a, false); }
Result<Value> removesuffix(Environment& e, const Value& v, const Arguments& a) { return removed_affix(e, v, a, true); }

Result<Value> find_side(const Value& value, const Arguments& arguments, bool right, bool must_exist) {
  const auto bound = TRY(bind(arguments, {"sub"}, 1));
  const std::string_view part = TRY(text_argument(bound[0], "sub"));
  const size_t hit = right ? value.text().rfind(part) : value.text().find(part);
  if (hit != std::string_view::npos) return Value(code_points(value.text().substr(0, hit)));
  if (must_exist) return fail(Code::kMalformed, "the text does not contain it");
  return Value(int64_t{-1});
}
Result<Value> find_text(Environment&, const Value& v, const Arguments& a) { return find_side(v, a, false, false); }
Result<Value> rfind_text(Environment&, const Value& v, const Arguments& a) { return find_side(v, a, true, false); }
Result<Value> index_text(Environment&, const Value& v, const Arguments& a) { return find_side(v, a, false, true); }
Result<Value> rindex_text(Environment&, const Value& v, const Arguments& a) { return find_side(v, a, true, true); }

Result<Value> count_text(Environment&, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"sub"}, 1));
  const std::string_view part = TRY(text_argument(bound[0], "sub"));
  if (part.empty()) return Value(code_points(value.text()) + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = value.text().find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return Value(count);
}

Result<Value> replace_text(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"old", "new", "count"}, 2));
  const std::string_view from = TRY(text_argument(bound[0], "old"));
  const std::string_view to = TRY(text_argument(bound[1], "new"));
  const int64_t count = TRY(integer_or(bound[2], -1, "count"));
  return replace_bounded(environment.heap, value.text(), from, to, count);
}

Result<Value> join_items(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"iterable"}, 1));
  std::string out;
  bool first = true;
  for (const Value& part : TRY(iterate(environment.heap, bound[0]))) {
    if (!part.is_string()) return type_error("join needs strings, not", part);
    if (!std::exchange(first, false)) out += value.text();
    TRY(append_text(environment.heap, out, part));
    TRY(environment.heap.work_bytes(value.text().size()));
  }
  return environment.heap.string(std::move(out));
}

template <bool (*kAccepts)(char32_t)>
Result<Value> all_are(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  TRY(environment.heap.work_bytes(value.text().size()));
  const std::string_view text = value.text();
  for (size_t at = 0; at < text.size();)
    if (!kAccepts(next_code_point(text, at))) return Value(false);
  return Value(!text.empty());
}

Result<Value> is_case(Environment& environment, const Value& value, const Arguments& arguments, bool raised) {
  TRY(takes_nothing(arguments));
  TRY(environment.heap.work_bytes(value.text().size() * 4));
  const std::string up = upper(value.text()), down = lower(value.text());
  return Value(up != down && value.text() == (raised ? up : down));
}
Result<Value> isupper(Environment& e, const Value& v, const Arguments& a) { return is_case(e, v, a, true); }
Result<Value> islower(Environment& e, const Value& v, const Arguments& a) { return is_case(e, v, a, false); }

Result<Value> zfill(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"width"}, 1));
  const int64_t missing = TRY(integer_or(bound[0], 0, "width")) - code_points(value.text());
  std::string text(value.text());
  if (missing > 0) {
    TRY(check_text_size(static_cast<uint64_t>(missing)));
    const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
    text.insert(sign, std::string(static_cast<size_t>(missing), '0'));
  }
  return environment.heap.string(std::move(text));
}

Result<Value> justified(Environment& environment, const Value& value, const Arguments& arguments, int side) {
  const auto bound = TRY(bind(arguments, {"width", "fillchar"}, 1));
  const std::string_view fill = TRY(text_or(bound[1], " ", "fillchar"));
  if (code_points(fill) != 1) return fail(Code::kMalformed, "'fillchar' must be one character");
  return pad_text(environment.heap, value.text(), TRY(integer_or(bound[0], 0, "width")), fill, side);
}
Result<Value> ljust(Environment& e, const Value& v, const Arguments& a) { return justified(e, v, a, -1); }
Result<Value> rjust(Environment& e, const Value& v, const Arguments& a) { return justified(e, v, a, 1); }
Result<Value> center(Environment& e, const Value& v, const Arguments& a) { return justified(e, v, a, 0); }

Result<Value> format_text(Environment& environment, const Value& value, const Arguments& arguments) {
  return format_braces(environment.heap, value.text(), arguments.positional, arguments.names, arguments.named);
}

constexpr std::array kTextMethods{
    Builtin{"strip", strip},
    Builtin{"lstrip", lstrip},
    Builtin{"rstrip", rstrip},
    Builtin{"upper", transform<upper>},
    Builtin{"lower", transform<lower>},
    Builtin{"casefold", transform<lower>},
    Builtin{"title", transform<titled>},
    Builtin{"capitalize", transform<capitalized>},
    Builtin{"swapcase", transform<swapped_case>},
    Builtin{"split", split},
    Builtin{"rsplit", rsplit},
    Builtin{"splitlines", splitlines},
    Builtin{"partition", partition},
    Builtin{"rpartition", rpartition},
    Builtin{"startswith", startswith},
    Builtin{"endswith", endswith},
    Builtin{"removeprefix", removeprefix},
    Builtin{"removesuffix", removesuffix},
    Builtin{"find", find_text},
    Builtin{"rfind", rfind_text},
    Builtin{"index", index_text},
    Builtin{"rindex", rindex_text},
    Builtin{"count", count_text},
    Builtin{"replace", replace_text},
    Builtin{"join", join_items},
    Builtin{"format", format_text},
    Builtin{"isspace", all_are<is_whitespace>},
    Builtin{"isdigit", all_are<is_decimal>},
    Builtin{"isdecimal", all_are<is_decimal>},
    Builtin{"isnumeric", all_are<is_decimal>},
    Builtin{"isalpha", all_are<is_letter>},
    Builtin{"isalnum", all_are<is_letter_or_digit>},
    Builtin{"isupper", isupper},
    Builtin{"islower", islower},
    Builtin{"zfill", zfill},
    Builtin{"ljust", ljust},
    Builtin{"rjust", rjust},
    Builtin{"center", center},
};
}  // namespace

std::span<const Builtin> text_methods() { return kTextMethods; }

}  // namespace hearth::jinja
