#include "text/tool_calls.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "text/reasoning.h"

namespace hearth {
namespace {

constexpr ToolSyntax kHermes{.name = "hermes",
                             .template_mark = "<tool_call>",
                             .begin = "<tool_call>",
                             .before = "\n",
                             .between = {},
                             .after = "\n",
                             .end = "</tool_call>",
                             .bare = true};  // Qwen2.5-Coder leaves the marks out
// The first whose mark a template has.
constexpr std::array kSyntaxes{
    ToolSyntax{"mistral-named", "[ARGS]", "[TOOL_CALLS]", "", "[TOOL_CALLS]", "", "", "arguments", CallBody::kNamed},
    ToolSyntax{"mistral", "[TOOL_CALLS]", "[TOOL_CALLS]", "[", ", ", "]", ""},
    ToolSyntax{"lfm2", "<|tool_call_start|>", "<|tool_call_start|>", "[", ", ", "]", "<|tool_call_end|>", "arguments",
               CallBody::kPython},
    ToolSyntax{"functiongemma", "<start_function_call>", "<start_function_call>", "", "", "", "<end_function_call>",
               "arguments", CallBody::kGemma},
    ToolSyntax{"phi", "<|/tool_call|>", "<|tool_call|>", "[", ", ", "]", "<|/tool_call|>"},
    ToolSyntax{"phi", "<|/tool|>", "<|tool_call|>", "[", ", ", "]", "<|/tool_call|>"},
    ToolSyntax{"granite", "<|tool_call|>", "<|tool_call|>", "[", ", ", "]", ""},
    ToolSyntax{"qwen-coder", "<function=", "<tool_call>", "\n", "", "\n", "</tool_call>", "arguments", CallBody::kXml},
    kHermes,
    ToolSyntax{"llama", "<|python_tag|>", "<|python_tag|>", "", "; ", "", "", "parameters", CallBody::kJson, true},
    ToolSyntax{"llama", "\"parameters\":", "<|python_tag|>", "", "; ", "", "", "parameters", CallBody::kJson, true},
};
constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kNone = "{}";

size_t skip(std::string_view text, size_t at, std::string_view these) {
  return std::min(text.find_first_not_of(these, at), text.size());
}
std::string_view trimmed(std::string_view text) {
  text.remove_prefix(skip(text, 0, kSpace));
  while (!text.empty() && kSpace.contains(text.back())) text.remove_suffix(1);
  return text;
}

void add_call(std::vector<ToolPart>& parts, std::string_view name, std::string arguments) {
  parts.push_back({ToolPart::Kind::kCall, std::string(name)});
  parts.push_back({ToolPart::Kind::kArguments, std::move(arguments)});
  parts.push_back({ToolPart::Kind::kCallEnd, {}});
}

// The head of a call in JSON, up to the opening bracket of its arguments.
struct Head {
  enum class Match { kYes, kMore, kNo } match = Match::kNo;
  std::string_view name;
  size_t arguments = 0;
};
Head read_head(std::string_view text) {
  size_t at = 0;
  auto literal = [&](std::string_view expected) {
    at = skip(text, at, kSpace);
    if (at + expected.size() > text.size())
      return expected.starts_with(text.substr(at)) ? Head::Match::kMore : Head::Match::kNo;
    if (!text.substr(at).starts_with(expected)) return Head::Match::kNo;
    at += expected.size();
    return Head::Match::kYes;
  };
  for (const std::string_view expected : {"{", "\"name\"", ":", "\""})
    if (const auto match = literal(expected); match != Head::Match::kYes) return {match, {}, 0};
  const size_t end = text.find_first_of("\"\\", at);
  if (end == std::string_view::npos) return {Head::Match::kMore, text.substr(at), 0};
  if (text[end] == '\\') return {};
  Head head{.name = text.substr(at, end - at)};
  at = end + 1;
  if (head.match = literal(","); head.match != Head::Match::kYes) return head;
  head.match = literal("\"arguments\"");
  if (head.match == Head::Match::kNo) head.match = literal("\"parameters\"");
  for (const std::string_view expected : {":", "{"})
    if (head.match == Head::Match::kYes) head.match = literal(expected);
  head.arguments = at - 1;
  return head;
}

// A call as one object, whatever the order of its members. False if it is none.
bool add_whole_call(std::vector<ToolPart>& parts, std::string_view text) {
  const auto parsed = parse_json(text);
  const auto* object = parsed ? parsed->if_object() : nullptr;
  if (!object) return false;
  if (const auto* function = object->if_contains("function"); function && function->is_object())
    object = &function->get_object();
  const auto* name = object->if_contains("name");
  if (!name || !name->is_string()) return false;
  const auto* arguments = object->if_contains("arguments");
  if (!arguments) arguments = object->if_contains("parameters");
  std::string written(kNone);
  if (arguments && arguments->is_object()) written = boost::json::serialize(*arguments);
  if (arguments && arguments->is_string()) {
    const auto inner = parse_json(arguments->get_string());
    if (!inner || !inner->is_object()) return false;
    written = boost::json::serialize(*inner);
  }
  add_call(parts, name->get_string(), std::move(written));
  return true;
}

bool add_literal_calls(std::vector<ToolPart>& parts, std::string_view text, const ToolSyntax& syntax) {
  const bool python = syntax.body == CallBody::kPython;
  std::vector<ToolPart> calls;
  for (size_t at = skip(text, 0, "[ \n"); at < text.size();) {
    if (!python && text.substr(at).starts_with("call:")) at += std::string_view("call:").size();
    const size_t open = text.find(python ? '(' : '{', at);
    if (open == std::string_view::npos) return false;
    const std::string_view name = trimmed(text.substr(at, open - at));
    at = open + 1;
    const auto arguments = read_literal_arguments(text, at, python ? '=' : ':', python ? ')' : '}');
    if (!arguments || name.empty()) return false;
    add_call(calls, name, boost::json::serialize(*arguments));
    at = skip(text, at, "], \n");
  }
  std::ranges::move(calls, std::back_inserter(parts));
  return true;
}

bool add_xml_call(std::vector<ToolPart>& parts, std::string_view text) {
  constexpr std::string_view kFunction = "<function=", kParameter = "<parameter=", kClose = "</parameter>";
  text = trimmed(text);
  const size_t name_end = text.find('>');
  if (!text.starts_with(kFunction) || name_end == std::string_view::npos) return false;
  const std::string_view name = text.substr(kFunction.size(), name_end - kFunction.size());
  boost::json::object arguments;
  for (size_t at = text.find(kParameter); at != std::string_view::npos; at = text.find(kParameter, at)) {
    at += kParameter.size();
    const size_t key_end = text.find('>', at), value_end = text.find(kClose, at);
    if (key_end == std::string_view::npos || value_end == std::string_view::npos || key_end > value_end) return false;
    const std::string_view value = trimmed(text.substr(key_end + 1, value_end - key_end - 1));
    const auto parsed = parse_json(value);
    arguments[text.substr(at, key_end - at)] = parsed ? *parsed : boost::json::value(value);
    at = value_end;
  }
  add_call(parts, name, boost::json::serialize(arguments));
  return true;
}

}  // namespace

const ToolSyntax& generic_tool_syntax() { return kHermes; }

const ToolSyntax& tool_syntax(std::string_view template_source) {
  for (const ToolSyntax& syntax : kSyntaxes)
    if (template_takes_tools(template_source) && template_source.contains(syntax.template_mark)) return syntax;
  return kHermes;
}

bool template_takes_tools(std::string_view template_source) { return template_source.contains("tools"); }

ToolCallParser::ToolCallParser(const ToolSyntax& syntax, std::vector<std::string> names)
    : syntax_(&syntax), names_(std::move(names)) {}

bool ToolCallParser::Scanner::ends_at(char c) {
  if (in_string) {
    const bool was_escaped = escaped;
    escaped = !was_escaped && c == '\\';
    if (!was_escaped && c == '"') in_string = false;
    return false;
  }
  if (c == '"') in_string = true;
  if (c == '{' || c == '[') ++depth;
  if (c == '}' || c == ']') return --depth <= 0;
  return false;
}

size_t ToolCallParser::Scanner::end_of(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i)
    if (ends_at(text[i])) return i + 1;
  return std::string_view::npos;
}

