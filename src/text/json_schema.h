// JSON schemas (2020-12, with what older drafts and OpenAPI wrote) as grammars. Inside this room only.
//
// Schemas refer to each other, so each becomes a rule and is compiled from a queue, not by recursion. What no table below
// knows is refused with its JSON pointer.
#pragma once

#include <array>
#include <boost/json.hpp>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "text/grammar_builder.h"

namespace hearth {

// A schema and where it stands, as a JSON pointer.
struct SchemaAt {
  const boost::json::value* schema;
  std::string pointer;
  [[nodiscard]] std::unexpected<Error> wrong(std::string_view keyword, std::string_view what) const;
  // The member, or null.
  [[nodiscard]] const boost::json::value* find(std::string_view keyword) const;
  // A member that is a count, or `otherwise` where there is none.
  [[nodiscard]] Result<uint32_t> count(std::string_view keyword, uint32_t otherwise) const;
  [[nodiscard]] SchemaAt member(std::string_view keyword, const boost::json::value& of) const;
};

// Of the types that JSON schema names, a set of bits.
using JsonTypes = uint8_t;
inline constexpr JsonTypes kJsonNull = 1, kJsonBoolean = 2, kJsonInteger = 4, kJsonNumber = 8, kJsonString = 16,
                           kJsonArray = 32, kJsonObject = 64, kJsonAll = 127;

// One value without white space.
std::string json_text(const boost::json::value& value);
// What the schema's `type` allows; without one, what its other keywords are about.
Result<JsonTypes> types_of(const SchemaAt& at);

// Their names; a set with numbers has integers, too.
boost::json::array type_names(JsonTypes types);
// All keywords are known ones.
Result<void> check_keywords(const SchemaAt& at);
// The schema without what stands in `keywords` and without annotations.
boost::json::object without(const boost::json::object& schema, std::initializer_list<std::string_view> keywords);

// Whether keywords are in the schema that json_schema_logic.cc says in other words. What is left of `not` afterwards is
// {"enum": [...]}, values that are not accepted.
bool has_logic(const SchemaAt& at);
boost::json::array excluded_values(const SchemaAt& at);
// A pattern that finds what both find, and one that finds what the other does not; nothing where none is known.
std::optional<std::string> joined_patterns(const std::string& a, const std::string& b);
std::optional<std::string> negated_pattern(const std::string& pattern);

// Numbers, by digits: number_part reads the bounds and multipleOf of a schema.
Result<GrammarBuilder::Part> number_part(GrammarBuilder& builder, const SchemaAt& at, bool integer);
// The pattern of a format that is enforced, or null.
const std::string* format_pattern(std::string_view format);

// Both schemas at once, as one. Refused where that takes more than the stricter of two keywords.
Result<boost::json::value> merged_schema(const SchemaAt& at, const boost::json::object& a,
                                         const boost::json::object& b);
// Surely no value satisfies both.
bool are_disjoint(const boost::json::value& a, const boost::json::value& b);

class SchemaCompiler {
 public:
  using Part = GrammarBuilder::Part;
  using Rule = GrammarBuilder::Rule;

  // `within`: of which this compiles a part.
  SchemaCompiler(const boost::json::value& root, const JsonSchemaOptions& options, SchemaCompiler* within = nullptr)
      : root_(root), options_(options), work_(within != nullptr ? within->work_ : &own_work_) {}
  SchemaCompiler(const SchemaCompiler&) = delete;
  SchemaCompiler& operator=(const SchemaCompiler&) = delete;
  // `start`: in or out of root, which references are resolved in.
  Result<Grammar::Shared> compile(const SchemaAt& start);
  Result<Grammar::Shared> compile_object();

 private:
  Result<Rule> rule_of(const SchemaAt& at);
  Result<Part> call(const SchemaAt& at);
  Result<Grammar::Shared> finish(Rule root);

