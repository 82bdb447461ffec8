// What grammars accept, and what is refused instead of misread.
#include "text/grammar.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

Grammar::Shared must(Result<Grammar::Shared> grammar) {
  if (!grammar) {
    ADD_FAILURE() << grammar.error().message;
    return *Grammar::literal("?");
  }
  return *grammar;
}

std::string times(size_t n, std::string_view text) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

struct Language {
  std::string source;
  std::vector<std::string> accepted, rejected;
};

void expect_language(const Grammar& grammar, const Language& language) {
  for (const std::string& text : language.accepted) {
    EXPECT_TRUE(grammar.matches(text)) << language.source << " should accept " << text;
    for (size_t n = 0; n <= text.size(); ++n) {
      EXPECT_TRUE(grammar.matches_prefix(text.substr(0, n))) << language.source << " begins like " << text.substr(0, n);
    }
  }
  for (const std::string& text : language.rejected) {
    EXPECT_FALSE(grammar.matches(text)) << language.source << " should reject " << text;
  }
}

TEST(Gbnf, AcceptsWhatItsRulesSay) {
  const std::vector<Language> languages = {
      {R"(root ::= "yes" | "no")", {"yes", "no"}, {"", "y", "yesno"}},
      {"root ::= \"a\" (\"b\" | \"c\" \"d\")* # comment\n", {"a", "ab", "acd", "abcdb"}, {"ac", "b"}},
      {"root ::=\n  item (\",\" item)*\nitem ::= [0-9]+\n\n", {"1", "12,3"}, {"", ",", "1,"}},
      {R"(root ::= [^"\\\n]{2,3})", {"ab", "a\xC3\xA4", "\xF0\x9F\x98\x80xy"}, {"a", "abcd", "a\"", "\x80\x80"}},
      {R"(root ::= [\u00e4-\u00fc\U0001F600] "\x41\n")",
       {"\xC3\xA4"
        "A\n",
        "\xF0\x9F\x98\x80"
        "A\n"},
       {"aA\n"}},
      {R"(root ::= "ab"{2} "c"{0,2} "d"{1,})", {"ababd", "ababccddd"}, {"abd", "abab", "ababcccd"}},
      {R"(root ::= [a-c-] [\]^]?)", {"a", "-", "b]", "c^"}, {"d", ""}},
      {"root ::= . \".\"?", {"x", "\n", "x."}, {"", "xy"}},
      {"root ::= (\"a\"*)* \"b\"", {"b", "aaab"}, {"a"}},
      {"root ::= (\"a\"?){3}", {"", "aaa"}, {"aaaa"}},
      {"root ::= \"\"* | ()", {""}, {"a"}},
      {"root ::= \"[\" (root (\",\" root)*)? \"]\"", {"[]", "[[],[[]]]"}, {"[", "[,]"}},
      {"root ::= a\na ::= \"x\" a | \"x\"", {"x", times(5000, "x")}, {"", "y"}},
      {"root ::= even\neven ::= \"\" | \"a\" odd\nodd ::= \"a\" even", {"", "aa"}, {"a"}},
  };
  for (const Language& language : languages) expect_language(*must(Grammar::from_gbnf(language.source)), language);
}

