#include "text/tool_calls.h"

#include <gtest/gtest.h>

#include <array>
#include <boost/json.hpp>

#include "base/json.h"
#include "text/reasoning.h"
#include "text/test_vocabulary.h"
#include "text/token_masks.h"
#include "text/tool_grammar.h"
#include "text/utf8.h"

namespace hearth {
namespace {

// Parts in one line: text as it is, a call as {name arguments} and, if it was cut off, {name arguments!
std::string shown(const std::vector<ToolPart>& parts) {
  std::string out;
  for (const ToolPart& part : parts) {
    if (part.kind == ToolPart::Kind::kText) out += part.text;
    if (part.kind == ToolPart::Kind::kCall) out += "{" + part.text + " ";
    if (part.kind == ToolPart::Kind::kArguments) out += part.text;
    if (part.kind == ToolPart::Kind::kCallEnd) out += "}";
  }
  return out;
}

std::vector<ToolPart> parsed(std::string_view source, std::string_view answer, size_t bytes_at_once) {
  ToolCallParser parser(tool_syntax(source), {"f", "g"});
  std::vector<ToolPart> all;
  auto take = [&](std::vector<ToolPart> parts) { std::ranges::move(parts, std::back_inserter(all)); };
  for (size_t at = 0; at < answer.size(); at += bytes_at_once) take(parser.push(answer.substr(at, bytes_at_once)));
  take(parser.finish());
  return all;
}

struct Row {
  std::string_view source, answer, expected;
};

constexpr std::string_view kHermes = "tools <tool_call>", kLlama = "tools <|python_tag|>",
                           kMistral = "tools [TOOL_CALLS]", kNamed = "tools [TOOL_CALLS] [ARGS]",
                           kLfm = "tools <|tool_call_start|>", kGemma = "tools <start_function_call>",
                           kPhi = "tools <|tool|> <|/tool|>", kGranite = "tools <|tool_call|>",
                           kCoder = "tools <tool_call> <function=";

constexpr std::array kRows{
    Row{kHermes, "plain < text <tool", "plain < text <tool"},
    Row{kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}{\\\"\"}}\n</tool_call>",
        R"({f {"a": "}{\""}})"},
    Row{kHermes,
        "Well. <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}"
        "</tool_call>\n",
        "Well. {f {}}{g {}}"},
    Row{kHermes, "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>", R"({f {"a":1}})"},
    Row{kHermes, R"(<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>)", R"({f {"a":1}})"},
    Row{kHermes, "<tool_call>{\"name\": \"f\"}</tool_call>", "{f {}}"},
    Row{kHermes, "<tool_call>no call</tool_call>", "no call</tool_call>"},
    Row{kHermes, "{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n", R"({f {"a": 1}})"},
    Row{kHermes, R"({"name": "unknown", "arguments": {}})", R"({"name": "unknown", "arguments": {}})"},
    Row{kHermes, R"({"a": 1})", R"({"a": 1})"},
    // Cut off: in the mark, in the head, in the arguments.
    Row{kHermes, "<tool_call>\n{\"na", ""},
    Row{kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1", R"({f {"a": 1)"},
    Row{kLlama, R"({"name": "f", "parameters": {"a": 1}})", R"({f {"a": 1}})"},
    Row{kLlama, R"(<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}})", "{f {}}{g {}}"},
    Row{kLlama, R"({"type": "function", "function": 3})", R"({"type": "function", "function": 3})"},
    Row{kLlama, R"({"name": "unknown", "parameters": {"a": 1}})", R"({"name": "unknown", "parameters": {"a": 1}})"},
    Row{kLlama, R"({"na)", R"({"na)"},
    Row{kMistral,
        R"([TOOL_CALLS][{"name": "f", "arguments": {"a": [1]}, "id": "123456789"}, {"name": "g", "arguments": {}}])",
        R"({f {"a": [1]}}{g {}})"},
    Row{kNamed, R"([TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{})", R"({f {"a": 1}}{g {}})"},
    Row{kLfm, R"(<|tool_call_start|>[f(a="x,\"y", b=[1, 2.5], c=None, d={'k': True}), g()]<|tool_call_end|>Done.)",
        R"({f {"a":"x,\"y","b":[1,2.5E0],"c":null,"d":{"k":true}}}{g {}}Done.)"},
    Row{kLfm, R"(<|tool_call_start|>[f(a="\u00e9\u00e9 \ud83d\ude00\b", b=true)]<|tool_call_end|>)",
        R"({f {"a":"éé 😀\b","b":true}})"},
    Row{kLfm, R"(<|tool_call_start|>[f(a="\ud83d")]<|tool_call_end|>)", R"([f(a="\ud83d")])"},
    Row{kLfm, "<|tool_call_start|>[f(a=<|tool_call_end|>", "[f(a="},
    Row{kGemma, "<start_function_call>call:f{a:<escape>x, \"y\"<escape>,b:5}<end_function_call>",
        R"({f {"a":"x, \"y\"","b":5}})"},
    Row{kPhi, R"(<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>)", "{f {}}"},
    Row{kGranite, R"(<|tool_call|>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}])", "{f {}}{g {}}"},
    Row{kCoder,
        "<tool_call>\n<function=f>\n<parameter=a>\nsome text\n</parameter>\n<parameter=n>5</parameter>\n</function>\n"
        "</tool_call>",
        R"({f {"a":"some text","n":5}})"},
    Row{"a template without them", "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "{f {}}"},
};

}  // namespace

