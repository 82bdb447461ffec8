#include "text/vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/limits.h"
#include "text/utf8.h"

namespace hearth {
namespace {

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

Result<void> check_ids(const TokenizerData& data) {
  struct Named {
    std::string_view name;
    Token id;
  };
  const std::array<Named, 8> ids{{{"bos", data.bos},
                                  {"eos", data.eos},
                                  {"eot", data.eot},
                                  {"unknown", data.unk},
                                  {"padding", data.pad},
                                  {"separator", data.sep},
                                  {"cls", data.cls},
                                  {"mask", data.mask}}};
  const auto n_vocab = static_cast<Token>(data.tokens.size());
  for (const Named& named : ids) {
    if (named.id < kNoToken || named.id >= n_vocab) {
      return fail(Code::kMalformed, "{} token id {} is not in the vocabulary of {} tokens", named.name, named.id,
                  n_vocab);
    }
  }
  const auto check = [&](std::string_view what, const std::vector<Token>& list) -> Result<void> {
    for (const Token id : list) {
      if (id >= 0 && id < n_vocab) continue;
      return fail(Code::kMalformed, "{} token id {} is not in the vocabulary of {} tokens", what, id, n_vocab);
    }
    return {};
  };
  TRY(check("end-of-generation", data.end_of_generation));
  TRY(check("stripping", data.strips_left));
  TRY(check("stripping", data.strips_right));
  return {};
}

Result<void> check_texts(const TokenizerData& data) {
  uint64_t n_special_bytes = 0;
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    const std::string& text = data.tokens[i];
    if (text.size() > limits::kTokenBytes) {
      return fail(Code::kLimit, "token {} has {} bytes, the limit is {}", i, text.size(), limits::kTokenBytes);
    }
    if (data.kinds.empty()) continue;
    const TokenKind kind = data.kinds[i];
    if (kind == TokenKind::kByte && byte_token_value(text) < 0) {
      return fail(Code::kMalformed, "byte token {} is \"{}\", not <0x00> to <0xFF>", i,
                  with_replacement(text.substr(0, 32)));
    }
    if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown) {
      n_special_bytes += text.size();
    }
  }
  if (n_special_bytes > limits::kSpecialTokenBytes) {
    return fail(Code::kLimit, "the special tokens have {} bytes, the limit is {}", n_special_bytes,
                limits::kSpecialTokenBytes);
  }
  return {};
}

}  // namespace

int byte_token_value(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = digit(text[3]);
  const int low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<void> check_tokenizer_data(const TokenizerData& data) {
  const size_t n = data.tokens.size();
  if (n == 0) return fail(Code::kMalformed, "the vocabulary has no tokens");
  if (n > limits::kVocabulary) return fail(Code::kLimit, "{} tokens, the limit is {}", n, limits::kVocabulary);
  if (!data.scores.empty() && data.scores.size() != n) {
    return fail(Code::kMalformed, "{} token scores for {} tokens", data.scores.size(), n);
  }
  if (!data.kinds.empty() && data.kinds.size() != n) {
    return fail(Code::kMalformed, "{} token types for {} tokens", data.kinds.size(), n);
  }
  const auto nan = std::find_if(data.scores.begin(), data.scores.end(), [](float score) { return std::isnan(score); });
  if (nan != data.scores.end()) {
    return fail(Code::kMalformed, "the score of token {} is not a number", nan - data.scores.begin());
  }
  if (data.merges.size() > limits::kArrayElements) {
    return fail(Code::kLimit, "{} merges, the limit is {}", data.merges.size(), limits::kArrayElements);
  }
  TRY(check_ids(data));
  return check_texts(data);
}

ByteTokens::ByteTokens(const TokenizerData& data) {
  token_.fill(kNoToken);
  for (size_t i = 0; i < data.kinds.size(); ++i) {
    if (data.kinds[i] != TokenKind::kByte) continue;
    Token& token = token_[static_cast<size_t>(byte_token_value(data.tokens[i]))];
    if (token == kNoToken) token = static_cast<Token>(i);
  }
  complete_ = std::find(token_.begin(), token_.end(), kNoToken) == token_.end();
}

void ByteTokens::append(std::string_view bytes, std::vector<Token>& out) const {
  for (const char c : bytes) out.push_back(token_[static_cast<uint8_t>(c)]);
}

Result<void> check_piece_lengths(const TokenizerData& data, const std::vector<bool>& matches) {
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (matches[i] && data.tokens[i].size() > limits::kPieceBytes) {
      return fail(Code::kLimit, "piece {} has {} bytes, the limit is {}", i, data.tokens[i].size(),
                  limits::kPieceBytes);
    }
  }
  return {};
}