TEST(Gbnf, SaysWhereItIsWrong) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "no rule is named \"root\""},
      {"root ::= x", "no rule is named \"x\""},
      {"root := \"a\"", "expected ::="},
      {"root ::= \"a", "not closed"},
      {"root ::= [a", "not closed"},
      {"root ::= (\"a\"", "not closed"},
      {"root ::= \"a\")", "line 1 column 13"},
      {"root ::= *", "nothing to repeat"},
      {"root ::= \"a\"**", "nothing to repeat"},
      {"root ::= \"a\"{2,1}", "m <= n"},
      {"root ::= \"a\"{x}", "expected {m}"},
      {"root ::= [z-a]", "backwards"},
      {"root ::= \"\\q\"", "escape"},
      {"root ::= \"\\ud800\"", "escape"},
      {"root ::= \"a\"\nroot ::= \"b\"", "line 2 column 10: the rule \"root\" is defined twice"},
      {"root ::= \"a\" ;", "unexpected ';'"},
      {"root ::= <think>", "tokens"},
      {"root ::= \"\xFF\"", "not UTF-8"},
      {"root ::= \"a\" root", "never ends"},
      {"root ::= []", "no text"},
  };
  for (const auto& [source, message] : wrong) {
    const auto grammar = Grammar::from_gbnf(source);
    ASSERT_FALSE(grammar.has_value()) << source;
    EXPECT_NE(grammar.error().message.find(message), std::string::npos) << source << ": " << grammar.error().message;
  }
}

// llama.cpp #26600 and #26602: one request with such a grammar ended the server.
TEST(Gbnf, S1_HostileGrammarsAreRefused_LC26600_LC26602) {
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 5000; ++i) chain += fmt::format("r{} ::= r{} \"x\"\n", i, i + 1);
  chain += "r5000 ::= \"a\"\n";
  std::string deep = "root ::= r0\n";  // fewer rules, still deeper than a stack may be
  for (int i = 0; i < 2000; ++i) deep += fmt::format("r{} ::= \"x\" r{} \"x\"\n", i, i + 1);
  deep += "r2000 ::= \"a\"\n";
  const std::vector<std::string> hostile = {
      "root ::= " + times(60'000, "(") + "\"a\"" + times(60'000, ")"),
      "root ::= " + times(60'000, "("),
      chain,
      deep,
      "root ::= root \"a\" | \"a\"",
      "root ::= a\na ::= b\nb ::= \"\" a \"x\" | \"y\"",
      "root ::= e root \"a\" | \"b\"\ne ::= \"x\"?",
      "root ::= (root | \"a\"){2,3}",
      "root ::= \"a\"{0,1000000000}",
      "root ::= \"a\"{99999999999999999999}",
      "root ::= (\"a\"*){0,99999}",
      times(2 << 20, " "),
      "root ::= " + times(200'000, "[^a]"),
  };
  for (const std::string& source : hostile) {
    EXPECT_FALSE(Grammar::from_gbnf(source).has_value()) << source.substr(0, 100);
  }
  // Large numbers by themselves cost nothing.
  EXPECT_TRUE(must(Grammar::from_gbnf("root ::= ((\"a\"{1,9999}){1,9999} \"b\"){0,9999}"))->matches("aaabab"));
}

// A grammar so ambiguous that its stacks multiply is answered with fewer texts, but soon and never wrongly.
TEST(Gbnf, AmbiguityIsBounded) {
  const auto grammar = must(Grammar::from_gbnf(
      "root ::= s\ns ::= \"a\" s x s | \"a\" s y s | \"a\" | \"b\"\nx ::= \"c\"?\ny ::= \"c\"? \"d\"?"));
  EXPECT_TRUE(grammar->matches_prefix(times(40, "a")));
  EXPECT_FALSE(grammar->matches_prefix(times(40, "a") + "e"));
}

TEST(Regex, MatchesTheWholeText) {
  const std::vector<Language> languages = {
      {R"([a-z]+@\w+\.(com|org))", {"me@ab_1.org"}, {"me@a.net", "@a.com", "me@a.comx"}},
      {R"(^\d{4}-\d{2}$)", {"2026-11"}, {"2026-1", "2026-111"}},
      {R"((?:ab|c)*?x{2,}?|(?<year>y))", {"xx", "abcxxx", "y"}, {"x", "abc"}},
      {R"([^\s"]+)", {"a\xC3\xA4", "\\"}, {"a b", "\"", "\xC2\xA0", ""}},
      {R"([\w.-]+\x41\u00e4\/[\]\\-])", {"a.-A\xC3\xA4/]", "_A\xC3\xA4/-"}, {"A\xC3\xA4/]"}},
      {R"(\D\S\W)", {"a\xC3\xA4 "}, {"1a ", "a\xC3\xA4\xC3\xA4"}},
      {R"(a|)", {"a", ""}, {"b"}},
      {R"(.)", {"\xE2\x82\xAC"}, {"\n", "\xE2\x80\xA8", "\x80"}},
      {"(a?){0,5}]}", {"]}", "aa]}"}, {"aaaaaa]}"}},
  };
  for (const Language& language : languages) expect_language(*must(Grammar::from_regex(language.source)), language);
}