TEST(ToolCalls, AreFoundHoweverTheTextIsCut) {
  for (const Row& row : kRows)
    for (const size_t bytes : {size_t{1}, size_t{3}, size_t{7}, row.answer.size()})
      EXPECT_EQ(shown(parsed(row.source, row.answer, bytes)), row.expected) << row.answer << " by " << bytes;
}

// A client adds up the fragments of a call and parses the sum; it must be JSON whenever the call is not cut off.
TEST(ToolCalls, ArgumentsOfWholeCallsAreJsonObjects) {
  for (const Row& row : kRows) {
    std::string arguments;
    for (const ToolPart& part : parsed(row.source, row.answer, 1)) {
      if (part.kind == ToolPart::Kind::kCall) arguments.clear();
      if (part.kind == ToolPart::Kind::kArguments) arguments += part.text;
      if (part.kind != ToolPart::Kind::kCallEnd) continue;
      const auto value = parse_json(arguments);
      EXPECT_TRUE(value && value->is_object()) << arguments;
    }
  }
}

// Marks that are control tokens (Mistral's) come as those tokens: at a call's beginning and nowhere else.
TEST(ToolCalls, MarksThatAreControlTokensBeginCalls) {
  TokenizerData data = byte_bpe_vocabulary();
  const auto control = [&](const std::string& text) {
    add_token(data, text, TokenKind::kControl);
    return static_cast<Token>(data.tokens.size() - 1);
  };
  const Token call = control("[TOOL_CALLS]");
  const Token args = control("[ARGS]");
  const Token user = control("[INST]");
  data.scores.clear();
  const auto tokenizer = std::move(*Tokenizer::create(std::move(data)));
  TokenMasks masks(*tokenizer);
  const auto tools = boost::json::parse(
      R"([{"function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}}])");
  for (const std::string_view source : {kNamed, kMistral}) {
    const ToolSyntax& syntax = tool_syntax(source);
    const bool named = syntax.body == CallBody::kNamed;
    std::vector<Token> answer{call};
    const auto write = [&](std::string_view text) {
      for (const char c : text) answer.push_back(tokenizer->find(byte_letter(static_cast<uint8_t>(c))));
    };
    write(named ? "f" : "[{\"name\": \"f\", \"arguments\": ");
    if (named) answer.push_back(args);
    write(named ? "{\"a\":\"x\"}" : "{\"a\":\"x\"}}]");
    for (const bool required : {true, false}) {
      const auto grammar =
          *tool_grammar(syntax, tools.as_array(), {.required = required, .tokenizer = tokenizer.get()});
      Constraint constraint(grammar, masks);
      for (const Token token : answer) {
        const auto allowed = constraint.allowed();
        for (const Token control_token : {call, args, user}) {
          const bool is_allowed = (allowed[static_cast<size_t>(control_token) / 64] >> (control_token % 64) & 1) != 0;
          const bool free = !required && control_token == call && &token == answer.data();
          EXPECT_EQ(is_allowed, control_token == token || free) << source << " " << token;
        }
        ASSERT_TRUE(constraint.accept(token)) << source << " " << token;
      }
      EXPECT_TRUE(constraint.complete()) << source;
    }
    ToolCallParser parser(syntax, {"f"});
    std::vector<ToolPart> parts = parser.push(tokenizer->decode(answer, true));
    std::ranges::move(parser.finish(), std::back_inserter(parts));
    EXPECT_EQ(shown(parts), R"({f {"a":"x"}})") << source;
  }
}

