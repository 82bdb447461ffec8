// not, if and what depends on a member, as schemas that say the same without them.
#include "text/json_schema.h"

namespace hearth {

namespace json = boost::json;

namespace {

constexpr std::string_view kDependent[] = {"dependentRequired", "dependentSchemas", "dependencies"};

// Excluded values are what all negation comes down to, and stay.
bool excludes_values(const json::value& negated) {
  return negated.is_object() && negated.get_object().size() == 1 && negated.get_object().contains("enum") &&
         negated.at("enum").is_array();
}

json::value any_of(json::array alternatives) {
  if (alternatives.empty()) return false;
  if (alternatives.size() == 1) return alternatives[0];
  return json::object{{"anyOf", std::move(alternatives)}};
}

// Bounds that end where others begin.
struct Opposite {
  std::string_view keyword, type, opposite;
  int step;  // of counts
};
constexpr Opposite kOpposites[] = {
    {"minimum", "number", "exclusiveMaximum", 0}, {"maximum", "number", "exclusiveMinimum", 0},
    {"exclusiveMinimum", "number", "maximum", 0}, {"exclusiveMaximum", "number", "minimum", 0},
    {"minLength", "string", "maxLength", -1},     {"maxLength", "string", "minLength", 1},
    {"minItems", "array", "maxItems", -1},        {"maxItems", "array", "minItems", 1}};

Result<json::array> negated_bound(const SchemaAt& at, const Opposite& bound, const json::value& value) {
  if (bound.step == 0) {
    if (!value.is_number()) return at.wrong(bound.keyword, "is no number");
    return json::array{json::object{{"type", bound.type}, {bound.opposite, value}}};
  }
  const int64_t n = int64_t{TRY(at.count(bound.keyword, 0))} + bound.step;
  if (n < 0) return json::array{};
  return json::array{json::object{{"type", bound.type}, {bound.opposite, n}}};
}

Result<json::array> negated_types(const SchemaAt& at) {
  JsonTypes others = kJsonAll & ~TRY(types_of(at));
  if ((others & kJsonInteger) == 0) others &= static_cast<JsonTypes>(~kJsonNumber);  // no schema is of fractions only
  if (others == 0) return json::array{};
  return json::array{json::object{{"type", type_names(others)}}};
}

json::object without_member(std::string_view name) {
  return {{"type", "object"}, {"properties", json::object{{name, false}}}};
}

}  // namespace

bool has_logic(const SchemaAt& at) {
  const json::value* negated = at.find("not");
  if (negated != nullptr && !excludes_values(*negated)) return true;
  for (const std::string_view keyword : {"if", "then", "else"}) {
    if (at.find(keyword) != nullptr) return true;
  }
  for (const std::string_view keyword : kDependent) {
    if (at.find(keyword) != nullptr) return true;
  }
  return false;
}

json::array excluded_values(const SchemaAt& at) {
  const json::value* negated = at.find("not");
  return negated != nullptr ? negated->at("enum").get_array() : json::array();
}

// What a schema of one keyword refuses, as schemas of which each is refused by it: all there is but for what is left out here and
// there because no schema says it.
Result<json::array> SchemaCompiler::negated_keyword(const SchemaAt& at, std::string_view keyword,
                                                    const json::value& value) {
  json::array out;
  for (const Opposite& bound : kOpposites) {
    if (bound.keyword == keyword) return negated_bound(at, bound, value);
  }
  if (keyword == "type") return negated_types(at);
  if (keyword == "enum" && value.is_array()) return json::array{json::object{{"not", json::object{{"enum", value}}}}};
  if (keyword == "const") return json::array{json::object{{"not", json::object{{"enum", json::array{value}}}}}};
  if (keyword == "not") return json::array{value};
  if (keyword == "required" && value.is_array()) {
    for (const json::value& name : value.get_array()) {
      if (!name.is_string()) return at.wrong(keyword, "holds something that is no name");
      out.emplace_back(without_member(name.get_string()));
    }
    return out;
  }
  if (keyword == "properties" && value.is_object()) {
    for (const auto& [name, schema] : value.get_object()) {
      for (const json::value& each : TRY(negated(at.member(name, schema)))) {
        out.emplace_back(json::object{
            {"type", "object"}, {"required", json::array{name}}, {"properties", json::object{{name, each}}}});
      }
    }
    return out;
  }
  if (keyword == "pattern" && value.is_string()) {
    if (const auto pattern = negated_pattern(std::string(value.get_string()))) {
      return json::array{json::object{{"type", "string"}, {"pattern", *pattern}}};
    }
  }
  if (keyword == "anyOf" && value.is_array()) {
    for (const json::value& each : value.get_array()) {
      out.push_back(any_of(TRY(negated(at.member(keyword, each)))));
    }
    return json::array{json::object{{"allOf", out}}};
  }
  return at.wrong(keyword, "inside not or if is not supported");
}

Result<json::array> SchemaCompiler::negated(const SchemaAt& given) {
  constexpr int kDepth = 16;
  if (++negations_ > kDepth) return given.wrong("not", "and if nest deeper than 16");
  const SchemaAt at = TRY(flattened(given));
  json::array out;
  if (at.schema->is_bool()) {
    if (!at.schema->get_bool()) out.emplace_back(true);
  } else if (!at.schema->is_object()) {
    return at.wrong("the schema", "is neither an object nor true or false");
  } else {
    TRY(check_keywords(at));
    for (const auto& [keyword, value] : without(at.schema->get_object(), {})) {
      for (const json::value& each : TRY(negated_keyword(at, keyword, value))) out.push_back(each);
    }
  }
  --negations_;
  return out;
}

// if p then q else r: p and q, or not p and r.
Result<json::value> SchemaCompiler::conditional(const SchemaAt& at) {
  const auto branch = [&](std::string_view keyword) {
    const json::value* value = at.find(keyword);
    return value != nullptr ? *value : json::value(true);
  };
  const json::value* condition = at.find("if");
  const json::value otherwise = branch("else");
  if (condition == nullptr || (at.find("then") == nullptr && at.find("else") == nullptr)) return json::value(true);
  json::array out{json::object{{"allOf", json::array{*condition, branch("then")}}}};
  for (const json::value& each : TRY(negated(at.member("if", *condition)))) {
    out.emplace_back(json::object{{"allOf", json::array{each, otherwise}}});
  }
  return any_of(std::move(out));
}

// Takes one of these keywords out of a schema: what is pushed is the schema without it, on top, and what it says in other words.
Result<void> SchemaCompiler::push_without_logic(const SchemaAt& at, std::vector<SchemaAt>& rest) {
  const json::object& schema = at.schema->get_object();
  if (const json::value* value = at.find("not"); value != nullptr && !excludes_values(*value)) {
    json::array alternatives = TRY(negated(at.member("not", *value)));
    rest.push_back(keep(at, any_of(std::move(alternatives))));
    rest.push_back(keep(at, without(schema, {"not"})));
    return {};
  }
  for (const std::string_view keyword : kDependent) {
    const json::value* value = at.find(keyword);
    if (value == nullptr) continue;
    if (!value->is_object()) return at.wrong(keyword, "is no object");
    for (const auto& [name, needs] : value->get_object()) {
      json::value there = needs;
      if (needs.is_array()) there = json::object{{"required", needs}};
      const json::value having = json::object{{"required", json::array{name}}};
      json::object absent{{"properties", json::object{{name, false}}}};
      rest.push_back(keep(at, any_of({std::move(absent), json::object{{"allOf", json::array{having, there}}}})));
    }
    rest.push_back(keep(at, without(schema, {keyword})));
    return {};
  }
  rest.push_back(keep(at, TRY(conditional(at))));
  rest.push_back(keep(at, without(schema, {"if", "then", "else"})));
  return {};
}

}  // namespace hearth
