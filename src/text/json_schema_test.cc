// What schemas accept and refuse; which of it validates is checked by tests/reference/check_schemas.py against Python's jsonschema.
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "text/grammar.h"

namespace hearth {
namespace {

struct Case {
  std::string schema;
  std::vector<std::string> accepted, rejected;
};

Result<Grammar::Shared> grammar_of(const std::string& schema, JsonSpace space = JsonSpace::kOne) {
  return Grammar::from_json_schema(boost::json::parse(schema), {.space = space});
}

void expect_cases(const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    const auto grammar = grammar_of(each.schema);
    ASSERT_TRUE(grammar.has_value()) << each.schema << ": " << grammar.error().message;
    for (const std::string& text : each.accepted) EXPECT_TRUE((*grammar)->matches(text)) << each.schema << " " << text;
    for (const std::string& text : each.rejected) EXPECT_FALSE((*grammar)->matches(text)) << each.schema << " " << text;
  }
}

TEST(JsonSchema, Values) {
  expect_cases({
      {"true", {"null", "[1,\"a\",{}]", R"({"a": [true, -0.5e+3, "\u00e9\\"]})"}, {"", "nul", "[1,]", "01", "\"\n\""}},
      {R"({"type":"boolean"})", {"true", "false"}, {"True", "1"}},
      {R"({"type":["string","null"]})", {"null", R"("\"x\"")"}, {"1", R"("\ud800")"}},
      {R"({"type":"string","nullable":true})", {"null", "\"\""}, {"1"}},
      {R"({"enum":["a",1,null,2.5,{"b":[1]}]})", {"\"a\"", "1", "null", "2.5", R"({"b":[1]})"}, {"a", "2", "\"b\""}},
      {R"({"type":"string","enum":["a","bb",3],"minLength":2})", {"\"bb\""}, {"\"a\"", "3"}},
      {R"({"const":"x\ny"})", {R"("x\ny")"}, {"\"xny\""}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", R"("\n\u00e9a")", "\"\xF0\x9F\x98\x80\xC3\xA4z\""},
       {"\"a\"", "\"abcd\""}},
      {R"({"type":"string","maxLength":2147483647})", {"\"ab\""}, {}},
  });
}

TEST(JsonSchema, Numbers) {
  expect_cases({
      {R"({"type":"integer"})", {"0", "-12", "123456789012345678"}, {"-0", "1.0", "01", "1234567890123456789"}},
      {R"({"type":"integer","minimum":-5,"maximum":120})", {"-5", "-1", "0", "99", "120"}, {"-6", "121", "1000", "-0"}},
      {R"({"type":"integer","exclusiveMinimum":9,"exclusiveMaximum":1000})", {"10", "999"}, {"9", "1000", "5"}},
      {R"({"type":"integer","minimum":1})", {"1", "99999"}, {"0", "-1"}},
      {R"({"type":"integer","maximum":-10})", {"-10", "-123"}, {"-9", "0", "5"}},
      {R"({"type":"integer","multipleOf":5})", {"0", "-15", "100"}, {"1", "07", "-0", "12"}},
      {R"({"type":"number","multipleOf":0.5,"minimum":0,"maximum":2})", {"0", "0.5", "2"}, {"0.25", "2.5"}},
      {R"({"type":"number","minimum":-1.5,"exclusiveMaximum":10})",
       {"-1.5", "-1.49", "9.99", "0", "0.0", "-0.5"},
       {"-1.51", "10", "10.0", "-2", "-0", "1e1"}},
      {R"({"type":"number","exclusiveMinimum":0,"maximum":1})", {"0.001", "1", "1.00"}, {"0", "0.0", "1.01", "-1"}},
      {R"({"type":"number","minimum":0,"exclusiveMinimum":true})", {"0.5"}, {"0"}},
      {R"({"type":"number","minimum":2.25,"maximum":2.375})", {"2.25", "2.3", "2.375"}, {"2.2", "2.4", "2", "2.3751"}},
  });
}

TEST(JsonSchema, ObjectsAndArrays) {
  expect_cases({
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},"c":{"const":1}},"required":["b"]})",
       {R"({"a":1,"b":null,"c":1})", R"({"b": null})", R"({"b":null, "c": 1})"},
       {"{}", R"({"a":1})", R"({"b":null,"a":1})", R"({"b":null,})", R"({"b":null,"d":1})", R"({"b":  null})"}},
      {R"({"properties":{"ab":{"type":"null"}},"additionalProperties":{"type":"boolean"}})",
       {"{}", R"({"ab":null,"a":true,"abc":false})", R"({"x":true})"},
       {R"({"ab":true})", R"({"\u0061b":true})", R"({"x":null})"}},
      {R"({"type":"object"})", {"{}", R"({"x":[{"y":1}], "z": ""})"}, {"[]", "{\"x\"}"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"},"minProperties":1,"maxProperties":2})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {"{}", R"({"a":1,"b":2,"c":3})", R"({"a":""})"}},
      {R"({"type":"object","patternProperties":{"^x-":{"type":"integer"}},"additionalProperties":false})",
       {"{}", R"({"x-a":1})"},
       {R"({"a":1})"}},
      {R"({"type":"object","propertyNames":{"enum":["a","b"]},"additionalProperties":{"type":"null"}})",
       {R"({"a":null,"b":null})"},
       {R"({"c":null})"}},
      {R"({"type":"object","required":["q"]})", {R"({"q":[1]})"}, {"{}"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})",
       {"[1]", "[1, 2]"},
       {"[]", "[1,2,3]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"null"}],"minItems":1})",
       {"[1]", "[1,null]"},
       {"[]", "[null]", "[1,null,2]"}},
      {R"({"type":"array","items":[{"const":1}],"additionalItems":{"const":2},"maxItems":3})",
       {"[]", "[1]", "[1,2,2]"},
       {"[2]", "[1,2,2,2]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
  });
  const auto indented =
      grammar_of(R"({"type":"object","properties":{"a":{"type":"array"}},"required":["a"]})", JsonSpace::kIndent);
  EXPECT_TRUE((*indented)->matches("{\n  \"a\": [\n    1,\n    2\n  ]\n}"));
  EXPECT_FALSE((*indented)->matches("{\n\n\"a\":[]}"));
  const auto object = *Grammar::from_json_object();
  EXPECT_TRUE(object->matches(R"({"a": [1, {"b": null}]})"));
  EXPECT_FALSE(object->matches("[]"));
}

TEST(JsonSchema, CombinationsAndReferences) {
  expect_cases({
      {R"({"anyOf":[{"type":"integer"},{"type":"object","properties":{"a":{"const":1}},"required":["a"]}]})",
       {"7", R"({"a":1})"},
       {"{}", "\"\""}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},
           "anyOf":[{"required":["a"]},{"required":["b"]}]})",
       {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
       {"{}"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"x"}},"required":["k"]},
                    {"type":"object","properties":{"k":{"const":"y"},"n":{"type":"integer"}},"required":["k","n"]}]})",
       {R"({"k":"x"})", R"({"k":"y","n":1})"},
       {R"({"k":"y"})", R"({"k":"z"})"}},
      {R"({"allOf":[{"$ref":"#/$defs/A"},{"properties":{"b":{"type":"null"}},"required":["b"]}],"description":"both",
           "$defs":{"A":{"type":"object","properties":{"a":{"type":"integer","minimum":0}},"required":["a"]}}})",
       {R"({"a":1,"b":null})"},
       {R"({"a":1})", R"({"a":-1,"b":null})"}},
      {R"({"$defs":{"my node":{"type":"object","properties":{"v":{"type":"integer"},
           "next":{"anyOf":[{"$ref":"#/$defs/my%20node"},{"type":"null"}]}},"required":["v","next"]}},"$ref":"#/$defs/my%20node"})",
       {R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1,"next":{"v":2}})"}},
      {R"({"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#"}}}})",
       {R"({"kids":[{},{"kids":[{}]}]})"},
       {R"({"kids":[1]})"}},
      {R"({"$ref":"#/$defs/s","maxLength":2,"$defs":{"s":{"type":"string","minLength":1}}})",
       {"\"a\""},
       {"\"\"", "\"abc\""}},
  });
}