// LFM2's calls are held to the schema, and what is allowed is what is read.
TEST(ToolCalls, PythonCallsAreHeldToTheirSchema) {
  const auto tools = boost::json::parse(R"([{"function":{"name":"f","parameters":{"type":"object",
      "properties":{"a":{"type":"string","enum":["x","y"]},"b":{"type":"boolean"},"c":{"$ref":"#/$defs/C"},"d":{"type":"integer"}},
      "required":["b","d"],"$defs":{"C":{"type":"array","items":{"type":"integer"}}}}}},{"function":{"name":"g"}}])");
  const ToolSyntax& syntax = tool_syntax(kLfm);
  ASSERT_TRUE(has_tool_grammar(syntax));
  const auto grammar = tool_grammar(syntax, tools.as_array(), {.required = true});
  ASSERT_TRUE(grammar) << grammar.error().message;
  const auto whole = [](std::string_view calls) {
    return fmt::format("<|tool_call_start|>[{}]<|tool_call_end|>", calls);
  };
  for (const std::string_view good : {R"(f(a="x", b=True, c=[1, 2], d=5))", R"(f(b=False, d=-1))",
                                      R"(f(b=True, c=[], d=0))", "g()", R"(g(), f(b=True, d=7))"}) {
    EXPECT_TRUE((*grammar)->matches(whole(good))) << good;
    EXPECT_TRUE(shown(parsed(kLfm, whole(good), 3)).starts_with("{")) << good;
  }
  for (const std::string_view wrong : {R"(f(a="z", b=True, d=1))", R"(f(b=True))", R"(f(b="no", d=1))",
                                       R"(f(d=1, b=True))", "h()", R"(f(, b=True, d=1))", R"(g(x=1))", "f()"})
    EXPECT_FALSE((*grammar)->matches(whole(wrong))) << wrong;
  const auto free = tool_grammar(syntax, tools.as_array(), {});
  EXPECT_TRUE((*free)->matches("Let me see. " + whole("g()")));
  EXPECT_FALSE((*free)->matches(whole("g(1)")));
  const auto other = boost::json::parse(R"([{"function":{"name":"f","parameters":{"anyOf":[{"type":"object"}]}}}])");
  EXPECT_TRUE(tool_grammar(syntax, other.as_array(), {}).error().message.contains("anyOf"));
}

// Thoughts end with that token and hold no other; and whoever calls tools may think before.
TEST(ToolCalls, TagsOfThoughtsMayBeControlTokens) {
  TokenizerData data = byte_bpe_vocabulary();
  const auto control = [&](const std::string& text) {
    add_token(data, text, TokenKind::kControl);
    return static_cast<Token>(data.tokens.size() - 1);
  };
  const Token open = control("<|START_THINKING|>"), close = control("<|END_THINKING|>"), user = control("<|USER|>");
  data.scores.clear();
  const auto tokenizer = std::move(*Tokenizer::create(std::move(data)));
  TokenMasks masks(*tokenizer);
  const ReasoningTags& tags = *reasoning_tags("<|END_THINKING|>");
  const auto yes = Grammar::literal("yes").value();
  for (const bool opened : {true, false}) {
    Constraint constraint(after_reasoning(tags, opened, yes, tokenizer.get()).value(), masks);
    const auto allows = [&](Token token) {
      return (constraint.allowed()[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
    };
    EXPECT_EQ(allows(open), !opened);
    if (!opened) {
      ASSERT_TRUE(constraint.accept(open));
    }
    for (const char c : std::string_view("<|x")) {
      EXPECT_TRUE(allows(close));
      EXPECT_FALSE(allows(user));
      ASSERT_TRUE(constraint.accept(tokenizer->find(byte_letter(static_cast<uint8_t>(c)))));
    }
    EXPECT_FALSE(constraint.complete());
    ASSERT_TRUE(constraint.accept(close));
    EXPECT_FALSE(allows(close));
    for (const char c : std::string_view("yes"))
      ASSERT_TRUE(constraint.accept(tokenizer->find(byte_letter(static_cast<uint8_t>(c)))));
    EXPECT_TRUE(constraint.complete());
  }
}

TEST(ToolCalls, DeepLiteralsAreRefused) {
  const std::string deep = "a=" + std::string(100'000, '[');
  size_t at = 0;
  EXPECT_EQ(read_literal_arguments(deep, at, '=', ')').error().code, Code::kLimit);
}

TEST(Reasoning, IsSplitHoweverTheTextIsCut) {
  struct Case {
    bool open;
    std::string_view answer, thoughts, rest;
  };
  constexpr std::array kCases{
      Case{false, "<think>\nI see.\n</think>\n\nYes.", "I see.", "Yes."},
      Case{true, "\nI see </thi nk\n</think>Yes.", "I see </thi nk", "Yes."},
      Case{true, "cut off in a thought </th", "cut off in a thought </th", ""},
      Case{false, " No thoughts, <think> is a word.", "", " No thoughts, <think> is a word."},
      Case{false, "<thi", "", "<thi"},
      Case{false, "<think></think>a", "", "a"},
  };
  for (const Case& c : kCases)
    for (const size_t bytes : {size_t{1}, size_t{4}, c.answer.size()}) {
      ReasoningSplitter splitter(reasoning_tags("{{ '</think>' }}"), c.open);
      std::string thoughts, rest;
      auto take = [&](const std::vector<ReasoningPart>& parts) {
        for (const ReasoningPart& part : parts) (part.reasoning ? thoughts : rest) += part.text;
      };
      for (size_t at = 0; at < c.answer.size(); at += bytes) take(splitter.push(c.answer.substr(at, bytes)));
      take(splitter.finish());
      EXPECT_EQ(thoughts, c.thoughts) << c.answer << " by " << bytes;
      EXPECT_EQ(rest, c.rest) << c.answer << " by " << bytes;
    }
  EXPECT_TRUE(opens_reasoning(*reasoning_tags("</think>"), "<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(opens_reasoning(*reasoning_tags("</think>"), "assistant\n<think>\n\n</think>\n\n"));
  EXPECT_EQ(reasoning_tags("a plain template"), nullptr);
}

}  // namespace hearth
