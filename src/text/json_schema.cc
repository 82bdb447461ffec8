#include "text/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/limits.h"
#include "text/grammar_builder.h"

namespace hearth {
namespace {

namespace json = boost::json;

// Keywords that say nothing about whether a value is accepted.
constexpr std::array<std::string_view, 26> kAnnotations{"title",
                                                        "description",
                                                        "default",
                                                        "examples",
                                                        "example",
                                                        "deprecated",
                                                        "readOnly",
                                                        "writeOnly",
                                                        "$schema",
                                                        "$id",
                                                        "id",
                                                        "$comment",
                                                        "$defs",
                                                        "definitions",
                                                        "strict",
                                                        "discriminator",
                                                        "externalDocs",
                                                        "contentMediaType",
                                                        "contentEncoding",
                                                        "enumNames",
                                                        "xml",
                                                        "propertyOrdering",
                                                        "errorMessage",
                                                        "markdownDescription",
                                                        "$anchor",
                                                        "name"};
constexpr std::array<std::string_view, 40> kAssertions{"type",
                                                       "enum",
                                                       "const",
                                                       "properties",
                                                       "required",
                                                       "additionalProperties",
                                                       "items",
                                                       "prefixItems",
                                                       "minItems",
                                                       "maxItems",
                                                       "anyOf",
                                                       "oneOf",
                                                       "allOf",
                                                       "$ref",
                                                       "minLength",
                                                       "maxLength",
                                                       "pattern",
                                                       "format",
                                                       "minimum",
                                                       "maximum",
                                                       "exclusiveMinimum",
                                                       "exclusiveMaximum",
                                                       "multipleOf",
                                                       "nullable",
                                                       "uniqueItems",
                                                       "minProperties",
                                                       "maxProperties",
                                                       "propertyNames",
                                                       "patternProperties",
                                                       "additionalItems",
                                                       "unevaluatedProperties",
                                                       "dependentRequired",
                                                       "dependentSchemas",
                                                       "dependencies",
                                                       "not",
                                                       "if",
                                                       "then",
                                                       "else",
                                                       "contains",
                                                       "minContains"};

bool is_annotation(std::string_view keyword) {
  return keyword.starts_with("x-") ||
         std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end();
}

constexpr std::array<std::pair<std::string_view, JsonTypes>, 7> kTypes{{{"null", kJsonNull},
                                                                        {"boolean", kJsonBoolean},
                                                                        {"integer", kJsonInteger},
                                                                        {"number", kJsonNumber | kJsonInteger},
                                                                        {"string", kJsonString},
                                                                        {"array", kJsonArray},
                                                                        {"object", kJsonObject}}};

// Without `type`, a schema is about the type that its other keywords need; the others it would accept, too, are not written.
constexpr std::array<std::pair<std::string_view, JsonTypes>, 22> kTypeOfKeyword{
    {{"properties", kJsonObject},
     {"required", kJsonObject},
     {"additionalProperties", kJsonObject},
     {"minProperties", kJsonObject},
     {"maxProperties", kJsonObject},
     {"propertyNames", kJsonObject},
     {"patternProperties", kJsonObject},
     {"items", kJsonArray},
     {"prefixItems", kJsonArray},
     {"minItems", kJsonArray},
     {"maxItems", kJsonArray},
     {"uniqueItems", kJsonArray},
     {"contains", kJsonArray},
     {"minLength", kJsonString},
     {"maxLength", kJsonString},
     {"pattern", kJsonString},
     {"format", kJsonString},
     {"minimum", kJsonNumber | kJsonInteger},
     {"maximum", kJsonNumber | kJsonInteger},
     {"exclusiveMinimum", kJsonNumber | kJsonInteger},
     {"exclusiveMaximum", kJsonNumber | kJsonInteger},
     {"multipleOf", kJsonNumber | kJsonInteger}}};

bool has_type(const json::value& value, JsonTypes types) {
  if (value.is_null()) return (types & kJsonNull) != 0;
  if (value.is_bool()) return (types & kJsonBoolean) != 0;
  if (value.is_string()) return (types & kJsonString) != 0;
  if (value.is_array()) return (types & kJsonArray) != 0;
  if (value.is_object()) return (types & kJsonObject) != 0;
  const bool whole = !value.is_double() || value.get_double() == std::floor(value.get_double());
  return (types & kJsonNumber) != 0 || (whole && (types & kJsonInteger) != 0);
}

}  // namespace

Result<void> check_keywords(const SchemaAt& at) {
  for (const auto& [key, value] : at.schema->get_object()) {
    if (is_annotation(key)) continue;
    if (std::find(kAssertions.begin(), kAssertions.end(), std::string_view(key)) == kAssertions.end()) {
      return at.wrong(key, "is not supported");
    }
  }
  return {};
}

json::object without(const json::object& schema, std::initializer_list<std::string_view> keywords) {
  json::object rest;
  for (const auto& [key, value] : schema) {
    const bool drop = std::find(keywords.begin(), keywords.end(), std::string_view(key)) != keywords.end();
    if (!drop && !is_annotation(key)) rest.emplace(key, value);
  }
  return rest;
}

std::unexpected<Error> SchemaAt::wrong(std::string_view keyword, std::string_view what) const {
  return fail(Code::kInvalidArgument, "schema at \"{}\": {} {}", pointer, keyword, what);
}

const json::value* SchemaAt::find(std::string_view keyword) const {
  return schema->is_object() ? schema->get_object().if_contains(keyword) : nullptr;
}

Result<uint32_t> SchemaAt::count(std::string_view keyword, uint32_t otherwise) const {
  const json::value* value = find(keyword);
  if (value == nullptr) return otherwise;
  const double n = value->is_number() ? value->to_number<double>() : -1;
  if (n < 0 || n != std::floor(n)) return wrong(keyword, "is no whole number from 0");
  return n >= kNoBound ? kNoBound : static_cast<uint32_t>(n);
}

SchemaAt SchemaAt::member(std::string_view keyword, const json::value& of) const {
  constexpr size_t kPointerBytes = 512;  // shown in errors only
  return {&of, pointer.size() > kPointerBytes ? pointer : fmt::format("{}/{}", pointer, keyword)};
}

std::string json_text(const json::value& value) {
  return value.is_double() ? fmt::format("{}", value.get_double()) : json::serialize(value);
}

Result<JsonTypes> types_of(const SchemaAt& at) {
  const json::value* type = at.find("type");
  JsonTypes types = 0;
  if (type == nullptr) {
    for (const auto& [keyword, each] : kTypeOfKeyword) {
      if (at.find(keyword) != nullptr) types |= each;
    }
    return types == 0 ? kJsonAll : types;
  }
  const auto add = [&](const json::value& name) {
    for (const auto& [known, each] : kTypes) {
      if (!name.is_string() || name.get_string() != known) continue;
      types |= each;
      return true;
    }
    return false;
  };
  bool known = !type->is_array() || !type->get_array().empty();
  if (type->is_array()) {
    for (const json::value& name : type->get_array()) known = add(name) && known;
  } else {
    known = add(*type);
  }
  if (!known) return at.wrong("type", "is none of null, boolean, integer, number, string, array, object");
  const json::value* nullable = at.find("nullable");
  if (nullable != nullptr && nullable->is_bool() && nullable->get_bool()) types |= kJsonNull;
  return types;
}

json::array type_names(JsonTypes types) {
  if ((types & kJsonNumber) != 0) types &= static_cast<JsonTypes>(~kJsonInteger);
  json::array names;
  for (const auto& [name, bits] : kTypes) {
    const JsonTypes own = bits == (kJsonNumber | kJsonInteger) ? kJsonNumber : bits;
    if ((types & own) != 0) names.emplace_back(name);
  }
  return names;
}

SchemaAt SchemaCompiler::keep(const SchemaAt& at, json::value made) {
  made_.push_back(std::move(made));
  return {&made_.back(), at.pointer};
}

Result<SchemaCompiler::Rule> SchemaCompiler::rule_of(const SchemaAt& at) {
  const auto [found, is_new] = rules_.try_emplace(at.schema, 0);
  if (!is_new) return found->second;
  if (rules_.size() > limits::kSchemaNodes || builder_.too_large()) {
    return fail(Code::kLimit, "the schema is too large: {} schemas, the limit is {}, or too many states", rules_.size(),
                limits::kSchemaNodes);
  }
  found->second = builder_.declare();
  pending_.push_back({at, found->second});
  return found->second;
}

Result<SchemaCompiler::Part> SchemaCompiler::call(const SchemaAt& at) {
  const Rule rule = TRY(rule_of(at));
  return builder_.call(rule);
}

Result<Grammar::Shared> SchemaCompiler::finish(Rule root) {
  while (!pending_.empty()) {
    const Pending next = std::move(pending_.front());
    pending_.pop_front();
    const Part part = TRY(part_of(next.at));
    builder_.define(next.rule, part);
  }
  return builder_.finish(root);
}

Result<Grammar::Shared> SchemaCompiler::compile(const SchemaAt& start) {
  const Rule root = TRY(rule_of(start));
  return finish(root);
}

Result<Grammar::Shared> SchemaCompiler::compile_object() {
  (void)any_value();
  return finish(*any_object_);
}

Result<SchemaAt> SchemaCompiler::resolve(const SchemaAt& at) {
  const json::value& reference = *at.find("$ref");
  if (!reference.is_string() || !reference.get_string().starts_with("#")) {
    return at.wrong("$ref", "refers to something else than this schema (\"#/...\")");
  }
  std::string pointer;
  const std::string_view text = reference.get_string();
  for (size_t i = 1; i < text.size(); ++i) {
    size_t hex_at = i + 1;
    const auto byte = text[i] == '%' ? read_hex(text, hex_at, 2) : std::nullopt;
    pointer += byte ? static_cast<char>(*byte) : text[i];
    if (byte) i += 2;
  }
  boost::system::error_code error;
  const json::value* found = pointer.empty() ? &root_ : root_.find_pointer(pointer, error);
  if (found == nullptr) return at.wrong("$ref", "refers to nothing in this schema");
  return SchemaAt{found, pointer};
}

Result<SchemaAt> SchemaCompiler::merged(const SchemaAt& at, const json::object& a, const json::object& b) {
  json::value made = TRY(merged_schema(at, a, b));
  if (made.is_bool()) return keep(at, std::move(made));
  n_made_ += 1 + made.get_object().size();
  if (const json::value* properties = made.get_object().if_contains("properties")) {
    n_made_ += properties->is_object() ? properties->get_object().size() : 0;
  }
  if (n_made_ > limits::kSchemaNodes) {
    return fail(Code::kLimit, "the schema is too large: more than {} members are merged", limits::kSchemaNodes);
  }
  return keep(at, std::move(made));
}

Result<SchemaAt> SchemaCompiler::flattened(const SchemaAt& begin) {
  const auto is_plain = [](const SchemaAt& at) {
    return at.find("$ref") == nullptr && at.find("allOf") == nullptr && !has_logic(at);
  };
  if (is_plain(begin)) return begin;
  constexpr int kSteps = 256;
  SchemaAt whole = keep(begin, json::object());
  std::vector<SchemaAt> rest{begin};
  for (int step = 0; !rest.empty(); ++step) {
    const SchemaAt at = rest.back();
    rest.pop_back();
    if (step == kSteps) return begin.wrong("$ref", "and allOf go on without end");
    if (at.schema->is_bool() && at.schema->get_bool()) continue;
    if (at.schema->is_bool()) return at;
    if (!at.schema->is_object()) return at.wrong("the schema", "is no schema");
    TRY(check_keywords(at));
    const json::object& schema = at.schema->get_object();
    const json::value* all = at.find("allOf");
    if (at.find("$ref") != nullptr) {
      rest.push_back(keep(at, without(schema, {"$ref"})));
      rest.push_back(TRY(resolve(at)));
    } else if (all != nullptr) {
      if (!all->is_array() || all->get_array().empty()) return at.wrong("allOf", "is no list of schemas");
      rest.push_back(keep(at, without(schema, {"allOf"})));
      for (size_t i = all->get_array().size(); i-- > 0;) {
        rest.push_back(at.member(fmt::format("allOf/{}", i), all->get_array()[i]));
      }
    } else if (has_logic(at)) {
      TRY(push_without_logic(at, rest));
    } else {
      whole = TRY(merged(at, whole.schema->get_object(), without(schema, {})));
      if (whole.schema->is_bool()) return whole;
    }
  }
  return whole;
}

Result<SchemaCompiler::Part> SchemaCompiler::part_of(const SchemaAt& given) {
  if (given.schema->is_bool()) {
    return given.schema->get_bool() ? builder_.call(any_value()) : builder_.one_of({});
  }
  if (!given.schema->is_object()) return given.wrong("the schema", "is neither an object nor true or false");
  TRY(check_keywords(given));
  if (given.find("$ref") != nullptr && without(given.schema->get_object(), {"$ref"}).empty()) {
    const SchemaAt target = TRY(resolve(given));
    return call(target);
  }
  const SchemaAt at = TRY(flattened(given));
  if (at.schema->is_bool()) return part_of(at);
  if (at.find("enum") != nullptr || at.find("const") != nullptr) return builder_.choices(TRY(value_texts(at)));
  if (at.find("anyOf") != nullptr) return either_part(at, "anyOf");
  if (at.find("oneOf") != nullptr) return either_part(at, "oneOf");
  return typed_part(at);
}

Result<SchemaCompiler::Part> SchemaCompiler::typed_part(const SchemaAt& at) {
  const JsonTypes types = TRY(types_of(at));
  if (types == kJsonAll && without(at.schema->get_object(), {"type"}).empty()) return builder_.call(any_value());
  std::vector<Part> parts;
  if ((types & kJsonObject) != 0) parts.push_back(TRY(object_part(at)));
  if ((types & kJsonArray) != 0) parts.push_back(TRY(array_part(at)));
  if ((types & kJsonString) != 0) parts.push_back(TRY(string_part(at)));
  parts.push_back(TRY(scalar_part(at, types)));
  return builder_.either(parts);
}

// Numbers, true, false and null.
Result<SchemaCompiler::Part> SchemaCompiler::scalar_part(const SchemaAt& at, JsonTypes types) {
  const json::array excluded = excluded_values(at);
  std::vector<std::string> numbers;
  std::vector<std::string> words;
  if ((types & kJsonBoolean) != 0) words = {"true", "false"};
  if ((types & kJsonNull) != 0) words.emplace_back("null");
  for (const json::value& value : excluded) {
    if (value.is_structured() && has_type(value, types))
      return at.wrong("not", "of lists and objects is not supported");
    if (value.is_number()) numbers.push_back(json_text(value));
    std::erase(words, json_text(value));
  }
  std::vector<Part> parts{builder_.choices(words)};
  if ((types & (kJsonNumber | kJsonInteger)) == 0) return parts[0];
  const bool integer = (types & kJsonNumber) == 0;
  if (numbers.empty()) {
    parts.push_back(TRY(number_part(builder_, at, integer)));
  } else {
    if (!integer) return at.wrong("not", "of numbers is supported for integers only");
    GrammarBuilder builder;
    const Part part = TRY(number_part(builder, at, true));
    const std::array demands{GrammarBuilder::Demand{TRY(builder.finish(part))},
                             GrammarBuilder::Demand{TRY(Grammar::from_choices(numbers)), false}};
    parts.push_back(TRY(builder_.all_of(demands, *work_)));
  }
  return builder_.either(parts);
}

// anyOf, and oneOf where no value can be accepted by two: elsewhere a text could not be told to be valid before its end.
Result<SchemaCompiler::Part> SchemaCompiler::either_part(const SchemaAt& at, std::string_view keyword) {
  const json::value& list = *at.find(keyword);
  if (!list.is_array() || list.get_array().empty()) return at.wrong(keyword, "is no list of schemas");
  json::object rest = without(at.schema->get_object(), {keyword});
  const json::value* nullable = rest.if_contains("nullable");
  const bool or_null = nullable != nullptr && nullable->is_bool() && nullable->get_bool();
  rest.erase("nullable");
  std::vector<Part> parts;
  std::vector<SchemaAt> flat;
  for (size_t i = 0; i < list.get_array().size(); ++i) {
    SchemaAt branch = at.member(fmt::format("{}/{}", keyword, i), list.get_array()[i]);
    if (!rest.empty() || keyword == "oneOf") flat.push_back(TRY(flattened(branch)));
    if (!rest.empty() && flat.back().schema->is_object()) {
      branch = TRY(merged(branch, rest, flat.back().schema->get_object()));
    } else if (!rest.empty() && flat.back().schema->is_bool() && flat.back().schema->get_bool()) {
      branch = keep(branch, rest);
    }
    parts.push_back(TRY(call(branch)));
  }
  constexpr size_t kBranches = 200;
  for (size_t i = 0; keyword == "oneOf" && i < flat.size(); ++i) {
    if (flat.size() > kBranches) return at.wrong(keyword, "has more than 200 branches");
    for (size_t j = 0; j < i; ++j) {
      if (are_disjoint(*flat[i].schema, *flat[j].schema)) continue;
      return at.wrong(keyword, fmt::format("branches {} and {} may both accept a value; use anyOf, or a property that "
                                           "each requires with a const of its own",
                                           j, i));
    }
  }
  if (or_null) parts.push_back(builder_.literal("null"));
  return builder_.either(parts);
}

Result<std::vector<std::string>> SchemaCompiler::value_texts(const SchemaAt& at) {
  const json::value* list = at.find("enum");
  const json::value* only = at.find("const");
  if (list != nullptr && !list->is_array()) return at.wrong("enum", "is no list");
  const json::array values = list != nullptr ? list->get_array() : json::array{*only};
  if (values.empty()) return at.wrong("enum", "has no value");
  if (values.size() > limits::kSchemaEnum) {
    return fail(Code::kLimit, "schema at \"{}\": enum has {} values, the limit is {}", at.pointer, values.size(),
                limits::kSchemaEnum);
  }
  Grammar::Shared others;
  const json::object rest = without(at.schema->get_object(), {"enum", "const", "type", "nullable", "not"});
  if (!rest.empty()) {
    const json::value schema = without(at.schema->get_object(), {"enum", "const", "not"});
    SchemaCompiler compiler(root_, options_, this);
    others = TRY(compiler.compile({&schema, at.pointer}));
  }
  const JsonTypes types = at.find("type") == nullptr ? kJsonAll : TRY(types_of(at));
  const json::array excluded = excluded_values(at);
  std::vector<std::string> texts;
  for (const json::value& value : values) {
    if (!has_type(value, types) || (only != nullptr && value != *only)) continue;
    if (std::find(excluded.begin(), excluded.end(), value) != excluded.end()) continue;
    std::string text = json_text(value);
    if (!others || others->matches(text)) texts.push_back(std::move(text));
  }
  return texts;
}

SchemaCompiler::Part SchemaCompiler::after_comma(Part part) {
  Part all = builder_.literal(",");
  builder_.append(all, space_after());
  builder_.append(all, part);
  return all;
}

SchemaCompiler::Part SchemaCompiler::in_brackets(char open, Part inside, char close) {
  Part part = builder_.literal({&open, 1});
  builder_.append(part, space_inside());
  builder_.append(part, inside);
  builder_.append(part, space_inside());
  builder_.append(part, builder_.literal({&close, 1}));
  return part;
}

SchemaCompiler::Part SchemaCompiler::space_inside() {
  return options_.space == JsonSpace::kIndent ? space_after() : builder_.empty();
}

SchemaCompiler::Part SchemaCompiler::space_after() {
  if (options_.space == JsonSpace::kNone) return builder_.empty();
  if (options_.space == JsonSpace::kOne) return builder_.optional(builder_.literal(" "));
  if (!indent_) {
    constexpr uint32_t kIndent = 20;
    Part line = builder_.literal("\n");
    builder_.append(line, builder_.repeat(builder_.one_of({{' ', ' '}, {'\t', '\t'}}), 0, kIndent));
    indent_ = builder_.declare();
    builder_.define(*indent_, builder_.optional(builder_.either(std::array{builder_.literal(" "), line})));
  }
  return builder_.call(*indent_);
}

SchemaCompiler::Rule SchemaCompiler::any_value() {
  if (any_value_) return *any_value_;
  any_value_ = builder_.declare();
  any_object_ = builder_.declare();
  any_array_ = builder_.declare();
  const auto list = [&](auto one, char open, char close) {
    Part more = builder_.literal(",");
    builder_.append(more, space_after());
    builder_.append(more, one());
    Part all = one();
    builder_.append(all, builder_.repeat(more, 0, kNoBound));
    return in_brackets(open, builder_.optional(all), close);
  };
  const auto value = [&] { return builder_.call(*any_value_); };
  builder_.define(*any_object_, list([&] { return entry(builder_.call(any_string()), value()); }, '{', '}'));
  builder_.define(*any_array_, list(value, '[', ']'));
  static const json::value kNumber = json::object();
  const auto number = number_part(builder_, {&kNumber, {}}, false);
  builder_.define(*any_value_, builder_.either(std::array{builder_.call(*any_object_), builder_.call(*any_array_),
                                                          builder_.call(any_string()), *number,
                                                          builder_.choices({"true", "false", "null"})}));
  return *any_value_;
}

Result<Grammar::Shared> Grammar::from_json_schema(const json::value& schema, const JsonSchemaOptions& options) {
  return SchemaCompiler(schema, options).compile({&schema, {}});
}

Result<Grammar::Shared> Grammar::from_json_object(const JsonSchemaOptions& options) {
  static const json::value kNothing = nullptr;
  return SchemaCompiler(kNothing, options).compile_object();
}

}  // namespace hearth
