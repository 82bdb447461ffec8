// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

using Token = int32_t;
inline constexpr Token kNoToken = -1;

enum class TokenKind : uint8_t { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

enum class TokenizerKind : uint8_t {
  kByteBpe,      // GPT-2's: bytes as printable characters, ranked merges (gguf "gpt2")
  kSentenceBpe,  // SentencePiece BPE by score (gguf "llama")
  kUnigram,      // SentencePiece unigram, Viterbi (gguf "t5")
  kWordPiece,    // BERT (gguf "bert")
};

// A tokenizer as a model file describes it; made by model/ from GGUF metadata or by tokenizer_json.h from a Hugging
// Face file. Nothing in it is trusted: Tokenizer::create checks every length, id and string.
struct TokenizerData {
  TokenizerKind kind = TokenizerKind::kByteBpe;
  std::string pre;                  // name of the pre-tokenizer ("smollm", "qwen2", "llama-bpe", ...), byte BPE only
  std::vector<std::string> tokens;  // id -> text as the file has it
  std::vector<float> scores;        // empty or one per token
  std::vector<TokenKind> kinds;     // empty (all normal) or one per token
  std::vector<std::string> merges;  // "left right", in rank order
  Token bos = kNoToken, eos = kNoToken, eot = kNoToken, unk = kNoToken, pad = kNoToken, sep = kNoToken, cls = kNoToken,
        mask = kNoToken;
  std::vector<Token> strips_left,
      strips_right;                      // special tokens that swallow the white space before or after them (Phi-3)
  std::vector<Token> end_of_generation;  // further tokens that end an answer
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;      // SentencePiece
  bool remove_extra_spaces = false;  // SentencePiece
  bool ignore_merges = false;        // byte BPE: a whole word that is a token wins over merging (Llama 3)
  bool lower_case = true;            // WordPiece
  bool normalize_nfc =
      false;  // byte BPE: text is composed (NFC) first, as Qwen's tokenizer.json asks; GGUF has no such key
  std::string precompiled_charsmap;  // SentencePiece normaliser, raw bytes; may be empty
};

struct EncodeOptions {
  bool parse_special = false;  // texts of control tokens become those tokens; otherwise they are plain text
  bool add_bos = false;        // adds BOS (and EOS) where the model wants them
};

// Immutable after creation: any thread may use it. Time is linear in the text (times log for merging), whatever the
// text.
class Tokenizer {
 public:
  // kMalformed names the field that is wrong, kUnsupported the pre-tokenizer that is not known.
  static Result<std::unique_ptr<const Tokenizer>> create(TokenizerData data);
  virtual ~Tokenizer() = default;

  // Never fails: bytes that are no UTF-8 are encoded as bytes or as the unknown token.
  [[nodiscard]] virtual std::vector<Token> encode(std::string_view text, EncodeOptions options) const = 0;

  // The bytes a token stands for in running text; may be part of a character. Control tokens give "" unless `special`.
  // `first`: the token opens the text (SentencePiece drops the space it put there). Unknown ids give "".
  [[nodiscard]] virtual std::string bytes(Token token, bool special, bool first) const = 0;
  [[nodiscard]] std::string decode(std::span<const Token> tokens, bool special = false) const;

  // What the tokenizer was made from, but without the merges.
  [[nodiscard]] const TokenizerData& data() const { return data_; }
  [[nodiscard]] int n_vocab() const { return static_cast<int>(data_.tokens.size()); }
  // True for tokens that end an answer: EOS, EOT and their like.
  [[nodiscard]] bool ends_generation(Token token) const;
  // The id of a token by its text, or kNoToken.
  [[nodiscard]] virtual Token find(std::string_view text) const = 0;

 protected:
  explicit Tokenizer(TokenizerData data);
  TokenizerData data_;
};

// Turns tokens into text piece by piece and never emits half a character: an incomplete UTF-8 tail waits for the next
// token. Bytes that can never become UTF-8 come out as U+FFFD. One per stream; not shared between threads.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool special = false) : tokenizer_(&tokenizer), special_(special) {}
  // Whole characters only; empty while a character is incomplete.
  std::string push(Token token);
  // What is left at the end of an answer, as U+FFFD if it is incomplete.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool special_;
  bool first_ = true;
  std::string pending_;
};

}  // namespace hearth
