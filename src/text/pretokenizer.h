// Cuts text into the words that byte-level BPE merges inside. Every model family states its cut as a regular
// expression; these scanners are those expressions written by hand: linear, without recursion over the text, whatever
// the text.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "text/unicode.h"

namespace hearth {

enum class Contractions : uint8_t {
  kNone,
  kLowerCase,  // 's 't 're 've 'm 'll 'd are words of their own
  kAnyCase,    // and 'S 'RE ... too
  kSuffix,     // in any case, and they belong to the word before them
};

// One alternation of the kind "contraction | letters | digits | symbols | spaces"; fields are where the families
// differ.
struct WordRules {
  Contractions contractions = Contractions::kNone;
  bool ascii_symbol_before_word = false;  // [!-/:-~][A-Za-z]+ comes first
  CharClass letters = char_class::kLetter;
  bool cased = false;    // words break between a lower-case and an upper-case letter
  bool any_lead = true;  // a word may begin with one character that is not \r, \n or of `no_lead`; else with ' '
  CharClass no_lead = char_class::kLetter | char_class::kNumber;
  int n_digits_max = 0;  // 0: any number, and a space may lead; -1: digits are no words
  CharClass symbols = char_class::kMark | char_class::kPunctuation | char_class::kSymbol | char_class::kOther;
  std::string_view symbols_tail = {};  // characters that a run of symbols takes along at its end
  bool newlines = true;                // \s*[\r\n]+ is a word
};

// Makes words of all runs of certain characters; what lies between stays together.
struct RunRule {
  CharClass classes = 0;
  std::string_view more = {};  // further ASCII characters
  bool east_asian = false;     // and U+4E00-9FA5, U+3040-30FF
  bool space_lead = false;     // one white space may lead
  int n_min = 1;
  int n_max = 0;  // 0: any number
};

struct PreTokenizerStage {
  enum class Kind : uint8_t { kWords, kRun } kind;
  WordRules words{};
  RunRule run{};
};

// A named cut: each stage cuts the words of the stage before it.
struct PreTokenizer {
  std::string_view name;
  std::span<const PreTokenizerStage> stages;
  bool ignore_merges = false;  // a whole word that is a token wins over merging

  // The rules of a name in a GGUF file; "" means "default". kUnsupported for a name that is not known.
  static Result<const PreTokenizer*> find(std::string_view name);
  // All names, for tests and listings.
  static std::span<const PreTokenizer> all();

  using Sink = std::function<void(std::string_view word)>;
  // Calls sink for every word from left to right; together they are the text.
  void split(std::string_view text, const Sink& sink) const;
};

}  // namespace hearth
