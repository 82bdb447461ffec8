#include "text/tokenizer.h"

#include <algorithm>

#include "text/utf8.h"
#include "text/vocabulary.h"

namespace hearth {

Tokenizer::Tokenizer(TokenizerData data) : data_(std::move(data)) {}

Result<std::unique_ptr<const Tokenizer>> Tokenizer::create(TokenizerData data) {
  TRY(check_tokenizer_data(data));
  // Before names give tokens another kind: what the file calls normal may come from plain text.
  std::vector<bool> matches(data.tokens.size(), true);
  for (size_t i = 0; i < data.kinds.size(); ++i) {
    matches[i] = data.kinds[i] == TokenKind::kNormal || data.kinds[i] == TokenKind::kUserDefined ||
                 data.kinds[i] == TokenKind::kUnused;
  }
  complete_special_tokens(data);
  switch (data.kind) {
    case TokenizerKind::kByteBpe:
      return make_byte_bpe(std::move(data), std::move(matches));
    case TokenizerKind::kSentenceBpe:
      return make_sentence_bpe(std::move(data), std::move(matches));
    case TokenizerKind::kUnigram:
      return make_unigram(std::move(data), std::move(matches));
    case TokenizerKind::kWordPiece:
      return make_word_piece(std::move(data), std::move(matches));
  }
  return fail(Code::kUnsupported, "tokenizer kind {}", static_cast<int>(data.kind));
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool special) const {
  std::string text;
  bool first = true;
  for (const Token token : tokens) {
    text += bytes(token, special, first);
    first = first && bytes(token, special, false).empty();
  }
  return text;
}

bool Tokenizer::ends_generation(Token token) const {
  return std::binary_search(data_.end_of_generation.begin(), data_.end_of_generation.end(), token);
}

std::string Detokenizer::push(Token token) {
  pending_ += tokenizer_->bytes(token, special_, first_);
  first_ = first_ && tokenizer_->bytes(token, special_, false).empty();
  const size_t n_ready = pending_.size() - incomplete_utf8_tail(pending_);
  std::string out = with_replacement(std::string_view(pending_).substr(0, n_ready));
  pending_.erase(0, n_ready);
  return out;
}

std::string Detokenizer::finish() {
  std::string out = with_replacement(pending_);
  pending_.clear();
  return out;
}

}  // namespace hearth
