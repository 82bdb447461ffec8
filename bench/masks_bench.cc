// Masks of constrained answers over made-up vocabularies of real sizes: a state seen before, and all states of an answer anew.
#include <random>

#include "kernel_bench.h"
#include "text/test_vocabulary.h"
#include "text/token_masks.h"

namespace hearth::bench {
namespace {

// Bytes, then words with and without a space before them and marks as JSON and code have them.
std::unique_ptr<const Tokenizer> made_tokenizer(size_t n_vocab) {
  TokenizerData data = byte_bpe_vocabulary();
  std::mt19937 random(3);
  const std::vector<std::string> marks = {"\"", "\":", "\",", "{\"", "\"}", "}", "]", "\\n", "\n", ",", " ", "<"};
  while (data.tokens.size() < n_vocab) {
    std::string text = random() % 2 == 0 ? " " : "";
    for (size_t n = 2 + random() % 6; n > 0; --n) text += static_cast<char>('a' + random() % 26);
    if (random() % 16 == 0) text = marks[random() % marks.size()] + text.substr(0, random() % 3);
    std::string letters;
    for (const char c : text) letters += byte_letter(static_cast<uint8_t>(c));
    data.tokens.push_back(std::move(letters));
    data.kinds.push_back(TokenKind::kNormal);
  }
  return std::move(*Tokenizer::create(std::move(data)));
}

constexpr std::string_view kGrammar = R"(
root ::= "{" pair ("," pair){0,9} "}"
pair ::= "\"" [a-z]{1,20} "\":" (string | [0-9]{1,9} | list)
list ::= "[" (string ("," string)*)? "]"
string ::= "\"" ([^"\\\x00-\x1f] | "\\" ["\\nt]){0,64} "\""
)";
constexpr std::string_view kAnswer = R"({"name":"a longer text of some words","n":42,"tags":["one","two\n","three"]})";

void answer(TokenMasks& masks, const Grammar::Shared& grammar, benchmark::State& state) {
  Constraint constraint(grammar, masks);
  for (const char c : kAnswer) {
    benchmark::DoNotOptimize(constraint.allowed().data());
    if (!constraint.accept(masks.tokenizer().find(byte_letter(static_cast<uint8_t>(c))))) {
      return state.SkipWithError("not in the language");
    }
  }
}

}  // namespace

void add_masks() {
  for (const size_t n_vocab : {size_t{49'152}, size_t{262'144}}) {
    add("masks/" + std::to_string(n_vocab) + "/seen", [n_vocab](benchmark::State& state) {
      const auto tokenizer = made_tokenizer(n_vocab);
      TokenMasks masks(*tokenizer);
      const auto grammar = *Grammar::from_gbnf(kGrammar);
      answer(masks, grammar, state);
      for (auto _ : state) answer(masks, grammar, state);
      state.counters["per_token"] =
          benchmark::Counter(static_cast<double>(kAnswer.size()),
                             benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
    });
    add("masks/" + std::to_string(n_vocab) + "/new", [n_vocab](benchmark::State& state) {
      const auto tokenizer = made_tokenizer(n_vocab);
      TokenMasks masks(*tokenizer);
      size_t n = 0;
      for (auto _ : state) {  // a grammar that no other equals
        answer(masks, *Grammar::from_gbnf(std::string(kGrammar) + "unused ::= \"" + std::to_string(n++) + "\""), state);
      }
      state.counters["per_token"] =
          benchmark::Counter(static_cast<double>(kAnswer.size()),
                             benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
    });
  }
}

}  // namespace hearth::bench