std::vector<ToolPart> ToolCallParser::push(std::string_view text) {
  held_ += text;
  return run(false);
}
std::vector<ToolPart> ToolCallParser::finish() { return run(true); }

std::vector<ToolPart> ToolCallParser::run(bool last) {
  Parts parts;
  while (step(parts, last)) {
  }
  return parts;
}

bool ToolCallParser::is_known(std::string_view name) const { return std::ranges::find(names_, name) != names_.end(); }

// What is held was no call after all.
void ToolCallParser::give_up(Parts& parts) {
  if (!held_.empty()) parts.push_back({ToolPart::Kind::kText, std::move(held_)});
  held_.clear();
  state_ = State::kText;
  bare_ = false;
}

// Handles what can be decided of the held text; true if there may be more to do.
bool ToolCallParser::step(Parts& parts, bool last) {
  switch (state_) {
    case State::kStart: {
      const size_t space = skip(held_, 0, kSpace);
      if (space == held_.size() && !last) return false;
      bare_ = syntax_->bare && space < held_.size() && held_[space] == '{';
      if (bare_ || held_.find(syntax_->begin, space) == space) held_.erase(0, space);
      state_ = bare_ ? State::kObject : State::kText;
      return true;
    }
    case State::kText:
      return in_text(parts, last);
    case State::kBlock:
      if (syntax_->body == CallBody::kJson) return in_block(parts, last);
      return syntax_->body == CallBody::kNamed ? in_named(parts, last) : in_buffered(parts, last);
    case State::kObject:
      return in_object(parts, last);
    case State::kArguments:
      return in_arguments(parts);
    case State::kClosing: {  // further members of the call's object
      const size_t end = scanner_.end_of(held_);
      held_.erase(0, end);
      if (end == std::string::npos) return false;
      state_ = State::kBlock;
      return true;
    }
  }
  return false;
}

