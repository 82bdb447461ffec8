#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "text/jinja_operations.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
// Printed values share sub-values, so their text may be exponentially longer than they are: it is counted as it grows.
Result<void> check_size(Heap& heap, const std::string& out) {
  if (out.size() > limits::kTemplateMemoryBytes)
    return fail(Code::kLimit, "the text of a value has over {} bytes", limits::kTemplateMemoryBytes);
  return heap.work(1);
}

std::string_view constant_text(const Value& value) {
  if (value.is_none()) return "None";
  return value.boolean() ? "True" : "False";
}

Result<void> append_list_repr(Heap& heap, std::string& out, const Value& value) {
  const auto& items = value.items();
  switch (value.object()->list_kind) {
    case ListKind::kGenerator:
      out += "<generator>";
      return {};
    case ListKind::kRange: {
      const int64_t start = items.empty() ? 0 : items.front().integer();
      const int64_t step = items.size() < 2 ? 1 : items[1].integer() - start;
      const int64_t stop = items.empty() ? 0 : items.back().integer() + (step > 0 ? 1 : -1);
      out +=
          step == 1 ? fmt::format("range({}, {})", start, stop) : fmt::format("range({}, {}, {})", start, stop, step);
      return {};
    }
    default:
      break;
  }
  const bool tuple = value.is_list(ListKind::kTuple);
  if (value.is_list(ListKind::kView)) out += "dict_items(";
  out += tuple ? '(' : '[';
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    TRY(append_repr(heap, out, items[i]));
  }
  if (tuple && items.size() == 1) out += ',';
  out += tuple ? ')' : ']';
  if (value.is_list(ListKind::kView)) out += ')';
  return {};
}

Result<void> append_entries_repr(Heap& heap, std::string& out, const Value& value) {
  out += '{';
  bool first = true;
  for (const auto& [key, member] : value.entries()) {
    if (!first) out += ", ";
    first = false;
    TRY(append_repr(heap, out, key));
    out += ": ";
    TRY(append_repr(heap, out, member));
  }
  out += '}';
  return {};
}
}  // namespace

Result<void> append_repr(Heap& heap, std::string& out, const Value& value) {
  TRY(check_size(heap, out));
  switch (value.kind()) {
    case Kind::kAbsent:
    case Kind::kUndefined:
      out += "Undefined";
      return {};
    case Kind::kNone:
    case Kind::kBool:
      out += constant_text(value);
      return {};
    case Kind::kInt:
      out += fmt::format("{}", value.integer());
      return {};
    case Kind::kFloat:
      out += float_repr(value.real());
      return {};
    case Kind::kString:
      TRY(heap.work_bytes(value.text().size()));
      append_repr(out, value.text());
      return {};
    case Kind::kList:
      return append_list_repr(heap, out, value);
    case Kind::kDict:
      return append_entries_repr(heap, out, value);
    case Kind::kLoop: {
      const auto& loop = value.as<LoopObject>();
      out += fmt::format("<LoopContext {}/{}>", loop.index + 1, loop.items.items().size());
      return {};
    }
    default:
      out += fmt::format("<{}>", type_name(value));
      return {};
  }
}

Result<void> append_text(Heap& heap, std::string& out, const Value& value) {
  if (value.is_undefined()) return {};
  if (!value.is_string()) return append_repr(heap, out, value);
  TRY(heap.work_bytes(value.text().size()));
  out += value.text();
  return check_size(heap, out);
}

Result<std::string> text_of(Heap& heap, const Value& value) {
  std::string out;
  TRY(append_text(heap, out, value));
  return out;
}

namespace {
class JsonWriter {
 public:
  JsonWriter(Heap& heap, std::string& out, const JsonStyle& style) : heap_(heap), out_(out), style_(style) {}

  // Recursion is bounded by the nesting of values.
  Result<void> write(const Value& value) {
    TRY(check_size(heap_, out_));
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return {};
      case Kind::kBool:
        out_ += value.boolean() ? "true" : "false";
        return {};
      case Kind::kInt:
        out_ += fmt::format("{}", value.integer());
        return {};
      case Kind::kFloat:
        write_float(value.real());
        return {};
      case Kind::kString:
        return write_string(value.text());
      case Kind::kDict:
        return write_dict(value);
      case Kind::kList:
        if (value.is_list(ListKind::kList) || value.is_list(ListKind::kTuple)) return write_list(value.items());
        [[fallthrough]];
      default:
        return type_error("JSON cannot hold", value);
    }
  }

 private:
  void write_float(double value) {
    out_ += std::isnan(value) ? "NaN" : std::isinf(value) ? (value < 0 ? "-Infinity" : "Infinity") : float_repr(value);
  }

  Result<void> write_string(std::string_view text) {
    TRY(heap_.work_bytes(text.size()));
    if (!style_.ensure_ascii || is_ascii(text)) {
      jinja::append_json(out_, text);
      return {};
    }
    std::string quoted;
    jinja::append_json(quoted, text);
    for (size_t at = 0; at < quoted.size();) {
      const char32_t c = next_code_point(quoted, at);
      const auto value = static_cast<uint32_t>(c);
      if (c < 0x80) {
        out_ += static_cast<char>(c);
      } else if (c < 0x10000) {
        out_ += fmt::format("\\u{:04x}", value);
      } else {
        out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((value - 0x10000) >> 10), 0xDC00 + (value & 0x3FF));
      }
    }
    return {};
  }

  void new_line() {
    if (!style_.pretty) return;
    out_ += '\n';
    for (size_t i = 0; i < level_; ++i) out_ += style_.indent;
  }

  Result<void> write_list(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return {};
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line();
      TRY(write(items[i]));
    }
    --level_;
    new_line();
    out_ += ']';
    return {};
  }

  Result<std::string> key_text(const Value& key) {
    if (key.is_string()) return std::string(key.text());
    if (key.is_none()) return "null";
    if (key.is(Kind::kBool)) return key.boolean() ? "true" : "false";
    if (key.is(Kind::kInt)) return fmt::format("{}", key.integer());
    if (key.is(Kind::kFloat)) return float_repr(key.real());
    return type_error("JSON has no keys from", key);
  }

  Result<void> write_dict(const Value& value) {
    if (value.entries().empty()) {
      out_ += "{}";
      return {};
    }
    std::vector<const Entry*> entries;
    entries.reserve(value.entries().size());
    for (const Entry& entry : value.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (const Entry* entry : entries)
        if (!entry->first.is_string()) return type_error("cannot sort keys with", entry->first);
      TRY(heap_.work(entries.size() * 8));
      std::sort(entries.begin(), entries.end(),
                [](const Entry* a, const Entry* b) { return a->first.text() < b->first.text(); });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line();
      const std::string key = TRY(key_text(entries[i]->first));
      TRY(write_string(key));
      out_ += style_.key_separator;
      TRY(write(entries[i]->second));
    }
    --level_;
    new_line();
    out_ += '}';
    return {};
  }

  Heap& heap_;
  std::string& out_;
  const JsonStyle& style_;
  size_t level_ = 0;
};
}  // namespace

Result<void> append_json(Heap& heap, std::string& out, const Value& value, const JsonStyle& style) {
  return JsonWriter(heap, out, style).write(value);
}

}  // namespace hearth::jinja
