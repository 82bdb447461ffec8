// Two schemas as one, and schemas that have no value in common.
#include <algorithm>

#include "text/json_schema.h"

namespace hearth {
namespace {

namespace json = boost::json;

enum class Merging { kLarger, kSmaller, kUnion, kBoth, kEither, kProperties, kPairs, kPatterns, kValues, kEqual };

constexpr std::pair<std::string_view, Merging> kMerging[] = {{"minimum", Merging::kLarger},
                                                             {"exclusiveMinimum", Merging::kLarger},
                                                             {"minLength", Merging::kLarger},
                                                             {"minItems", Merging::kLarger},
                                                             {"minProperties", Merging::kLarger},
                                                             {"maximum", Merging::kSmaller},
                                                             {"exclusiveMaximum", Merging::kSmaller},
                                                             {"maxLength", Merging::kSmaller},
                                                             {"maxItems", Merging::kSmaller},
                                                             {"maxProperties", Merging::kSmaller},
                                                             {"required", Merging::kUnion},
                                                             {"allOf", Merging::kUnion},
                                                             {"items", Merging::kBoth},
                                                             {"additionalProperties", Merging::kBoth},
                                                             {"propertyNames", Merging::kBoth},
                                                             {"uniqueItems", Merging::kEither},
                                                             {"anyOf", Merging::kPairs},
                                                             {"pattern", Merging::kPatterns},
                                                             {"not", Merging::kValues},
                                                             {"properties", Merging::kProperties}};

json::value both(const json::value& a, const json::value& b) {
  if (a == b) return a;
  if (a.is_bool()) return a.get_bool() ? b : a;
  if (b.is_bool()) return b.get_bool() ? a : b;
  return json::object{{"allOf", json::array{a, b}}};
}

// What `schema` says of a property that it does not declare, or null.
const json::value* of_undeclared(const json::object& schema) { return schema.if_contains("additionalProperties"); }

// Properties of both; what only one declares must please the other's additionalProperties.
json::object merged_properties(const json::object& a, const json::object& b) {
  json::object out;
  const auto add_all = [&](const json::object& from, const json::object& other) {
    const json::value* properties = from.if_contains("properties");
    if (properties == nullptr || !properties->is_object()) return;
    const json::value* others = other.if_contains("properties");
    for (const auto& [name, schema] : properties->get_object()) {
      const json::value* same =
          others != nullptr && others->is_object() ? others->get_object().if_contains(name) : nullptr;
      if (same == nullptr) same = of_undeclared(other);
      if (!out.contains(name)) out.emplace(name, same == nullptr ? schema : both(schema, *same));
    }
  };
  add_all(a, b);
  add_all(b, a);
  return out;
}

Result<json::array> merged_types(const SchemaAt& at, const json::object& a, const json::object& b) {
  const json::value schema_a = {{"type", a.at("type")}};
  const json::value schema_b = {{"type", b.at("type")}};
  const JsonTypes types = TRY(types_of({&schema_a, at.pointer})) & TRY(types_of({&schema_b, at.pointer}));
  return type_names(types);
}

// enum and const of one schema as a list.
std::optional<json::array> values_of(const json::object& schema) {
  const json::value* only = schema.if_contains("const");
  const json::value* list = schema.if_contains("enum");
  if (only != nullptr) return json::array{*only};
  if (list != nullptr && list->is_array()) return list->get_array();
  return std::nullopt;
}

bool contains(const json::array& list, const json::value& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

Result<json::value> merged_keyword(const SchemaAt& at, std::string_view keyword, const json::value& a,
                                   const json::value& b) {
  const auto* const found =
      std::find_if(std::begin(kMerging), std::end(kMerging), [&](const auto& each) { return each.first == keyword; });
  const Merging how = found == std::end(kMerging) ? Merging::kEqual : found->second;
  if (a == b) return a;
  if ((how == Merging::kLarger || how == Merging::kSmaller) && a.is_number() && b.is_number()) {
    const bool a_is_larger = a.to_number<double>() >= b.to_number<double>();
    return a_is_larger == (how == Merging::kLarger) ? a : b;
  }
  if (how == Merging::kUnion && a.is_array() && b.is_array()) {
    json::array all = a.get_array();
    for (const json::value& each : b.get_array()) {
      if (keyword == "allOf" || !contains(all, each)) all.push_back(each);
    }
    return all;
  }
  constexpr size_t kPairs = 64;
  if (how == Merging::kPairs && a.is_array() && b.is_array() && a.get_array().size() * b.get_array().size() <= kPairs) {
    json::array pairs;
    for (const json::value& one : a.get_array()) {
      for (const json::value& other : b.get_array()) pairs.push_back(both(one, other));
    }
    return pairs;
  }
  if (how == Merging::kPatterns && a.is_string() && b.is_string()) {
    if (const auto pattern = joined_patterns(std::string(a.get_string()), std::string(b.get_string())))
      return json::value(*pattern);
  }
  if (how == Merging::kValues) {
    json::array all = a.at("enum").get_array();
    for (const json::value& value : b.at("enum").get_array()) all.push_back(value);
    return json::object{{"enum", std::move(all)}};
  }
  if (how == Merging::kEither && a.is_bool() && b.is_bool()) return a.get_bool() || b.get_bool();
  if (how == Merging::kBoth) return both(a, b);
  return at.wrong(keyword, "stands in two schemas that are combined, and differs");
}

JsonTypes types_of_any(const json::value& schema) {
  if (const auto values = schema.is_object() ? values_of(schema.get_object()) : std::nullopt) {
    JsonTypes types = 0;
    for (const json::value& value : *values) {
      types |= value.is_null()     ? kJsonNull
               : value.is_bool()   ? kJsonBoolean
               : value.is_string() ? kJsonString
               : value.is_array()  ? kJsonArray
               : value.is_object() ? kJsonObject
                                   : static_cast<JsonTypes>(kJsonNumber | kJsonInteger);
    }
    return types;
  }
  if (!schema.is_object() || !schema.get_object().contains("type")) return kJsonAll;
  return types_of({&schema, {}}).value_or(kJsonAll);
}

// The upper bound of one is below the lower bound of the other, both of one type.
bool are_apart(const json::object& a, const json::object& b) {
  if (!a.contains("type") || !b.contains("type") || a.at("type") != b.at("type") || !a.at("type").is_string())
    return false;
  const json::string& type = a.at("type").get_string();
  const auto apart = [&](std::string_view of_type, std::string_view upper, std::string_view lower, bool or_equal) {
    const json::value* high = a.if_contains(upper);
    const json::value* low = b.if_contains(lower);
    if (type != of_type || high == nullptr || low == nullptr || !high->is_number() || !low->is_number()) return false;
    const double difference = low->to_number<double>() - high->to_number<double>();
    return difference > 0 || (or_equal && difference == 0);
  };
  for (const std::string_view number : {"integer", "number"}) {
    if (apart(number, "maximum", "minimum", false) || apart(number, "exclusiveMaximum", "minimum", true) ||
        apart(number, "maximum", "exclusiveMinimum", true))
      return true;
  }
  return apart("string", "maxLength", "minLength", false) || apart("array", "maxItems", "minItems", false);
}

// By types, bounds and listed values alone.
bool are_plainly_disjoint(const json::value& a, const json::value& b) {
  if ((types_of_any(a) & types_of_any(b)) == 0) return true;
  if (!a.is_object() || !b.is_object()) return false;
  if (are_apart(a.get_object(), b.get_object()) || are_apart(b.get_object(), a.get_object())) return true;
  const auto values_a = values_of(a.get_object());
  const auto values_b = values_of(b.get_object());
  return values_a && values_b && std::none_of(values_a->begin(), values_a->end(), [&](const json::value& value) {
           return contains(*values_b, value);
         });
}

bool requires_it(const json::object& schema, std::string_view name) {
  const json::value* required = schema.if_contains("required");
  return required != nullptr && required->is_array() && contains(required->get_array(), json::string(name));
}

const json::value* property(const json::object& schema, std::string_view name) {
  const json::value* properties = schema.if_contains("properties");
  return properties != nullptr && properties->is_object() ? properties->get_object().if_contains(name) : nullptr;
}

// `a` requires a property that `b` cannot have, or only with other values.
bool requirement_divides(const json::object& a, const json::object& b) {
  const json::value* required = a.if_contains("required");
  if (required == nullptr || !required->is_array()) return false;
  const json::value* others = of_undeclared(b);
  for (const json::value& name : required->get_array()) {
    if (!name.is_string()) continue;
    const json::value* in_a = property(a, name.get_string());
    const json::value* in_b = property(b, name.get_string());
    const bool closed =
        others != nullptr && others->is_bool() && !others->get_bool() && !b.contains("patternProperties");
    if (in_b == nullptr && closed) return true;
    if (in_a != nullptr && in_b != nullptr && requires_it(b, name.get_string()) && are_plainly_disjoint(*in_a, *in_b)) {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<json::value> merged_schema(const SchemaAt& at, const json::object& a, const json::object& b) {
  json::object out = a;
  for (const auto& [key, value] : b) {
    const std::string_view keyword = key;
    if (!a.contains(keyword)) {
      out.emplace(keyword, value);
    } else if (keyword == "type") {
      json::array types = TRY(merged_types(at, a, b));
      if (types.empty()) return json::value(false);
      out[keyword] = std::move(types);
    } else if (keyword != "properties" && keyword != "enum" && keyword != "const") {
      out[keyword] = TRY(merged_keyword(at, keyword, a.at(keyword), value));
    }
  }
  if (a.contains("properties") || b.contains("properties")) out["properties"] = merged_properties(a, b);
  const auto values_a = values_of(a);
  const auto values_b = values_of(b);
  if (values_a && values_b) {
    json::array common;
    for (const json::value& value : *values_a) {
      if (contains(*values_b, value)) common.push_back(value);
    }
    if (common.empty()) return json::value(false);
    out.erase("const");
    out["enum"] = common;
  }
  return json::value(std::move(out));
}

bool are_disjoint(const json::value& a, const json::value& b) {
  if (are_plainly_disjoint(a, b)) return true;
  if (types_of_any(a) != kJsonObject || types_of_any(b) != kJsonObject) return false;
  return requirement_divides(a.get_object(), b.get_object()) || requirement_divides(b.get_object(), a.get_object());
}

}  // namespace hearth
