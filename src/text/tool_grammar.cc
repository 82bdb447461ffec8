#include "text/tool_grammar.h"

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

Result<std::vector<Function>> read_functions(const boost::json::array& tools, std::string_view named) {
  std::vector<Function> functions;
  for (size_t i = 0; i < tools.size(); ++i) {
    const auto& function = tools[i].at("function").as_object();
    const std::string_view name = function.at("name").as_string();
    if (!named.empty() && name != named) continue;
    const auto* parameters = function.if_contains("parameters");
    auto arguments = parameters ? Grammar::from_json_schema(*parameters) : Grammar::from_json_object();
    if (!arguments) return within(fmt::format("tools[{}].function.parameters", i), arguments.error());
    std::string written = boost::json::serialize(boost::json::string(name));
    functions.push_back({written.substr(1, written.size() - 2), *arguments});
  }
  return functions;
}

// The texts around calls, marked where they are control tokens.
struct Marks {
  std::string begin, before, between, after, end, arguments;
};
Marks marks_of(const ToolSyntax& syntax, const Tokenizer* tokenizer) {
  const auto marked = [&](std::string_view text) {
    const bool control = tokenizer != nullptr && is_control(*tokenizer, text);
    return (control ? std::string(1, Grammar::kControlMark) : "") + std::string(text);
  };
  return {marked(syntax.begin), std::string(syntax.before), marked(syntax.between),
          marked(syntax.after), marked(syntax.end),         marked("[ARGS]")};
}

// One call, without its first `skipped` bytes, which stand already.
Result<Shared> any_call(const ToolSyntax& syntax, const Marks& marks, const std::vector<Function>& functions,
                        size_t skipped) {
  std::vector<Shared> calls;
  for (const Function& function : functions) {
    Parts call;
    const bool named = syntax.body == CallBody::kNamed;
    const std::string head = named ? function.name + marks.arguments
                                   : fmt::format(R"({{"name": "{}", "{}": )", function.name, syntax.arguments_key);
    TRY(call.text(std::string_view(head).substr(skipped)));
    call.language(function.arguments);
    if (!named) TRY(call.text("}"));
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
  return syntax.body == CallBody::kJson || syntax.body == CallBody::kNamed;
}

Result<Shared> tool_grammar(const ToolSyntax& syntax, const boost::json::array& tools,
                            const ToolGrammarOptions& options) {
  const std::vector<Function> functions = TRY(read_functions(tools, options.named));
  const Marks marks = marks_of(syntax, options.tokenizer);
  const Shared call = TRY(any_call(syntax, marks, functions, 0));
  const Shared behind = TRY(behind_mark(marks, call, options.parallel));
  if (!options.required) {
    std::vector<Grammar::Triggered> triggers{{marks.begin, behind}};
    constexpr std::string_view kHead = "{\"name\": \"";
    if (syntax.bare) triggers.push_back({std::string(kHead), TRY(any_call(syntax, marks, functions, kHead.size()))});
    return Grammar::after_trigger(triggers);
  }
  if (syntax.bare) return call;
  Parts all;
  TRY(all.text(marks.begin));
  all.language(behind);
  return all.together();
}

Result<Shared> after_reasoning(const ReasoningTags& tags, bool open, const Shared& answer) {
  // Thoughts hold no beginning of the closing tag but the tag itself.
  const auto first = static_cast<unsigned char>(tags.close[0]), second = static_cast<unsigned char>(tags.close[1]);
  const std::string grammar =
      fmt::format(R"(root ::= ([^\x{0:02X}] | "\x{0:02X}"+ [^\x{0:02X}\x{1:02X}])* "\x{0:02X}"* "{2}" "\n"{{0,2}})",
                  first, second, tags.close);
  Parts thoughtful;
  if (!open) TRY(thoughtful.text(tags.open));
  thoughtful.language(TRY(Grammar::from_gbnf(grammar)));
  thoughtful.language(answer);
  const Shared both = TRY(thoughtful.together());
  if (open) return both;
  const std::vector<Shared> either{answer, both};
  return Grammar::any_of(either);
}

}  // namespace hearth
