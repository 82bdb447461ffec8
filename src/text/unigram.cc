// SentencePiece's unigram model (Kudo 2018): of all ways to cut the text into tokens the one with the highest sum of
// scores, found by Viterbi's algorithm. What has no token is unknown, or bytes where the vocabulary has them.
#include <algorithm>
#include <limits>

#include "base/limits.h"
#include "text/charsmap.h"
#include "text/prefix_index.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

class Unigram final : public VocabularyTokenizer {
 public:
  Unigram(TokenizerData data, std::vector<bool> matches, Charsmap charsmap);

 protected:
  void encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const override;

 private:
  // The best way to reach a place: the token that ends there, and where it begins.
  struct Step {
    double score = -std::numeric_limits<double>::infinity();
    uint32_t begin = 0;
    Token token = kNoToken;  // unknown
  };
  [[nodiscard]] std::string normalize(std::string_view text) const;
  [[nodiscard]] std::vector<Step> best_steps(std::string_view text) const;
  void append_unknown(std::string_view text, std::vector<Token>& out) const;

  Charsmap charsmap_;
  PrefixIndex pieces_;
  ByteTokens byte_tokens_;
  double unknown_score_ = 0;
};

Unigram::Unigram(TokenizerData data, std::vector<bool> matches, Charsmap charsmap)
    : VocabularyTokenizer(std::move(data), std::move(matches)), charsmap_(std::move(charsmap)), byte_tokens_(data_) {
  constexpr double kUnknownPenalty = 10;  // below the worst token
  double worst = 0;
  std::vector<Token> ids;
  for (Token id = 0; id < n_vocab(); ++id) {
    if (kind_of(id) == TokenKind::kNormal) worst = std::min<double>(worst, data_.scores[static_cast<size_t>(id)]);
    if (matches_text(id)) ids.push_back(id);
  }
  unknown_score_ = worst - kUnknownPenalty;
  pieces_.build(data_.tokens, std::move(ids));
}

std::string Unigram::normalize(std::string_view text) const {
  std::string out;
  out.reserve(text.size() * 2);
  if (data_.add_space_prefix && !data_.remove_extra_spaces && !text.empty()) out += kSpaceMark;
  bool in_word = false;
  bool first_word = true;
  const auto put = [&](std::string_view piece) {
    for (const char c : piece) {
      if (c == ' ') {
        in_word = false;
        if (!data_.remove_extra_spaces) out += kSpaceMark;
        continue;
      }
      if (!in_word && data_.remove_extra_spaces && (!first_word || data_.add_space_prefix)) out += kSpaceMark;
      in_word = true;
      first_word = false;
      out += c;
    }
  };
  for (size_t at = 0; at < text.size();) {
    const Charsmap::Match match = charsmap_.longest(text.substr(at));
    if (match.n_bytes > 0) {
      put(match.replacement);
      at += match.n_bytes;
      continue;
    }
    const DecodedChar c = decode_utf8(text, at);
    put(c.valid || byte_tokens_.complete() ? text.substr(at, c.n_bytes) : kReplacementUtf8);
    at += c.n_bytes;
  }
  return out;
}

std::vector<Unigram::Step> Unigram::best_steps(std::string_view text) const {
  std::vector<Step> best(text.size() + 1);
  best[0].score = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t n_char = decode_utf8(text, at).n_bytes;
    const double here = best[at].score;
    const auto offer = [&](size_t n_bytes, double score, Token token) {
      Step& step = best[at + n_bytes];
      if (here + score > step.score) step = {here + score, static_cast<uint32_t>(at), token};
    };
    bool char_is_token = false;
    pieces_.for_each_prefix(text.substr(at), [&](size_t n_bytes, Token token) {
      char_is_token = char_is_token || n_bytes == n_char;
      const bool user_defined = kind_of(token) == TokenKind::kUserDefined;
      offer(n_bytes, user_defined ? 0.0 : static_cast<double>(data_.scores[static_cast<size_t>(token)]), token);
    });
    if (!char_is_token) offer(n_char, unknown_score_, kNoToken);
    at += n_char;
  }
  return best;
}

void Unigram::append_unknown(std::string_view text, std::vector<Token>& out) const {
  if (byte_tokens_.complete()) {
    byte_tokens_.append(text, out);
  } else if (data_.unk != kNoToken) {
    out.push_back(data_.unk);
  }
}

void Unigram::encode_text(std::string_view raw, bool /*at_start*/, std::vector<Token>& out) const {
  const std::string text = normalize(raw);
  const std::vector<Step> best = best_steps(text);
  std::vector<uint32_t> ends;  // of the tokens of the best way, last first
  for (size_t end = text.size(); end > 0; end = best[end].begin) ends.push_back(static_cast<uint32_t>(end));
  std::reverse(ends.begin(), ends.end());
  for (size_t i = 0; i < ends.size(); ++i) {
    const Step& step = best[ends[i]];
    if (step.token != kNoToken) {
      out.push_back(step.token);
      continue;
    }
    while (i + 1 < ends.size() && best[ends[i + 1]].token == kNoToken) ++i;  // neighbours are one unknown
    append_unknown(std::string_view(text).substr(step.begin, ends[i] - step.begin), out);
  }
}

}  // namespace

TokenizerResult make_unigram(TokenizerData data, std::vector<bool> matches) {
  if (data.scores.empty()) return fail(Code::kMalformed, "a unigram vocabulary needs token scores");
  TRY(check_piece_lengths(data, matches));
  Charsmap charsmap = TRY(Charsmap::create(data.precompiled_charsmap));
  return std::make_unique<Unigram>(std::move(data), std::move(matches), std::move(charsmap));
}

}  // namespace hearth