bool ToolCallParser::in_text(Parts& parts, bool last) {
  if (called_) held_.erase(0, skip(held_, 0, kSpace));
  const size_t found = held_.find(syntax_->begin);
  const bool begins = found != std::string::npos;
  const size_t ready = begins ? found : held_.size() - (last ? 0 : begins_marker(held_, syntax_->begin));
  if (ready > 0) parts.push_back({ToolPart::Kind::kText, held_.substr(0, ready)});
  held_.erase(0, begins ? ready + syntax_->begin.size() : ready);
  if (begins) state_ = State::kBlock;
  return begins;
}

// Between the calls of a block.
bool ToolCallParser::in_block(Parts& parts, bool last) {
  held_.erase(0, skip(held_, 0, bare_ || syntax_->bare ? " \t\r\n[],;" : " \t\r\n[],"));
  if (held_.empty()) return false;
  if (held_[0] == '{') {
    state_ = State::kObject;
    return true;
  }
  if (!syntax_->end.empty() && held_.starts_with(syntax_->end)) {
    held_.erase(0, syntax_->end.size());
    state_ = State::kText;
    return true;
  }
  if (held_.starts_with(syntax_->begin)) {  // the next block, the last one not closed
    held_.erase(0, syntax_->begin.size());
    return true;
  }
  if (!last && (syntax_->end.starts_with(held_) || syntax_->begin.starts_with(held_))) return false;
  give_up(parts);
  return false;
}

bool ToolCallParser::in_named(Parts& parts, bool last) {
  constexpr std::string_view kArguments = "[ARGS]";
  held_.erase(0, skip(held_, 0, kSpace));
  if (held_.starts_with(syntax_->begin)) held_.erase(0, syntax_->begin.size());
  const size_t mark = held_.find(kArguments);
  if (mark == std::string::npos) {
    if (last) held_.clear();
    return false;
  }
  const size_t open = skip(held_, mark + kArguments.size(), kSpace);
  if (open == held_.size()) return false;
  if (held_[open] != '{') {
    give_up(parts);
    return false;
  }
  const std::string_view name = std::string_view(held_).substr(0, std::min(mark, held_.find("[CALL_ID]")));
  parts.push_back({ToolPart::Kind::kCall, std::string(trimmed(name))});
  held_.erase(0, open);
  called_ = true;
  scanner_ = {};
  state_ = State::kArguments;
  return true;
}

// Forms that are read when a block is whole.
bool ToolCallParser::in_buffered(Parts& parts, bool last) {
  const size_t end = held_.find(syntax_->end);
  if (end == std::string::npos && !last) return false;
  const std::string_view body = std::string_view(held_).substr(0, end);
  const bool read =
      syntax_->body == CallBody::kXml ? add_xml_call(parts, body) : add_literal_calls(parts, body, *syntax_);
  called_ = called_ || read;
  if (!read && end != std::string::npos) parts.push_back({ToolPart::Kind::kText, std::string(body)});
  held_.erase(0, end == std::string::npos ? end : end + syntax_->end.size());
  state_ = State::kText;
  return true;
}

// A call's object from its opening bracket on.
bool ToolCallParser::in_object(Parts& parts, bool last) {
  const Head head = read_head(held_);
  const bool foreign = bare_ && head.arguments > 0 && !is_known(head.name);
  if (head.match == Head::Match::kYes && !foreign) {
    parts.push_back({ToolPart::Kind::kCall, std::string(head.name)});
    held_.erase(0, head.arguments);
    called_ = true;
    scanner_ = {};
    state_ = State::kArguments;
    return true;
  }
  if (head.match == Head::Match::kMore && !last) return false;
  if (bare_) {
    give_up(parts);
    return true;
  }
  // Members in another order: the whole object is needed.
  const size_t end = Scanner().end_of(held_);
  if (end == std::string::npos) {
    if (last) held_.clear();  // cut off before it was a call
    return false;
  }
  if (!add_whole_call(parts, std::string_view(held_).substr(0, end))) {
    give_up(parts);
    return false;
  }
  called_ = true;
  held_.erase(0, end);
  state_ = State::kBlock;
  return true;
}

bool ToolCallParser::in_arguments(Parts& parts) {
  const size_t end = scanner_.end_of(held_);
  const size_t ready = std::min(end, held_.size());
  if (ready > 0) parts.push_back({ToolPart::Kind::kArguments, held_.substr(0, ready)});
  held_.erase(0, ready);
  if (end == std::string::npos) return false;
  parts.push_back({ToolPart::Kind::kCallEnd, {}});
  scanner_ = {.depth = 1};
  state_ = syntax_->body == CallBody::kNamed ? State::kBlock : State::kClosing;
  return true;
}

}  // namespace hearth
