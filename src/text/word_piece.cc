// BERT's WordPiece (Devlin et al. 2019): words are cleaned, cut at spaces and punctuation, and covered by the longest
// pieces. Pieces that begin a word are written with U+2581 in front, as GGUF files do.
#include "text/prefix_index.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

constexpr size_t kWordCharsMax = 100;  // BERT's: a longer word is unknown

bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

bool is_punctuation(char32_t c) {
  const CharClass cls = classify(c);
  return cls == char_class::kPunctuation || (c < 128 && cls == char_class::kSymbol);
}

class WordPiece final : public VocabularyTokenizer {
 public:
  WordPiece(TokenizerData data, std::vector<bool> matches) : VocabularyTokenizer(std::move(data), std::move(matches)) {
    std::vector<Token> ids;
    for (Token id = 0; id < n_vocab(); ++id) {
      if (matches_text(id)) ids.push_back(id);
    }
    pieces_.build(data_.tokens, std::move(ids));
  }

 protected:
  void encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const override;
  [[nodiscard]] bool drops_first_space() const override { return true; }

 private:
  // A word under construction; `text` begins with the mark.
  struct Word {
    std::string text{kSpaceMark};
    size_t n_chars = 0;
  };
  void add(char32_t c, Word& word, std::vector<Token>& out) const;
  void finish(Word& word, std::vector<Token>& out) const;

  PrefixIndex pieces_;
};

void WordPiece::finish(Word& word, std::vector<Token>& out) const {
  if (word.n_chars == 0) return;
  const std::string_view text = word.text;
  const size_t n_before = out.size();
  bool known = word.n_chars <= kWordCharsMax;
  for (size_t at = 0; known && at < text.size();) {
    size_t n_bytes = 0;
    Token piece = kNoToken;
    pieces_.for_each_prefix(text.substr(at), [&](size_t n, Token token) { n_bytes = n, piece = token; });
    known = n_bytes > 0;
    if (known) out.push_back(piece);
    at += n_bytes;
  }
  if (!known) {
    out.resize(n_before);
    if (data_.unk != kNoToken) out.push_back(data_.unk);
  }
  word = {};
}

void WordPiece::add(char32_t c, Word& word, std::vector<Token>& out) const {
  const bool alone = is_punctuation(c);
  if (alone) finish(word, out);
  if (word.n_chars <= kWordCharsMax) append_utf8(c, word.text);  // what is longer is unknown anyway
  ++word.n_chars;
  if (alone) finish(word, out);
}

void WordPiece::encode_text(std::string_view text, bool /*at_start*/, std::vector<Token>& out) const {
  Word word;
  std::u32string parts;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    at += c.n_bytes;
    if (c.code_point == kReplacementCharacter || is_removed_control(c.code_point))
      continue;  // before spaces: a form feed is gone
    if (classify(c.code_point) == char_class::kSpace) {
      finish(word, out);
      continue;
    }
    const bool alone = is_ideograph(c.code_point);
    if (alone) finish(word, out);
    if (data_.lower_case) {
      parts.clear();
      append_nfd(c.code_point, parts);
      for (const char32_t part : parts) {
        if (!is_nonspacing_mark(part)) add(to_lower(part), word, out);
      }
    } else {
      add(c.code_point, word, out);
    }
    if (alone) finish(word, out);
  }
  finish(word, out);
}

}  // namespace

TokenizerResult make_word_piece(TokenizerData data, std::vector<bool> matches) {
  TRY(check_piece_lengths(data, matches));
  return std::make_unique<WordPiece>(std::move(data), std::move(matches));
}

}  // namespace hearth
