// Which name in a model file means which rules. The expressions are those the families publish in their tokenizer.json.
#include <array>

#include "text/pretokenizer.h"

namespace hearth {
namespace {

using namespace char_class;
using Stage = PreTokenizerStage;

constexpr Stage words(WordRules rules) { return {.kind = Stage::Kind::kWords, .words = rules}; }
constexpr Stage run(RunRule rule) { return {.kind = Stage::Kind::kRun, .run = rule}; }

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
constexpr WordRules kGpt2Words{.contractions = Contractions::kLowerCase, .any_lead = false, .newlines = false};
constexpr std::array kGpt2{words(kGpt2Words)};
// \p{N} first
constexpr std::array kSmolLm{run({.classes = kNumber, .n_max = 1}), words(kGpt2Words)};
constexpr std::array kDefault{run({.classes = kPunctuation, .more = "$+<=>^~|"}), words(kGpt2Words),
                              run({.classes = kNumber}), run({.more = "0123456789", .n_min = 3, .n_max = 3})};
constexpr std::array kFalcon{run({.classes = kPunctuation, .more = "$+<=>^~|`"}), words(kGpt2Words),
                             run({.more = "0123456789", .n_min = 3, .n_max = 3})};

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
constexpr WordRules llama3_words(int n_digits_max) {
  return {.contractions = Contractions::kAnyCase, .n_digits_max = n_digits_max, .symbols_tail = "\r\n"};
}
constexpr std::array kLlama3{words(llama3_words(3))};
constexpr std::array kQwen2{words(llama3_words(1))};
// Combining marks belong to the letters.
constexpr std::array kQwen35{words({.contractions = Contractions::kAnyCase,
                                    .letters = kLetter | kMark,
                                    .n_digits_max = 1,
                                    .symbols = kPunctuation | kSymbol | kOther,
                                    .symbols_tail = "\r\n"})};
constexpr std::array kSeedCoder{words({.contractions = Contractions::kAnyCase, .n_digits_max = 1})};

// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|...|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|...
constexpr std::array kTekken{words({.cased = true, .n_digits_max = 1, .symbols_tail = "\r\n/"})};
constexpr std::array kGpt4o{
    words({.contractions = Contractions::kSuffix, .cased = true, .n_digits_max = 3, .symbols_tail = "\r\n/"})};

constexpr std::array kDeepSeekV3{run({.classes = kNumber, .n_max = 3}), run({.east_asian = true}),
                                 words({.ascii_symbol_before_word = true,
                                        .letters = kLetter | kMark,
                                        .no_lead = kLetter | kPunctuation | kSymbol,
                                        .n_digits_max = -1,
                                        .symbols = kPunctuation | kSymbol,
                                        .symbols_tail = "\r\n"})};

constexpr std::array kPreTokenizers{
    PreTokenizer{"default", kDefault},
    PreTokenizer{"gpt-2", kGpt2},
    PreTokenizer{"phi-2", kGpt2},
    PreTokenizer{"mpt", kGpt2},
    PreTokenizer{"olmo", kGpt2},
    PreTokenizer{"jais", kGpt2},
    PreTokenizer{"trillion", kGpt2},
    PreTokenizer{"granite-docling", kGpt2},
    PreTokenizer{"exaone4", kGpt2},
    PreTokenizer{"gigachat", kGpt2},
    PreTokenizer{"mellum", kGpt2},
    PreTokenizer{"modern-bert", kGpt2},
    PreTokenizer{"roberta-bpe", kGpt2},
    PreTokenizer{"a.x-4.0", kGpt2},
    PreTokenizer{"smollm", kSmolLm},
    PreTokenizer{"starcoder", kSmolLm},
    PreTokenizer{"refact", kSmolLm},
    PreTokenizer{"command-r", kSmolLm},
    PreTokenizer{"codeshell", kSmolLm},
    PreTokenizer{"exaone", kSmolLm},
    PreTokenizer{"minerva-7b", kSmolLm},
    PreTokenizer{"mellum2", kSmolLm},
    PreTokenizer{"falcon", kFalcon},
    PreTokenizer{"llama-bpe", kLlama3, true},
    PreTokenizer{"llama3", kLlama3, true},
    PreTokenizer{"llama-v3", kLlama3, true},
    PreTokenizer{"falcon3", kLlama3, true},
    PreTokenizer{"falcon-h1", kLlama3, true},
    PreTokenizer{"pixtral", kLlama3, true},
    PreTokenizer{"midm-2.0", kLlama3, true},
    PreTokenizer{"lfm2", kLlama3, true},
    PreTokenizer{"dbrx", kLlama3},
    PreTokenizer{"smaug-bpe", kLlama3},
    PreTokenizer{"chatglm-bpe", kLlama3},
    PreTokenizer{"glm4", kLlama3, true},
    PreTokenizer{"qwen2", kQwen2},
    PreTokenizer{"deepseek-r1-qwen", kQwen2},
    PreTokenizer{"stablelm2", kQwen2},
    PreTokenizer{"hunyuan", kQwen2},
    PreTokenizer{"megrez", kQwen2},
    PreTokenizer{"grok-2", kQwen2},
    PreTokenizer{"solar-open", kQwen2},
    PreTokenizer{"qwen35", kQwen35},
    PreTokenizer{"seed-coder", kSeedCoder},
    PreTokenizer{"tekken", kTekken, true},
    PreTokenizer{"gpt-4o", kGpt4o},
    PreTokenizer{"llama4", kGpt4o},
    PreTokenizer{"minimax-m2", kGpt4o},
    PreTokenizer{"deepseek-v3", kDeepSeekV3},
    PreTokenizer{"hunyuan-dense", kDeepSeekV3},
    PreTokenizer{"joyai-llm", kDeepSeekV3},
};

}  // namespace

std::span<const PreTokenizer> PreTokenizer::all() { return kPreTokenizers; }

Result<const PreTokenizer*> PreTokenizer::find(std::string_view name) {
  if (name.empty()) name = "default";
  for (const PreTokenizer& known : kPreTokenizers) {
    if (known.name == name) return &known;
  }
  return fail(Code::kUnsupported, "pre-tokenizer \"{}\" is not known", name.substr(0, 100));
}

}  // namespace hearth
