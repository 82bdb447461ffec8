// Objects: declared properties in their order, then others where the schema asks for them.
#include <algorithm>

#include "text/json_schema.h"

namespace hearth {

namespace json = boost::json;

namespace {

std::string pointer_step(std::string_view name) {
  std::string out;
  for (const char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

}  // namespace

// What patternProperties and propertyNames say of names.
struct SchemaCompiler::Names {
  struct Pattern {
    Grammar::Shared language;
    const json::value* schema;  // of the values
  };
  std::vector<Pattern> patterns;
  Grammar::Shared all;  // that propertyNames allows, or null
  std::vector<std::string> declared;
};

struct SchemaCompiler::Members {
  struct Property {
    Rule entry;  // key, colon and value
    bool required;
  };
  std::vector<Property> properties;
  std::optional<Rule> other;  // an entry that is not declared
  uint32_t n_min = 0;         // entries in all
  uint32_t n_max = kNoBound;
};

Result<SchemaCompiler::Part> SchemaCompiler::object_part(const SchemaAt& at) {
  const Members members = TRY(members_of(at));
  const Part inside = TRY(members_part(at, members));
  return in_brackets('{', inside, '}');
}

SchemaCompiler::Part SchemaCompiler::entry(Part key, Part value) {
  builder_.append(key, builder_.literal(":"));
  builder_.append(key, space_after());
  builder_.append(key, value);
  return key;
}

Result<SchemaCompiler::Names> SchemaCompiler::names_of(const SchemaAt& at) {
  Names names;
  const json::value* patterns = at.find("patternProperties");
  if (patterns != nullptr && !patterns->is_object()) return at.wrong("patternProperties", "is no object");
  constexpr size_t kPatterns = 4;  // each set of them is a kind of names
  if (patterns != nullptr && patterns->get_object().size() > kPatterns) {
    return at.wrong("patternProperties", "has more than 4 patterns");
  }
  static const json::object kNoPatterns;
  for (const auto& [pattern, schema] : patterns != nullptr ? patterns->get_object() : kNoPatterns) {
    const SchemaAt here = at.member("patternProperties", schema);
    names.patterns.push_back({TRY(text_language(here, pattern, 0, kNoBound)), &schema});
  }
  const json::value* keys = at.find("propertyNames");
  if (keys != nullptr && !(keys->is_bool() && keys->get_bool())) {
    const json::value typed = json::object{{"allOf", json::array{*keys, json::object{{"type", "string"}}}}};
    SchemaCompiler compiler(root_, options_, this);
    names.all = TRY(compiler.compile({&typed, at.member("propertyNames", *keys).pointer}));
  }
  return names;
}

// The schema of a declared member with those of the patterns that its name matches; false if it may not be there.
SchemaAt SchemaCompiler::value_of(const SchemaAt& at, const Names& names, std::string_view name) {
  const std::string text = json::serialize(json::string(name));
  if (names.all && !names.all->matches(text)) return keep(at, false);
  json::array all{*at.schema};
  for (const Names::Pattern& pattern : names.patterns) {
    if (pattern.language->matches(text)) all.push_back(*pattern.schema);
  }
  return all.size() == 1 ? at : keep(at, json::object{{"allOf", std::move(all)}});
}

Result<SchemaCompiler::Members> SchemaCompiler::members_of(const SchemaAt& at) {
  const json::value* properties = at.find("properties");
  const json::value* required = at.find("required");
  if (properties != nullptr && !properties->is_object()) return at.wrong("properties", "is no object");
  if (required != nullptr && !required->is_array()) return at.wrong("required", "is no list");
  Members members;
  Names names = TRY(names_of(at));
  std::vector<std::string> missing;  // required, not yet seen
  for (const json::value& name : required != nullptr ? required->get_array() : json::array()) {
    if (!name.is_string()) return at.wrong("required", "holds something that is no name");
    missing.emplace_back(name.get_string());
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());

  const auto declare = [&](const std::string& name, bool is_required, Part value) {
    const Rule rule = builder_.declare();
    builder_.define(rule, entry(builder_.literal(json::serialize(json::string(name))), value));
    members.properties.push_back({rule, is_required});
    names.declared.push_back(name);
  };
  static const json::object kNoProperties;  // by reference: rules are known by where their schemas lie
  const SchemaAt here = properties != nullptr ? at.member("properties", *properties) : at;
  for (const auto& [name, schema] : properties != nullptr ? properties->get_object() : kNoProperties) {
    const Part value = TRY(call(value_of(here.member(pointer_step(name), schema), names, name)));
    const auto found = std::lower_bound(missing.begin(), missing.end(), std::string(name));
    const bool is_required = found != missing.end() && *found == std::string_view(name);
    if (is_required) missing.erase(found);
    declare(name, is_required, value);
  }
  const json::value* additional = at.find("additionalProperties");
  for (const std::string& name : missing) {
    const bool none = additional != nullptr && additional->is_bool() && !additional->get_bool();
    if (none || !names.patterns.empty()) {
      return at.wrong("required", fmt::format("names \"{}\", which no property declares", name));
    }
    static const json::value kAny = true;
    const SchemaAt value = at.member("additionalProperties", additional != nullptr ? *additional : kAny);
    declare(name, true, TRY(call(value_of(value, names, name))));
  }
  TRY(read_additional(at, members, names));
  members.n_min = TRY(at.count("minProperties", 0));
  members.n_max = TRY(at.count("maxProperties", kNoBound));
  if (members.n_min > members.n_max) return at.wrong("minProperties", "is above maxProperties");
  return members;
}

// What entries there may be beside the declared ones: those whose names match patterns, and others if additionalProperties asks
// for them or nothing is declared at all.
Result<void> SchemaCompiler::read_additional(const SchemaAt& at, Members& members, const Names& names) {
  const json::value* additional = at.find("additionalProperties");
  const json::value* unevaluated = at.find("unevaluatedProperties");
  if (unevaluated != nullptr && !unevaluated->is_bool()) {
    return at.wrong("unevaluatedProperties", "is supported only as true or false");
  }
  const bool closed = unevaluated != nullptr && !unevaluated->get_bool();
  const bool none = additional == nullptr ? !names.declared.empty() || !names.patterns.empty() || closed
                                          : additional->is_bool() && !additional->get_bool();
  const size_t n_patterns = names.patterns.size();
  const bool looks_away = n_patterns > (none ? 1u : 0u);  // names that do not match some pattern
  std::vector<Part> entries;
  for (size_t matched = none ? 1 : 0; matched < size_t{1} << n_patterns; ++matched) {
    std::vector<GrammarBuilder::Demand> demands;
    json::array schemas;
    for (size_t i = 0; i < n_patterns; ++i) {
      const bool inside = (matched >> i & 1) != 0;
      demands.push_back({names.patterns[i].language, inside});
      if (inside) schemas.push_back(*names.patterns[i].schema);
    }
    if (names.all) demands.push_back({names.all});
    if (looks_away || !names.declared.empty()) demands.push_back({TRY(other_texts(names.declared, looks_away))});
    const auto key = demands.empty() ? builder_.call(any_string()) : builder_.all_of(demands, *work_);
    if (!key) return at.wrong(n_patterns > 0 ? "patternProperties" : "propertyNames", key.error().message);
    Part value = builder_.call(any_value());
    if (matched != 0) {
      value = TRY(call(keep(at.member("patternProperties", *at.find("patternProperties")),
                            json::object{{"allOf", std::move(schemas)}})));
    } else if (additional != nullptr && !additional->is_bool()) {
      value = TRY(call(at.member("additionalProperties", *additional)));
    }
    entries.push_back(entry(*key, value));
  }
  if (entries.empty()) return {};
  members.other = builder_.declare();
  builder_.define(*members.other, builder_.either(entries));
  return {};
}

// Entries counted, for bounds that the declared ones may break. Others may repeat a name, so they count once for the minimum.
Result<SchemaCompiler::Part> SchemaCompiler::counted_members(const SchemaAt& at, const Members& members) {
  const size_t n = members.properties.size();
  const size_t n_count = members.n_max == kNoBound ? members.n_min : members.n_max;
  constexpr size_t kStates = 4096;
  if (n_count > kStates || (n + 2) * (n_count + 1) > kStates) {
    return at.wrong("minProperties", "and maxProperties are too large for that many properties");
  }
  if (members.n_min > n + (members.other ? 1 : 0)) {
    return at.wrong("minProperties", "needs as many declared properties, as others may repeat a name");
  }
  const size_t row = n_count + 1;
  // By the next property, n + 1 after others, and the count.
  const auto ways = [&](size_t state) {
    std::vector<ListWay> out;
    const size_t count = state % row;
    if (count == n_count && members.n_max != kNoBound) return out;
    const size_t next = std::min(count + 1, n_count);
    for (size_t i = state / row; i <= n; ++i) {
      if (i == n) {
        if (members.other && count + 1 >= members.n_min) out.push_back({*members.other, (n + 1) * row + next});
        break;
      }
      out.push_back({members.properties[i].entry, (i + 1) * row + next});
      if (members.properties[i].required) break;
    }
    if (state / row == n + 1 && members.other) out.push_back({*members.other, (n + 1) * row + next});
    return out;
  };
  return list_by_states((n + 2) * row, ways, [&](size_t state) {
    const size_t first = state / row;
    const bool all_there = std::none_of(members.properties.begin() + static_cast<ptrdiff_t>(std::min(first, n)),
                                        members.properties.end(), [](const auto& each) { return each.required; });
    return all_there && (first == n + 1 || state % row >= members.n_min);
  });
}

// Two rows of states: before and after the first entry, which no comma precedes.
Result<SchemaCompiler::Part> SchemaCompiler::members_part(const SchemaAt& at, const Members& members) {
  const auto n_required = static_cast<uint32_t>(std::count_if(members.properties.begin(), members.properties.end(),
                                                              [](const auto& each) { return each.required; }));
  if (members.n_min > std::max(n_required, 1u) || members.n_max != kNoBound) return counted_members(at, members);
  const Part all{builder_.new_state(), builder_.new_state()};
  const auto lead_to = [&](Part from, uint32_t to) { builder_.set_split(from.out, std::array{to}); };
  uint32_t before = all.in;
  uint32_t after = builder_.new_state();
  for (const Members::Property& property : members.properties) {
    const Part first = builder_.call(property.entry);
    const Part later = after_comma(builder_.call(property.entry));
    const uint32_t next_before = builder_.new_state();
    const uint32_t next_after = builder_.new_state();
    std::vector<uint32_t> ways_before{first.in};
    std::vector<uint32_t> ways_after{later.in};
    if (!property.required) {
      ways_before.push_back(next_before);
      ways_after.push_back(next_after);
    }
    builder_.set_split(before, ways_before);
    builder_.set_split(after, ways_after);
    lead_to(first, next_after);
    lead_to(later, next_after);
    before = next_before;
    after = next_after;
  }
  std::vector<uint32_t> ends_before;
  std::vector<uint32_t> ends_after{all.out};
  if (members.n_min == 0 || n_required > 0) ends_before.push_back(all.out);
  if (members.other) {
    Part first = builder_.call(*members.other);
    builder_.append(first, builder_.repeat(after_comma(builder_.call(*members.other)), 0, kNoBound));
    const Part later = builder_.repeat(after_comma(builder_.call(*members.other)), 0, kNoBound);
    ends_before.push_back(first.in);
    ends_after = {later.in};
    lead_to(first, all.out);
    lead_to(later, all.out);
  }
  builder_.set_split(before, ends_before);
  builder_.set_split(after, ends_after);
  return all;
}

}  // namespace hearth