// llama.cpp #25308, #22606, #19008, #25283 and CVE-2025-48887: patterns that ended servers or ran for ever.
TEST(Regex, S2_WhatCannotBeKeptToIsRefused_LC25308_LC22606_LC19008_LC25283_CVE_2025_48887) {
  for (const std::string& pattern :
       {std::string("*a"),      std::string("a**"),     std::string("a++"),     std::string("(*a)"),
        std::string("|+"),      std::string("^*"),      std::string("(?=a)b"),  std::string("(?!a)b"),
        std::string("(?<=a)b"), std::string("(?<!a)b"), std::string("(?i)a"),   std::string("(a)\\1"),
        std::string("\\ba"),    std::string("\\p{L}"),  std::string("a{2,1}"),  std::string("a{1,999999999}"),
        std::string("a{,5}"),   std::string("{"),       std::string("[]"),      std::string("[^]"),
        std::string("[b-a]"),   std::string("[a-\\d]"), std::string("[a"),      std::string("(a"),
        std::string("a)"),      std::string("a\\"),     std::string("\\uD800"), std::string("a$b"),
        std::string("a^b"),     std::string("(a$)"),    std::string("\xFF"),    times(60'000, "(") + times(60'000, ")"),
        times(60'000, "["),     times(60'000, "(a")}) {
    EXPECT_FALSE(Grammar::from_regex(pattern).has_value()) << pattern.substr(0, 40);
  }
  EXPECT_FALSE(must(Grammar::from_regex("(a+)+b"))->matches(times(5000, "a"))) << "and soon";
}

TEST(Grammars, AreMadeFromGrammars) {
  const auto number = must(Grammar::from_regex("[0-9]{1,3}"));
  const auto comma = must(Grammar::literal(", "));
  const auto list = must(Grammar::repeat(number, 2, 3, comma));
  expect_language(*list, {"list", {"1, 2", "12, 3, 456"}, {"1", "1, 2, 3, 4", "1,2"}});
  expect_language(*must(Grammar::repeat(number, 0, 0, comma)), {"any", {"", "1", "1, 2, 3, 4"}, {"1, "}});
  const auto call =
      must(Grammar::sequence(std::vector{must(Grammar::literal("<call>")), list, must(Grammar::literal("</call>"))}));
  expect_language(*must(Grammar::any_of(std::vector{call, number})),
                  {"any_of", {"<call>1, 2</call>", "7"}, {"<call>7"}});
  const auto lazy = must(
      Grammar::after_trigger(std::vector<Grammar::Triggered>{{"<call>", list}, {"<c>", number}, {"all>>", comma}}));
  expect_language(*lazy, {"lazy",
                          {"", "free <text> \xFE", "so <call>1, 2", "<<c>9", "<ca<call>1, 2", "<call", "<callall>>, "},
                          {"so <call>", "<call>x", "<call>1, 2 ", "<c>1 and more"}});
  EXPECT_FALSE(Grammar::from_choices({}).has_value());
  EXPECT_FALSE(Grammar::after_trigger(std::vector<Grammar::Triggered>{{"", list}}).has_value());
  expect_language(*must(Grammar::from_choices(std::vector<std::string>{"yes", "yesterday", "no", "no"})),
                  {"choices", {"yes", "yesterday", "no"}, {"", "yester", "n"}});
}

}  // namespace
}  // namespace hearth