TEST(JsonSchema, PatternsAndFormats) {
  expect_cases({
      {R"({"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":4})",
       {"\"ab\"", "\"abcd\""},
       {"\"a\"", "\"abcde\""}},
      {R"({"type":"string","pattern":"b\"c"})", {R"("b\"c")", R"("ab\"c\n")"}, {R"("b\\c")", "\"b\"c\""}},
      {R"({"type":"string","pattern":"^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xa\""}},
      {R"({"type":"string","pattern":"^\\d{3}-\\d{4}$"})", {"\"555-1234\""}, {"\"555-12345\"", "\"x555-1234\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"1999-12-31\""},
       {"\"2023-02-29\"", "\"2023-13-01\"", "\"0000-01-01\""}},
      {R"({"type":"string","format":"date-time"})", {"\"2026-11-23T04:00:00.25+01:00\""}, {"\"2026-11-23T24:00:00Z\""}},
      {R"({"type":"string","format":"uuid"})", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""}},
      {R"({"type":"string","format":"ipv4"})", {"\"192.168.0.255\""}, {"\"256.1.1.1\"", "\"01.1.1.1\""}},
      {R"({"type":"string","format":"email"})", {"\"a.b+c@x-y.example.org\""}, {"\"a@b\"", "\"@x.org\""}},
      {R"({"type":"string","format":"uri"})", {"\"https://example.org:8080/a/b?c=d#e\""}, {"\"example\""}},
      {R"({"type":"string","format":"snake-case"})", {"\"anything\""}, {}},
  });
}