  Result<Part> part_of(const SchemaAt& at);
  Result<Part> typed_part(const SchemaAt& at);
  Result<Part> either_part(const SchemaAt& at, std::string_view keyword);
  // The values of enum and const that the other keywords accept.
  Result<std::vector<std::string>> value_texts(const SchemaAt& at);
  Result<Part> scalar_part(const SchemaAt& at, JsonTypes types);
  // A local reference followed, once.
  Result<SchemaAt> resolve(const SchemaAt& at);
  // Without $ref and allOf at its top, which are merged.
  Result<SchemaAt> flattened(const SchemaAt& at);
  Result<SchemaAt> merged(const SchemaAt& at, const boost::json::object& a, const boost::json::object& b);
  SchemaAt keep(const SchemaAt& at, boost::json::value made);

  // json_schema_logic.cc
  Result<boost::json::array> negated(const SchemaAt& at);
  Result<boost::json::array> negated_keyword(const SchemaAt& at, std::string_view keyword,
                                             const boost::json::value& value);
  Result<boost::json::value> conditional(const SchemaAt& at);
  Result<void> push_without_logic(const SchemaAt& at, std::vector<SchemaAt>& rest);

  // json_schema_array.cc
  Result<Part> array_part(const SchemaAt& at);
  Result<Part> array_items(const SchemaAt& at);
  Result<Part> unique_items(const SchemaAt& at, uint32_t min, uint32_t max);
  Result<Part> items_with(const SchemaAt& at, uint32_t min, uint32_t max);
  struct ListWay {
    Rule element;
    size_t next;
  };
  // A list with commas by an automaton: ways(state) out of each state, and may_end(state). No way leads to state 0, the first.
  template <class Ways, class MayEnd>
  Result<Part> list_by_states(size_t n_states, Ways ways, MayEnd may_end);

  // json_schema_string.cc
  Result<Part> string_part(const SchemaAt& at);
  static Result<Grammar::Shared> text_language(const SchemaAt& at, std::string_view pattern, uint32_t min,
                                               uint32_t max);
  // Texts without escapes that are none of these.
  static Result<Grammar::Shared> other_texts(const std::vector<std::string>& texts, bool ascii);

  // json_schema_object.cc
  struct Names;
  struct Members;
  Result<Part> object_part(const SchemaAt& at);
  Result<Names> names_of(const SchemaAt& at);
  SchemaAt value_of(const SchemaAt& at, const Names& names, std::string_view name);
  Result<Members> members_of(const SchemaAt& at);
  Result<void> read_additional(const SchemaAt& at, Members& members, const Names& names);
  Result<Part> members_part(const SchemaAt& at, const Members& members);
  Result<Part> counted_members(const SchemaAt& at, const Members& members);
  Part entry(Part key, Part value);

  Rule any_value();
  Rule any_string();
  Part any_char();
  Part space_inside();
  Part space_after();
  Part after_comma(Part part);
  Part in_brackets(char open, Part inside, char close);

  const boost::json::value& root_;
  JsonSchemaOptions options_;
  uint64_t own_work_ = 0;
  uint64_t* work_;  // of GrammarBuilder::all_of
  GrammarBuilder builder_;
  struct Pending {
    SchemaAt at;
    Rule rule;
  };
  std::deque<Pending> pending_;
  std::map<const boost::json::value*, Rule> rules_;
  std::deque<boost::json::value> made_;
  uint64_t n_made_ = 0;
  int negations_ = 0;  // one in the other
  std::optional<Rule> any_value_, any_string_, any_object_, any_array_, any_char_, indent_;
};

template <class Ways, class MayEnd>
Result<SchemaCompiler::Part> SchemaCompiler::list_by_states(size_t n_states, Ways ways, MayEnd may_end) {
  const Part all{builder_.new_state(), builder_.new_state()};
  std::vector<uint32_t> states{all.in};
  while (states.size() < n_states) states.push_back(builder_.new_state());
  for (size_t i = 0; i < n_states; ++i) {
    std::vector<uint32_t> targets;
    for (const ListWay& way : ways(i)) {
      const Part part = i == 0 ? builder_.call(way.element) : after_comma(builder_.call(way.element));
      builder_.set_split(part.out, std::array{states[way.next]});
      targets.push_back(part.in);
    }
    if (may_end(i)) targets.push_back(all.out);
    builder_.set_split(states[i], targets);
  }
  return all;
}

}  // namespace hearth
