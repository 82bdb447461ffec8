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

void append_range_repr(std::string& out, const std::vector<Value>& items) {
  const int64_t start = items.empty() ? 0 : items.front().integer();
  const int64_t step = items.size() < 2 ? 1 : items[1].integer() - start;
  const int64_t stop = items.empty() ? 0 : items.back().integer() + (step > 0 ? 1 : -1);
  out += step == 1 ? fmt::format("range({}, {})", start, stop) : fmt::format("range({}, {}, {})", start, stop, step);
}

// Of what has no members to show.
void append_leaf_repr(std::string& out, const Value& value) {
  switch (value.kind()) {
    case Kind::kAbsent:
    case Kind::kUndefined:
      out += "Undefined";
      return;
    case Kind::kNone:
    case Kind::kBool:
      out += constant_text(value);
      return;
    case Kind::kInt:
      out += fmt::format("{}", value.integer());
      return;
    case Kind::kFloat:
      out += float_repr(value.real());
      return;
    case Kind::kString:
      append_repr(out, value.text());
      return;
    case Kind::kList:
      if (value.is_list(ListKind::kRange)) return append_range_repr(out, value.items());
      out += "<generator>";
      return;
    case Kind::kLoop: {
      const auto& loop = value.as<LoopObject>();
      out += fmt::format("<LoopContext {}/{}>", loop.index + 1, loop.items.items().size());
      return;
    }
    case Kind::kMacro:
      out += "<Macro>";
      return;
    default:
      out += fmt::format("<{}>", type_name(value));
  }
}

// A container that is being written. Containers are kept on a stack of their own: values nest deep, threads' stacks are small.
struct Level {
  const Value* value = nullptr;
  size_t next = 0;                    // member to write; a dict has two for each entry
  std::vector<const Entry*> entries;  // of a dict, in the order to write
};

Level level_of(const Value& value) {
  Level level;
  level.value = &value;
  if (!value.is(Kind::kDict)) return level;
  level.entries.reserve(value.entries().size());
  for (const Entry& entry : value.entries()) level.entries.push_back(&entry);
  return level;
}

size_t members_of(const Level& level) {
  return level.value->is(Kind::kDict) ? level.entries.size() * 2 : level.value->items().size();
}

const Value& member_of(const Level& level, size_t index) {
  if (!level.value->is(Kind::kDict)) return level.value->items()[index];
  const Entry& entry = *level.entries[index / 2];
  return index % 2 == 0 ? entry.first : entry.second;
}

bool is_container(const Value& value) {
  return value.is(Kind::kDict) || value.is_list(ListKind::kList) || value.is_list(ListKind::kTuple) ||
         value.is_list(ListKind::kView);
}

std::string_view opening(const Value& value) {
  if (value.is(Kind::kDict)) return "{";
  return value.is_list(ListKind::kTuple) ? "(" : value.is_list(ListKind::kView) ? "dict_items([" : "[";
}

std::string_view closing(const Value& value) {
  if (value.is(Kind::kDict)) return "}";
  if (value.is_list(ListKind::kTuple)) return value.items().size() == 1 ? ",)" : ")";
  return value.is_list(ListKind::kView) ? "])" : "]";
}
}  // namespace

Result<void> append_repr(Heap& heap, std::string& out, const Value& root) {
  std::vector<Level> levels;
  for (const Value* value = &root;;) {
    TRY(check_size(heap, out));
    if (is_container(*value)) {
      out += opening(*value);
      levels.push_back(level_of(*value));
    } else {
      if (value->is_string()) TRY(heap.work_bytes(value->text().size()));
      append_leaf_repr(out, *value);
    }
    while (!levels.empty() && levels.back().next == members_of(levels.back())) {
      out += closing(*levels.back().value);
      levels.pop_back();
    }
    if (levels.empty()) return {};
    Level& level = levels.back();
    if (level.next > 0) out += level.value->is(Kind::kDict) && level.next % 2 == 1 ? ": " : ", ";
    value = &member_of(level, level.next++);
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

  Result<void> write(const Value& root) {
    for (const Value* value = &root;;) {
      TRY(write_value(*value));
      while (!levels_.empty() && levels_.back().next == members_of(levels_.back())) close();
      if (levels_.empty()) return {};
      value = &member_of(levels_.back(), levels_.back().next);
      if (levels_.back().value->is(Kind::kDict) && levels_.back().next % 2 == 0) {
        next_line();
        TRY(write_key(*value));
        value = &member_of(levels_.back(), ++levels_.back().next);
      } else {
        next_line();
      }
      ++levels_.back().next;
    }
  }

 private:
  // A leaf whole, of a container the beginning.
  Result<void> write_value(const Value& value) {
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
        return open(value);
      case Kind::kList:
        if (value.is_list(ListKind::kList) || value.is_list(ListKind::kTuple)) return open(value);
        [[fallthrough]];
      default:
        return type_error("JSON cannot hold", value);
    }
  }

  Result<void> open(const Value& value) {
    levels_.push_back(level_of(value));
    out_ += value.is(Kind::kDict) ? '{' : '[';
    return value.is(Kind::kDict) && style_.sort_keys ? sort_entries(levels_.back().entries) : Result<void>();
  }

  void close() {
    const Level level = std::move(levels_.back());
    levels_.pop_back();
    if (level.next > 0) new_line();
    out_ += level.value->is(Kind::kDict) ? '}' : ']';
  }

  Result<void> sort_entries(std::vector<const Entry*>& entries) {
    for (const Entry* entry : entries)
      if (!entry->first.is_string()) return type_error("cannot sort keys with", entry->first);
    TRY(heap_.work(entries.size() * 8));
    std::sort(entries.begin(), entries.end(),
              [](const Entry* a, const Entry* b) { return a->first.text() < b->first.text(); });
    return {};
  }

  // In front of a member.
  void next_line() {
    if (levels_.back().next > 0) out_ += style_.item_separator;
    new_line();
  }

  void new_line() {
    if (!style_.pretty) return;
    out_ += '\n';
    for (size_t i = 0; i < levels_.size(); ++i) out_ += style_.indent;
  }

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

  Result<void> write_key(const Value& key) {
    const std::string text = TRY(key_text(key));
    TRY(write_string(text));
    out_ += style_.key_separator;
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

  Heap& heap_;
  std::string& out_;
  const JsonStyle& style_;
  std::vector<Level> levels_;
};
}  // namespace

Result<void> append_json(Heap& heap, std::string& out, const Value& value, const JsonStyle& style) {
  return JsonWriter(heap, out, style).write(value);
}

}  // namespace hearth::jinja