TEST(JsonSchema, Conditions) {
  expect_cases({
      {R"({"type":"object","properties":{"k":{"enum":["x","y"]},"n":{"type":"integer"}},"required":["k"],
           "if":{"properties":{"k":{"const":"x"}},"required":["k"]},"then":{"required":["n"]},"else":{"properties":{"n":false}}})",
       {R"({"k":"x","n":1})", R"({"k":"y"})"},
       {R"({"k":"x"})", R"({"k":"y","n":1})"}},
      {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},
           "dependentRequired":{"a":["b"],"b":["c"]}})",
       {"{}", R"({"c":null})", R"({"b":null,"c":null})", R"({"a":null,"b":null,"c":null})"},
       {R"({"a":null})", R"({"a":null,"b":null})", R"({"b":null})"}},
      {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"not":{"required":["a","b"]}})",
       {"{}", R"({"a":null})", R"({"b":null})"},
       {R"({"a":null,"b":null})"}},
      {R"({"type":"string","not":{"enum":["a","abc"]}})",
       {"\"\"", "\"ab\"", "\"abcd\""},
       {"\"a\"", R"("\u0061")", "\"abc\""}},
      {R"({"type":"integer","minimum":1,"not":{"const":3}})", {"1", "33"}, {"3", "0"}},
      {R"({"type":["boolean","null"],"not":{"const":true}})", {"false", "null"}, {"true"}},
      {R"({"type":"string","not":{"pattern":"^x-"}})", {"\"x\"", "\"ax-\""}, {"\"x-\"", "\"x-a\""}},
      {R"({"type":"string","pattern":"^(?=.*[0-9])(?!.*--)[a-z0-9-]+$","maxLength":5})",
       {"\"a-1\"", "\"0\""},
       {"\"a\"", "\"1--\"", "\"123456\"", "\"A1\""}},
      {R"({"type":"string","format":"ipv4","pattern":"^10\\."})", {"\"10.0.0.1\""}, {"\"11.0.0.1\"", "\"10.x\""}},
      {R"({"type":"array","items":{"enum":[1,2]},"uniqueItems":true})", {"[]", "[2,1]"}, {"[1,1]", "[3]"}},
      {R"({"type":"array","items":{"type":"integer"},"contains":{"const":7},"maxItems":3})",
       {"[7]", "[1,7,2]", "[7, 7]"},
       {"[]", "[1,2]", "[1,2,3,7]"}},
      {R"({"type":"object","patternProperties":{"^a":{"type":"integer"},"b$":{"enum":[1,null]}},
           "additionalProperties":{"type":"boolean"}})",
       {R"({"a":5})", R"({"b":null})", R"({"ab":1})", R"({"c":true})"},
       {R"({"ab":5})", R"({"ab":null})", R"({"a":true})", R"({"c":1})"}},
      {R"({"type":"object","properties":{"x-a":{"type":"string"}},"patternProperties":{"^x-":{"maxLength":1}}})",
       {R"({"x-a":"1"})", R"({"x-b":"2"})"},
       {R"({"x-a":"12"})"}},
      {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},"minProperties":2})",
       {R"({"a":null,"c":null})"},
       {"{}", R"({"b":null})"}},
      {R"({"type":"number","multipleOf":0.01,"minimum":0,"maximum":1})",
       {"0", "0.25", "1"},
       {"0.255", "1.01", "0.250"}},
      {R"({"oneOf":[{"type":"integer","maximum":0},{"type":"integer","minimum":1}]})", {"-1", "0", "1"}, {"0.5"}},
  });
}

