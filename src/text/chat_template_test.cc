#include "text/chat_template.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <boost/json/parse.hpp>
#include <functional>

#include "base/limits.h"

namespace hearth {
namespace {
Result<std::string> render(std::string_view source, std::string_view messages = "[]",
                           ChatTemplateOptions options = {}) {
  const Result<ChatTemplate> parsed = ChatTemplate::parse(source);
  if (!parsed) return std::unexpected(parsed.error());
  return parsed->render(boost::json::parse({messages.data(), messages.size()}).as_array(), options);
}

std::string rendered(std::string_view source, std::string_view messages = "[]",
                     const ChatTemplateOptions& options = {}) {
  const Result<std::string> result = render(source, messages, options);
  return result ? *result : "error: " + result.error().message;
}

// The smallest stack a thread may have here; frames are several times larger under the address sanitizer.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kSmallStackBytes = 1 << 20;
#else
constexpr size_t kSmallStackBytes = 256 << 10;
#endif

// Runs on a thread with a small stack.
void on_small_stack(const std::function<void()>& work) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kSmallStackBytes), 0);
  pthread_t thread;
  auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&work)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

std::string repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

Code code_of(std::string_view source) {
  const Result<std::string> result = render(source);
  return result ? Code::kInternal : result.error().code;
}
}  // namespace

TEST(ChatTemplate, RendersAConversation) {
  EXPECT_EQ(rendered("{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}"
                     "{% if add_generation_prompt %}<assistant>{% endif %}",
                     R"([{"role":"user","content":"Hi"}])"),
            "<user>Hi<assistant>");
}

TEST(ChatTemplate, GivesTheTemplatesOwnWordsWhenItRaises) {
  const auto result = render("{{ raise_exception('roles must alternate') }}");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kInvalidArgument);
  EXPECT_EQ(result.error().message, "roles must alternate");
}

TEST(ChatTemplate, NamesTheLineOfASyntaxError) {
  const auto result = ChatTemplate::parse("a\nb\n{% if x %}\n{{ 1 + }}");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kMalformed);
  EXPECT_NE(result.error().message.find("line 4"), std::string::npos) << result.error().message;
}

TEST(ChatTemplate, NamesTheLineAndTheNameOfAnUndefinedValue) {
  const auto result = render("a\n{{ messages[0].missing.part }}", R"([{"role":"user"}])");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("line 2"), std::string::npos) << result.error().message;
  EXPECT_NE(result.error().message.find("missing"), std::string::npos) << result.error().message;
}

TEST(ChatTemplate, GivesTheDateItWasTold) {
  ChatTemplateOptions options;
  options.date_string = "26 Jul 2024";
  EXPECT_EQ(rendered("{{ strftime_now('%d %b %Y') }}", "[]", options), "26 Jul 2024");
}

TEST(ChatTemplate, ToolsAreNoneWhenThereAreNone) {
  EXPECT_EQ(rendered("{{ tools is none }} {{ tools is defined }} {{ documents is none }}"), "True True True");
}

// J1: a template reaches nothing but its arguments.
TEST(ChatTemplateAttacks, J1AttributesOfTheHostAreUndefined) {
  EXPECT_EQ(rendered("{{ ''.__class__ }}"), "");
  for (const char* source :
       {"{{ ''.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}", "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ ''['__class__']['__mro__'] }}", "{{ (''|attr('__class__')).__mro__ }}",
        "{{ self._TemplateReference__context }}", "{{ range.__self__.open('x') }}",
        "{% set s = '' %}{{ s.format.__globals__.x }}", "{{ '{0.__class__.__mro__}'.format('') }}"})
    EXPECT_FALSE(render(source)) << source;
}

TEST(ChatTemplateAttacks, J1ListsAndDictsOfTheCallerCannotBeChanged) {
  EXPECT_FALSE(render("{{ messages.append(1) }}"));
  EXPECT_FALSE(render("{{ messages[0].update({'role': 'system'}) }}", R"([{"role":"user"}])"));
}

