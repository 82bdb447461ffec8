// What a constrained answer may be: a language over bytes, from a GBNF grammar, a JSON schema, a regular expression or a
// list of choices. A Grammar is data; Constraint (token_masks.h) applies it to the tokens of one answer.
//
// All sources are hostile: none takes long, recurses on its input or grows past limits.h, and what cannot be enforced is
// refused, never ignored. kInvalidArgument and kLimit say where: line and column, offset, or JSON pointer and keyword.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth {

struct GrammarTables;  // grammar_tables.h

// White space between the parts of JSON that no string holds.
enum class JsonSpace : uint8_t {
  kNone,
  kOne,     // at most one space after a colon and a comma
  kIndent,  // that, or a line break and at most 20 spaces or tabs, where JSON allows white space
};

struct JsonSchemaOptions {
  JsonSpace space = JsonSpace::kOne;
};

// Immutable: any thread may use it.
class Grammar {
 public:
  using Shared = std::shared_ptr<const Grammar>;

  // GBNF as llama.cpp documents it: rules with alternatives, groups, character ranges, * + ? {m,n}, comments.
  static Result<Shared> from_gbnf(std::string_view text, std::string_view root = "root");
  // Every text of the language is JSON that the schema accepts (not the other way round: properties come in the order of
  // the schema, and undeclared ones only if additionalProperties asks for them). A finite form of numbers and formats.
  static Result<Shared> from_json_schema(const boost::json::value& schema, const JsonSchemaOptions& options = {});
  // Any JSON object.
  static Result<Shared> from_json_object(const JsonSchemaOptions& options = {});
  // The whole text matches, as if between ^ and $. ECMA 262 without lookaround, back references and word boundaries.
  static Result<Shared> from_regex(std::string_view pattern);
  static Result<Shared> from_choices(std::span<const std::string> choices);

  // Languages from languages, for tool calls. In a literal or a trigger this byte, which no text has, begins the text of a control
  // token; free text has none.
  static constexpr char kControlMark = '\xFF';
  static Result<Shared> literal(std::string_view text);
  static Result<Shared> sequence(std::span<const Shared> parts);
  static Result<Shared> any_of(std::span<const Shared> alternatives);
  // Between min and max of `item`, with `separator` (may be null) between two; max 0: no bound.
  static Result<Shared> repeat(const Shared& item, uint32_t min, uint32_t max, const Shared& separator);
  struct Triggered {
    std::string trigger;  // not empty
    Shared then;
  };
  // Free text that ends anywhere or, once a trigger has appeared, goes on with its grammar to the end of the answer.
  static Result<Shared> after_trigger(std::span<const Triggered> triggered);

  // The whole text is in the language; for tests and for checking a text by hand.
  [[nodiscard]] bool matches(std::string_view text) const;
  // The text is in the language or can become so.
  [[nodiscard]] bool matches_prefix(std::string_view text) const;

  [[nodiscard]] const GrammarTables& tables() const { return *tables_; }
  explicit Grammar(GrammarTables tables);  // checked ones, as GrammarBuilder::finish makes them
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

 private:
  std::unique_ptr<const GrammarTables> tables_;
};

}  // namespace hearth
