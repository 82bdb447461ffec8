// What the tokenizers of every kind share: the checked vocabulary, the search for special tokens, and the frame of
// encode().
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/special_tokens.h"
#include "text/token_index.h"
#include "text/tokenizer.h"

namespace hearth {

// U+2581, which SentencePiece and WordPiece vocabularies write for a space.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Checks everything in the data that does not depend on the kind: lengths, ids, limits, byte tokens.
Result<void> check_tokenizer_data(const TokenizerData& data);
// The value of a byte token's text "<0x00>" to "<0xFF>", or -1.
int byte_token_value(std::string_view text);
// Marks the tokens that end an answer, by their texts where the model file does not say, and gives the tokens of known
// names the kind they have in every model. See the table in end_of_generation.cc.
void complete_special_tokens(TokenizerData& data);

// Base of the four kinds. `matches_text(id)`: plain text may become this token; never control, unknown, unused-byte
// tokens.
class VocabularyTokenizer : public Tokenizer {
 public:
  [[nodiscard]] std::vector<Token> encode(std::string_view text, EncodeOptions options) const final;
  [[nodiscard]] std::string bytes(Token token, bool special, bool first) const override;
  [[nodiscard]] Token find(std::string_view text) const final { return all_.find(text); }

 protected:
  // `data` has passed check_tokenizer_data and complete_special_tokens; `matches` says per token whether plain text may
  // become it.
  VocabularyTokenizer(TokenizerData data, std::vector<bool> matches);

  // Appends the tokens of a text without special tokens; `at_start`: it opens the input or follows a special token.
  virtual void encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const = 0;
  // The bytes of a normal token.
  [[nodiscard]] virtual std::string normal_bytes(const std::string& text) const;
  // Whether `bytes` drops the space before the first token.
  [[nodiscard]] virtual bool drops_first_space() const { return data_.add_space_prefix; }

  [[nodiscard]] TokenKind kind_of(Token token) const {
    return data_.kinds.empty() ? TokenKind::kNormal : data_.kinds[static_cast<size_t>(token)];
  }
  [[nodiscard]] bool matches_text(Token token) const { return matches_[static_cast<size_t>(token)]; }
  [[nodiscard]] const std::string& text_of(Token token) const { return data_.tokens[static_cast<size_t>(token)]; }
  // A token that plain text may become, by its text.
  [[nodiscard]] Token find_plain(std::string_view text) const {
    const Token token = all_.find(text);
    return token != kNoToken && matches_text(token) ? token : kNoToken;
  }
  void prefetch(std::string_view text) const { all_.prefetch(text); }
  [[nodiscard]] bool texts_are_unique() const { return all_.unique(); }
  [[nodiscard]] size_t token_bytes_max() const { return all_.n_bytes_max(); }

 private:
  void encode_fragments(std::string_view text, bool parse_special, std::vector<Token>& out) const;

  std::vector<bool> matches_;
  std::vector<Token> strips_left_, strips_right_;  // sorted
  TokenIndex all_;
  SpecialTokens specials_;      // control, unknown and user-defined
  SpecialTokens user_defined_;  // user-defined only
};

// Tokens that stand for one byte each, in SentencePiece vocabularies.
class ByteTokens {
 public:
  explicit ByteTokens(const TokenizerData& data);
  // Every byte has its token.
  [[nodiscard]] bool complete() const { return complete_; }
  // One token per byte; needs complete().
  void append(std::string_view bytes, std::vector<Token>& out) const;

 private:
  std::array<Token, 256> token_{};
  bool complete_ = false;
};

// kLimit if a piece that the search for the longest or best piece would try is too long.
Result<void> check_piece_lengths(const TokenizerData& data, const std::vector<bool>& matches);

// One function per kind; `data` as for VocabularyTokenizer.
using TokenizerResult = Result<std::unique_ptr<const Tokenizer>>;
TokenizerResult make_byte_bpe(TokenizerData data, std::vector<bool> matches);
TokenizerResult make_sentence_bpe(TokenizerData data, std::vector<bool> matches);
TokenizerResult make_unigram(TokenizerData data, std::vector<bool> matches);
TokenizerResult make_word_piece(TokenizerData data, std::vector<bool> matches);

// Where the two texts of a merge rule ("left right") part; kMalformed or kLimit naming the rule by its rank.
Result<size_t> space_of_merge(std::string_view merge, size_t rank);

}  // namespace hearth