// J2: what a request adds cannot replace the messages.
TEST(ChatTemplateAttacks, J2ExtraVariablesDoNotReplaceTheConversation) {
  ChatTemplateOptions options;
  options.extra["messages"] = "forged";
  options.extra["add_generation_prompt"] = false;
  options.extra["tools"] = "forged";
  EXPECT_EQ(rendered("{{ messages|length }} {{ add_generation_prompt }} {{ tools }}", "[]", options), "0 True None");
}

TEST(ChatTemplateAttacks, J3MacroThatCallsItself) {
  on_small_stack([] {
    EXPECT_EQ(code_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), Code::kLimit);
    EXPECT_EQ(code_of("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}"),
              Code::kLimit);
    EXPECT_EQ(code_of("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"), Code::kLimit);
    EXPECT_EQ(code_of("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}"), Code::kLimit);
  });
}

TEST(ChatTemplateAttacks, J3NestedBracketsAndTags) {
  on_small_stack([] {
    for (const size_t depth : {size_t{150}, size_t{100'000}}) {
      for (const auto& [open, middle, close] :
           std::initializer_list<std::array<const char*, 3>>{{"[", "", "]"},
                                                             {"(", "1", ")"},
                                                             {"{1:", "1", "}"},
                                                             {"x[", "1", "]"},
                                                             {"x(", "1", ")"},
                                                             {"x|f(", "1", ")"},
                                                             {"x is in(", "x", ")"},
                                                             {"1 if (", "1", ") else 2"},
                                                             {"x is in [", "x", "]"}})
        EXPECT_EQ(code_of("{{ " + repeated(open, depth) + middle + repeated(close, depth) + " }}"), Code::kLimit)
            << open;
      for (const auto& [open, close] :
           std::initializer_list<std::array<const char*, 2>>{{"{% if x %}", "{% endif %}"},
                                                             {"{% for x in y %}", "{% endfor %}"},
                                                             {"{% set x %}", "{% endset %}"},
                                                             {"{% macro m() %}", "{% endmacro %}"},
                                                             {"{% with %}", "{% endwith %}"},
                                                             {"{% call m() %}", "{% endcall %}"},
                                                             {"{% filter trim %}", "{% endfilter %}"}})
        if (depth * 30 < limits::kTemplateBytes) {
          EXPECT_EQ(code_of(repeated(open, depth) + repeated(close, depth)), Code::kLimit) << open;
        }
    }
    EXPECT_EQ(code_of("{% for " + repeated("(", 100'000) + "a" + repeated(")", 100'000) + " in x %}{% endfor %}"),
              Code::kLimit);
  });
}

// What is allowed has to fit, whatever mixture of operators it is made of.
TEST(ChatTemplateAttacks, J3TheDeepestNestingAllowedFitsASmallStack) {
  on_small_stack([] {
    const size_t depth = limits::kTemplateDepth - 4;
    EXPECT_EQ(rendered("{{ " + repeated("(0 or 1 and not '1' == 1 ~ 1 * 1 ** -(", depth / 2) + "1" +
                       repeated("))", depth / 2) + " is none }}"),
              "False");
    EXPECT_EQ(rendered("{{ " + repeated("[", depth) + repeated("]", depth) + " }}").size(), depth * 2);
    EXPECT_EQ(
        rendered("{{ " + repeated("[", depth) + repeated("]", depth) + "|tojson(indent=1) }}").size() > depth * depth,
        true);
    EXPECT_EQ(rendered(repeated("{% if 1 %}", depth) + "x" + repeated("{% endif %}", depth)), "x");
  });
}

TEST(ChatTemplateAttacks, J3NestedValuesFromARequest) {
  on_small_stack([] {
    boost::json::value nested = 1;
    for (int i = 0; i < 1000; ++i) nested = boost::json::array{std::move(nested)};
    const auto parsed = ChatTemplate::parse("{{ messages|tojson }}");
    const auto result = parsed->render(boost::json::array{std::move(nested)}, {});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kLimit);
  });
}

TEST(ChatTemplateAttacks, J3ValuesThatNestInALoop) {
  on_small_stack([] {
    EXPECT_EQ(code_of("{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}"),
              Code::kLimit);
    EXPECT_EQ(
        code_of("{% set ns = namespace(x={}) %}{% for i in range(100000) %}{% set ns.x = {1: ns.x} %}{% endfor %}"),
        Code::kLimit);
    EXPECT_EQ(rendered("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self.self is defined }}"), "True");
  });
}

TEST(ChatTemplateAttacks, J3HugeRange) {
  EXPECT_EQ(code_of("{{ range(10**9)|length }}"), Code::kLimit);
  EXPECT_EQ(code_of("{{ range(-9223372036854775807, 9223372036854775807)|length }}"), Code::kLimit);
  EXPECT_EQ(rendered("{{ range(9223372036854775806, 9223372036854775807)|list }} {{ range(0, 10**9, 10**8)|length }}"),
            "[9223372036854775806] 10");
}

TEST(ChatTemplateAttacks, J3DoublingText) {
  const std::string rounds = "{% for i in range(100) %}";
  const std::string begin = "{% set ns = namespace(s='aaaaaaaa', l=[1]) %}" + rounds;
  EXPECT_EQ(code_of(begin + "{% set ns.s = ns.s + ns.s %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of(begin + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of(begin + "{% set ns.s = ns.s * 2 %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of(begin + "{% set ns.s = ns.s|replace('a', 'aa') %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of(begin + "{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of(begin + "{% set ns.l = ns.l + ns.l %}{% endfor %}"), Code::kLimit);
  EXPECT_EQ(
      code_of(
          "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}"),
      Code::kLimit);
  EXPECT_EQ(code_of("{{ 'a' * 10**12 }}"), Code::kLimit);
  EXPECT_EQ(code_of("{{ [1] * 10**12 }}"), Code::kLimit);
  EXPECT_EQ(code_of("{{ '%999999999d' % 1 }}"), Code::kLimit);
  EXPECT_EQ(code_of("{{ 'a'|center(10**12) }}"), Code::kLimit);
  EXPECT_EQ(code_of("{{ 'a'|indent(10**12) }}"), Code::kLimit);
}

TEST(ChatTemplateAttacks, J3NestedLoops) {
  EXPECT_EQ(code_of(repeated("{% for i in range(1000) %}", 60) + repeated("{% endfor %}", 60)), Code::kLimit);
  EXPECT_EQ(code_of(repeated("{% for i in range(1000) %}", 1000) + repeated("{% endfor %}", 1000)), Code::kLimit);
}

TEST(ChatTemplateAttacks, J3EndlessOutput) {
  EXPECT_EQ(code_of("{% for i in range(100000) %}" + std::string(1000, 'x') + "{% endfor %}"), Code::kLimit);
  EXPECT_EQ(code_of("{% set x %}{% for i in range(100000) %}" + std::string(1000, 'x') + "{% endfor %}{% endset %}"),
            Code::kLimit);
}

TEST(ChatTemplateAttacks, J3OversizedSource) {
  const auto result = ChatTemplate::parse(std::string(limits::kTemplateBytes + 1, 'x'));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kLimit);
}

TEST(ChatTemplateAttacks, IntegersNeverWrap) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}", "{{ 10**19 }}",
        "{{ 9223372036854775807 * 2 }}", "{{ (-9223372036854775807 - 1) // -1 }}", "{{ -(-9223372036854775807 - 1) }}",
        "{{ 99999999999999999999 }}", "{{ (-9223372036854775807 - 1)|abs }}"})
    EXPECT_EQ(code_of(source), Code::kLimit) << source;
  EXPECT_EQ(rendered("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
}

}  // namespace hearth