// What cannot be kept to is refused by name, never ignored: llama.cpp #19051 answered 200 with free text.
TEST(JsonSchema, S3_WhatIsNotSupportedIsRefusedByName_LC19051) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {R"({"not":{}})", "no text"},
      {R"({"not":{"oneOf":[{}]}})", "/not\": oneOf inside not or if is not supported"},
      {R"({"type":"object","properties":{"a/b":{"then":{},"if":{"items":{}}}}})",
       "/properties/a~1b/if\": items inside"},
      {R"({"contains":{},"maxContains":1})", "maxContains is not supported"},
      {R"({"typ":"string"})", "typ is not supported"},
      {R"({"type":"strnig"})", "type is none of"},
      {R"({"type":[]})", "type"},
      {R"({"type":{"a":1}})", "type"},
      {R"({"type":"string","minLength":-1})", "minLength"},
      {R"({"type":"string","minLength":"2"})", "minLength"},
      {R"({"type":"string","minLength":3,"maxLength":2})", "minLength"},
      {R"({"type":"string","pattern":5})", "pattern"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"array","minItems":3,"maxItems":2})", "minItems"},
      {R"({"type":"object","properties":[]})", "properties"},
      {R"({"type":"object","required":"a"})", "required"},
      {R"({"type":"object","required":["a"],"additionalProperties":false})", "required"},
      {R"({"type":"object","minProperties":2})", "minProperties"},
      {R"({"type":"object","dependentRequired":["a"]})", "dependentRequired"},
      {R"({"enum":[]})", "enum"},
      {R"({"enum":"a"})", "enum"},
      {R"({"type":"integer","enum":["a"]})", "no text"},
      {R"({"anyOf":[]})", "anyOf"},
      {R"({"anyOf":{"a":1}})", "anyOf"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "branches 0 and 1"},
      {R"({"allOf":[{"type":"integer"},{"type":"string"}]})", "no text"},
      {R"({"allOf":[{"type":"string","pattern":"a"},{"pattern":"b"}]})", "pattern"},
      {R"({"$ref":"https://example.org/s"})", "$ref"},
      {R"({"$ref":"#/nothing"})", "$ref"},
      {R"({"type":"number","multipleOf":0.01})", "multipleOf"},
      {R"({"type":"number","multipleOf":0})", "multipleOf"},
      {R"({"type":"integer","minimum":"1"})", "minimum"},
      {R"({"type":"integer","minimum":2,"maximum":1})", "no text"},
      {"[]", "the schema"},
      {"null", "the schema"},
      {"false", "no text"},
  };
  for (const auto& [schema, message] : refused) {
    const auto grammar = grammar_of(schema);
    ASSERT_FALSE(grammar.has_value()) << schema;
    EXPECT_EQ(grammar.error().code, Code::kInvalidArgument) << schema;
    EXPECT_NE(grammar.error().message.find(message), std::string::npos) << schema << ": " << grammar.error().message;
  }
}

// llama.cpp #25308 and #22606 (patterns), #25959 (schemas in circles), #27619 (descriptions), CVE-2025-48944.
TEST(JsonSchema, S2_HostileSchemas_LC25959_LC27619_CVE_2025_48944) {
  std::string many = R"({"type":"object","properties":{)";
  for (int i = 0; i < 30'000; ++i)
    many += fmt::format("{}\"p{}\":{{\"type\":\"array\",\"items\":{{}}}}", i == 0 ? "" : ",", i);
  many += "}}";
  std::string products = R"({"type":"object","properties":{)";
  for (int i = 0; i < 2000; ++i)
    products += fmt::format(R"({}"p{}":{{"enum":["a"],"format":"uri","pattern":"^(?=.*a.{{{}}}b)[a-d]*$"}})",
                            i == 0 ? "" : ",", i, i % 9);
  products += "}}";
  const std::vector<std::string> hostile = {
      products,
      R"({"$ref":"#"})",
      R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})",
      R"({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})",
      R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"$ref":"#/$defs/a"})",
      R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
      R"({"type":"string","pattern":"(?<=a)b"})",
      R"({"type":"string","pattern":"*"})",
      R"({"type":"string","pattern":"((((((((((a{1,100000}){1,100000}){1,100000}"})",
      R"({"type":"string","pattern":{"a":[]}})",
      R"({"type":"string","format":[]})",
      R"({"$defs":{"a":{"not":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"})",
      R"({"type":"string","pattern":"^(?=.*a.{20}b)(?=.*b.{30}a)(?!.*c.{40}d)[a-d]*$"})",
      R"j({"type":"string","pattern":"^(?=(a*)*b)","not":{"pattern":"^x{90000}"}})j",
      many,
  };
  for (const std::string& schema : hostile) EXPECT_FALSE(grammar_of(schema).has_value()) << schema.substr(0, 100);
  const std::string description(100'000, '\\');
  const boost::json::value described = {{"type", "integer"}, {"description", description}};
  EXPECT_TRUE((*Grammar::from_json_schema(described))->matches("1"));
}

}  // namespace
}  // namespace hearth