VocabularyTokenizer::VocabularyTokenizer(TokenizerData data, std::vector<bool> matches)
    : Tokenizer(std::move(data)), matches_(std::move(matches)), all_(data_.tokens) {
  strips_left_ = data_.strips_left;
  strips_right_ = data_.strips_right;
  std::sort(strips_left_.begin(), strips_left_.end());
  std::sort(strips_right_.begin(), strips_right_.end());
  const auto n = static_cast<Token>(data_.tokens.size());
  all_.insert_all();
  std::vector<Token> special;
  std::vector<Token> user_defined;
  for (Token id = 0; id < n; ++id) {
    const TokenKind kind = kind_of(id);
    if (kind == TokenKind::kUserDefined) user_defined.push_back(id);
    if (kind == TokenKind::kUserDefined || kind == TokenKind::kControl || kind == TokenKind::kUnknown)
      special.push_back(id);
  }
  specials_.build(data_.tokens, special);
  user_defined_.build(data_.tokens, user_defined);
}

void VocabularyTokenizer::encode_fragments(std::string_view text, bool parse_special, std::vector<Token>& out) const {
  size_t at = 0;
  bool at_start = true;
  for (const SpecialTokens::Match& match : (parse_special ? specials_ : user_defined_).find_all(text)) {
    size_t end = match.begin;
    if (std::binary_search(strips_left_.begin(), strips_left_.end(), match.token)) {
      while (end > at && is_ascii_space(text[end - 1])) --end;
    }
    if (end > at) encode_text(text.substr(at, end - at), at_start, out);
    out.push_back(match.token);
    at = match.begin + text_of(match.token).size();
    if (std::binary_search(strips_right_.begin(), strips_right_.end(), match.token)) {
      while (at < text.size() && is_ascii_space(text[at])) ++at;
    }
    at_start = true;
  }
  if (at < text.size()) encode_text(text.substr(at), at_start, out);
}

std::vector<Token> VocabularyTokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<Token> out;
  out.reserve(text.size() / 3 + 4);
  const bool classifier = data_.kind == TokenizerKind::kWordPiece;
  const Token opening = classifier && data_.cls != kNoToken ? data_.cls : data_.bos;
  const Token closing = classifier && data_.sep != kNoToken ? data_.sep : data_.eos;
  if (options.add_bos && (data_.add_bos || classifier) && opening != kNoToken) out.push_back(opening);
  // Places inside a piece are 32 bits; a text longer than any prompt may be is encoded in parts.
  for (; text.size() > limits::kPromptBytes; text.remove_prefix(limits::kPromptBytes)) {
    encode_fragments(text.substr(0, limits::kPromptBytes), options.parse_special, out);
  }
  encode_fragments(text, options.parse_special, out);
  if (options.add_bos && (data_.add_eos || classifier) && closing != kNoToken) out.push_back(closing);
  return out;
}

std::string VocabularyTokenizer::normal_bytes(const std::string& text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (std::string_view(text).substr(at).starts_with(kSpaceMark)) {
      out += ' ';
      at += kSpaceMark.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::string VocabularyTokenizer::bytes(Token token, bool special, bool first) const {
  if (token < 0 || token >= n_vocab()) return {};
  const std::string& text = text_of(token);
  switch (kind_of(token)) {
    case TokenKind::kControl:
    case TokenKind::kUnknown:
      return special ? text : std::string();
    case TokenKind::kUserDefined:
      return text;
    case TokenKind::kByte:
      return std::string(1, static_cast<char>(byte_token_value(text)));
    case TokenKind::kUnused:
    case TokenKind::kNormal:
      break;
  }
  std::string out = normal_bytes(text);
  if (first && drops_first_space() && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

Result<size_t> space_of_merge(std::string_view merge, size_t rank) {
  const size_t space = merge.find(' ', 1);
  if (space == std::string_view::npos || space + 1 == merge.size()) {
    return fail(Code::kMalformed, "merge {} is \"{}\", not two texts with a space between them", rank,
                with_replacement(merge.substr(0, 64)));
  }
  if (merge.size() > limits::kTokenBytes) {
    return fail(Code::kLimit, "merge {} has {} bytes, the limit is {}", rank, merge.size(), limits::kTokenBytes);
  }
  return space;
}

}  // namespace hearth
