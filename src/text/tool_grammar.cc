#include "text/tool_grammar.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <vector>

namespace hearth {
namespace {

using Shared = Grammar::Shared;
constexpr uint32_t kCallsMax = 16;  // of one answer: a small model may go on for ever

// Texts and languages, one after the other; an empty text is nothing.
class Parts {
 public:
  Result<void> text(std::string_view text) {
    if (!text.empty()) parts_.push_back(TRY(Grammar::literal(text)));
    return {};
  }
  void language(Shared language) { parts_.push_back(std::move(language)); }
  [[nodiscard]] Result<Shared> together() const { return Grammar::sequence(parts_); }

 private:
  std::vector<Shared> parts_;
};

struct Function {
  std::string name;  // as JSON writes it between quotes
  Shared arguments;
};

// A value as Python writes it. Only words differ from JSON: those at the top are Python's, those inside of others may be JSON's,
// which are read, too.
Result<Shared> python_value(const boost::json::value& schema, const boost::json::object& root) {
  const auto* object = schema.if_object();
  const auto* type = object ? object->if_contains("type") : nullptr;
  if (type && *type == "boolean" && !object->contains("enum") && !object->contains("const"))
    return Grammar::from_choices(std::vector<std::string>{"True", "False"});
  if (!object) return Grammar::from_json_schema(schema);
  boost::json::object whole(*object);
  for (const std::string_view definitions : {"$defs", "definitions"})
    if (const auto* given = root.if_contains(definitions)) whole.emplace(definitions, *given);
  return Grammar::from_json_schema(whole);
}

// key=value, key=value: what a schema of an object says, in its order. What else it may ask of the object as a whole is refused.
Result<Shared> python_arguments(const boost::json::value& schema) {
  constexpr std::array<std::string_view, 13> kKnown{"type",    "properties",  "required", "additionalProperties",
                                                    "$defs",   "definitions", "title",    "description",
                                                    "$schema", "$id",         "default",  "examples",
                                                    "strict"};
  const auto* root = schema.if_object();
  if (!root) return fail(Code::kInvalidArgument, "need an object");
  for (const auto& member : *root)
    if (std::ranges::find(kKnown, std::string_view(member.key())) == kKnown.end())
      return fail(Code::kInvalidArgument, "{}: not available where arguments are written as Python's",
                  std::string_view(member.key()));
  TRY(Grammar::from_json_schema(schema));  // what is wrong with it is said as for other models
  const auto* properties = root->if_contains("properties");
  const auto* required = root->if_contains("required");
  Shared behind = TRY(Grammar::literal("")), alone = behind;  // the rest after other arguments, and without any before
  if (!properties) return alone;
  const auto& members = properties->as_object();
  for (size_t i = members.size(); i-- > 0;) {
    const auto& member = *(members.begin() + i);
    const std::string_view key = member.key();
    if (key.empty() || key.find_first_of("=,()[]{}\"'\\ \t\r\n") != std::string_view::npos)
      return fail(Code::kInvalidArgument, "properties: a name is none that Python knows");
    const auto value = python_value(member.value(), *root);
    if (!value) return within(fmt::format("properties/{}", key), value.error());
    const bool must =
        required && std::ranges::find(required->as_array(), boost::json::value(key)) != required->as_array().end();
    Parts first, next;
    TRY(first.text(fmt::format("{}=", key)));
    first.language(*value);
    const Shared one = TRY(first.together());
    TRY(next.text(", "));
    next.language(one);
    Parts begun;
    begun.language(one);
    begun.language(behind);
    const Shared from_here = TRY(begun.together());
    alone = must ? from_here : TRY(Grammar::any_of(std::array{from_here, alone}));
    const Shared another = TRY(next.together());
    Parts rest;
    rest.language(must ? another : TRY(Grammar::repeat(another, 0, 1, nullptr)));
    rest.language(behind);
    behind = TRY(rest.together());
  }
  return alone;
}

Result<std::vector<Function>> read_functions(const ToolSyntax& syntax, const boost::json::array& tools,
                                             std::string_view named) {
  std::vector<Function> functions;
  for (size_t i = 0; i < tools.size(); ++i) {
    const auto& function = tools[i].at("function").as_object();
    const std::string_view name = function.at("name").as_string();
    if (!named.empty() && name != named) continue;
    const auto* parameters = function.if_contains("parameters");
    const boost::json::value none = boost::json::object{{"type", "object"}};
    auto arguments = syntax.body == CallBody::kPython ? python_arguments(parameters ? *parameters : none)
                     : parameters                     ? Grammar::from_json_schema(*parameters)
                                                      : Grammar::from_json_object();
    if (!arguments) return within(fmt::format("tools[{}].function.parameters", i), arguments.error());
    std::string written = boost::json::serialize(boost::json::string(name));
    functions.push_back({written.substr(1, written.size() - 2), *arguments});
  }
  return functions;
}

std::string marked(const Tokenizer* tokenizer, std::string_view text) {
  const bool control = tokenizer != nullptr && is_control(*tokenizer, text);
  return (control ? std::string(1, Grammar::kControlMark) : "") + std::string(text);
}

// The texts around calls, marked where they are control tokens.
struct Marks {
  std::string begin, before, between, after, end, arguments;
};
Marks marks_of(const ToolSyntax& syntax, const Tokenizer* tokenizer) {
  const auto mark = [&](std::string_view text) { return marked(tokenizer, text); };
  return {mark(syntax.begin), std::string(syntax.before), mark(syntax.between),
          mark(syntax.after), mark(syntax.end),           mark("[ARGS]")};
}

// One call, without its first `skipped` bytes, which stand already.
Result<Shared> any_call(const ToolSyntax& syntax, const Marks& marks, const std::vector<Function>& functions,
                        size_t skipped) {
  std::vector<Shared> calls;
  for (const Function& function : functions) {
    Parts call;
    const bool python = syntax.body == CallBody::kPython, named = syntax.body == CallBody::kNamed;
    const std::string head = python  ? function.name + "("
                             : named ? function.name + marks.arguments
                                     : fmt::format(R"({{"name": "{}", "{}": )", function.name, syntax.arguments_key);
    TRY(call.text(std::string_view(head).substr(skipped)));
    call.language(function.arguments);
    if (!named) TRY(call.text(python ? ")" : "}"));
    calls.push_back(TRY(call.together()));
  }
  return Grammar::any_of(calls);
}

// All that follows the mark of the first block.
Result<Shared> behind_mark(const Marks& syntax, const Shared& call, bool parallel) {
  Parts block;
  TRY(block.text(syntax.before));
  Shared calls = call;
  if (parallel && !syntax.between.empty()) {
    const Shared between = TRY(Grammar::literal(syntax.between));
    calls = TRY(Grammar::repeat(call, 1, kCallsMax, between));
  }
  block.language(calls);
  TRY(block.text(syntax.after));
  TRY(block.text(syntax.end));
  const Shared first = TRY(block.together());
  if (!parallel || syntax.end.empty() || !syntax.between.empty()) return first;
  // Further calls are further blocks.
  Parts next;
  TRY(next.text("\n"));
  TRY(next.text(syntax.begin));
  next.language(first);
  const Shared more = TRY(next.together());
  Parts all;
  all.language(first);
  all.language(TRY(Grammar::repeat(more, 0, kCallsMax - 1, nullptr)));
  return all.together();
}

}  // namespace

bool is_control(const Tokenizer& tokenizer, std::string_view mark) {
  const Token token = mark.empty() ? kNoToken : tokenizer.find(mark);
  const auto& kinds = tokenizer.data().kinds;
  return token != kNoToken && !kinds.empty() && kinds[static_cast<size_t>(token)] == TokenKind::kControl;
}

bool has_tool_grammar(const ToolSyntax& syntax) {
  return syntax.body == CallBody::kJson || syntax.body == CallBody::kNamed || syntax.body == CallBody::kPython;
}

Result<Shared> tool_grammar(const ToolSyntax& syntax, const boost::json::array& tools,
                            const ToolGrammarOptions& options) {
  const std::vector<Function> functions = TRY(read_functions(syntax, tools, options.named));
  const Marks marks = marks_of(syntax, options.tokenizer);
  const Shared call = TRY(any_call(syntax, marks, functions, 0));
  const Shared behind = TRY(behind_mark(marks, call, options.parallel));
  const bool usually_bare = syntax.bare && syntax.end.empty();
  if (!options.required) {
    std::vector<Grammar::Triggered> triggers{{marks.begin, behind}};
    constexpr std::string_view kHead = "{\"name\": \"";
    if (usually_bare) triggers.push_back({std::string(kHead), TRY(any_call(syntax, marks, functions, kHead.size()))});
    return Grammar::after_trigger(triggers);
  }
  if (usually_bare) return call;
  Parts all;
  TRY(all.text(marks.begin));
  all.language(behind);
  return all.together();
}

Result<Shared> after_reasoning(const ReasoningTags& tags, bool open, const Shared& answer, const Tokenizer* tokenizer) {
  // Thoughts hold no beginning of the closing tag but the tag itself. No text holds a tag that is a control token.
  const auto first = static_cast<unsigned char>(tags.close[0]), second = static_cast<unsigned char>(tags.close[1]);
  const std::string close = marked(tokenizer, tags.close);
  const std::string thoughts =
      close != tags.close
          ? R"(root ::= [^\x00]*)"
          : fmt::format(R"(root ::= ([^\x{0:02X}] | "\x{0:02X}"+ [^\x{0:02X}\x{1:02X}])* "\x{0:02X}"*)", first, second);
  Parts thoughtful;
  if (!open) TRY(thoughtful.text(marked(tokenizer, tags.open)));
  thoughtful.language(TRY(Grammar::from_gbnf(thoughts)));
  TRY(thoughtful.text(close));
  thoughtful.language(TRY(Grammar::from_gbnf(R"(root ::= "\n"{0,2})")));
  thoughtful.language(answer);
  const Shared both = TRY(thoughtful.together());
  if (open) return both;
  const std::vector<Shared> either{answer, both};
  return Grammar::any_of(either);
}

}  // namespace hearth
