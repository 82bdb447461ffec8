// SentencePiece's byte pair encoding (Kudo and Richardson 2018): characters merge into the neighbouring pair that forms
// the token of the best score; what has no token becomes byte tokens.
#include <bit>

#include "base/limits.h"
#include "text/merge.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

// The higher the score, the smaller the number.
uint32_t priority_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

class SentenceBpe final : public VocabularyTokenizer {
 public:
  SentenceBpe(TokenizerData data, std::vector<bool> matches)
      : VocabularyTokenizer(std::move(data), std::move(matches)), byte_tokens_(data_) {}
  Result<void> read_merges();

 protected:
  void encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const override;

 private:
  [[nodiscard]] MergeResult merge_of(std::string_view text, const MergeSymbol& left, const MergeSymbol& right) const;
  void append_bytes(std::string_view bytes, std::vector<Token>& out) const;

  ByteTokens byte_tokens_;
  PairTable merges_;  // of files that give ranked merges (Hugging Face) instead of scores
};

Result<void> SentenceBpe::read_merges() {
  merges_.reserve(data_.merges.size());
  std::string merged;
  for (size_t rank = 0; rank < data_.merges.size(); ++rank) {
    const std::string_view merge = data_.merges[rank];
    const size_t space = TRY(space_of_merge(merge, rank));
    const Token left = find_plain(merge.substr(0, space));
    const Token right = find_plain(merge.substr(space + 1));
    const Token both = find_plain(merged.assign(merge.substr(0, space)).append(merge.substr(space + 1)));
    if (left == kNoToken || right == kNoToken || both == kNoToken) continue;  // can never happen in a text
    merges_.insert(static_cast<uint32_t>(left), static_cast<uint32_t>(right), {static_cast<uint32_t>(rank), both});
  }
  return {};
}

MergeResult SentenceBpe::merge_of(std::string_view text, const MergeSymbol& left, const MergeSymbol& right) const {
  if (!data_.merges.empty()) {
    if (left.id < 0 || right.id < 0) return {};
    const PairTable::Entry found = merges_.find(static_cast<uint32_t>(left.id), static_cast<uint32_t>(right.id));
    return {found.rank, found.value};
  }
  const size_t n_bytes = left.n_bytes + right.n_bytes;
  if (n_bytes > token_bytes_max()) return {};
  const Token token = find_plain(text.substr(left.begin, n_bytes));
  return token == kNoToken ? MergeResult{} : MergeResult{priority_of(data_.scores[static_cast<size_t>(token)]), token};
}

void SentenceBpe::append_bytes(std::string_view bytes, std::vector<Token>& out) const {
  if (byte_tokens_.complete()) {
    byte_tokens_.append(bytes, out);
  } else if (data_.unk != kNoToken && (out.empty() || out.back() != data_.unk)) {
    out.push_back(data_.unk);
  }
}

void SentenceBpe::encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const {
  std::string marked;
  marked.reserve(text.size() + text.size() / 4 + kSpaceMark.size());
  if (at_start && data_.add_space_prefix) marked += kSpaceMark;
  for (const char c : text) {
    if (c == ' ') {
      marked += kSpaceMark;
    } else {
      marked += c;
    }
  }
  MergeSpace space;
  space.symbols.reserve(text.size() + 1);
  for (size_t at = 0; at < marked.size();) {
    const size_t n = decode_utf8(marked, at).n_bytes;
    space.push_symbol(find_plain(std::string_view(marked).substr(at, n)), static_cast<uint32_t>(at),
                      static_cast<uint32_t>(n));
    at += n;
  }
  space.merge_all([&](const MergeSymbol& left, const MergeSymbol& right) { return merge_of(marked, left, right); });
  for (const MergeSymbol& symbol : space.symbols) {
    if (symbol.n_bytes == 0) continue;
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else {
      append_bytes(std::string_view(marked).substr(symbol.begin, symbol.n_bytes), out);
    }
  }
}

}  // namespace

TokenizerResult make_sentence_bpe(TokenizerData data, std::vector<bool> matches) {
  if (data.scores.empty() && data.merges.empty()) {
    return fail(Code::kMalformed, "a SentencePiece vocabulary needs token scores");
  }
  auto tokenizer = std::make_unique<SentenceBpe>(std::move(data), std::move(matches));
  TRY(tokenizer->read_merges());
  return tokenizer;
}

}  // namespace hearth
