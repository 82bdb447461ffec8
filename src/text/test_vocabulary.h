// Small vocabularies for the tests of this room.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace hearth {

// The printable form of a byte in byte-level BPE.
inline std::string byte_letter(int byte) {
  int next = 256;
  for (int b = 0; b <= byte; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    if (b == byte) {
      std::string out;
      append_utf8(static_cast<char32_t>(printable ? b : next), out);
      return out;
    }
    if (!printable) ++next;
  }
  return {};
}

inline void add_token(TokenizerData& data, const std::string& text, TokenKind kind = TokenKind::kNormal,
                      float score = 0) {
  data.tokens.push_back(text);
  data.kinds.push_back(kind);
  data.scores.push_back(score);
}

inline Token id_of(const TokenizerData& data, const std::string& text) {
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (data.tokens[i] == text) return static_cast<Token>(i);
  }
  return kNoToken;
}

// 256 bytes, then "aa", "aaaa", "aaaaaaaa", "he", "ll", "hell", "hello", "Ġhello" by merges, then three special tokens.
inline TokenizerData byte_bpe_vocabulary(const std::string& pre = "gpt-2") {
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  data.pre = pre;
  for (int byte = 0; byte < 256; ++byte) add_token(data, byte_letter(byte));
  for (const std::string merge : {"a a", "aa aa", "aaaa aaaa", "h e", "l l", "he ll", "hell o", "\xC4\xA0 hello"}) {
    data.merges.push_back(merge);
    add_token(data, merge.substr(0, merge.find(' ')) + merge.substr(merge.find(' ') + 1));
  }
  add_token(data, "<|endoftext|>", TokenKind::kControl);
  add_token(data, "<|im_end|>", TokenKind::kControl);
  add_token(data, "<tool>", TokenKind::kUserDefined);
  data.scores.clear();
  data.bos = data.eos = id_of(data, "<|endoftext|>");
  return data;
}

// <unk> <s> </s>, 256 byte tokens, letters, and merged pieces: the longer the better.
inline TokenizerData sentence_vocabulary(TokenizerKind kind = TokenizerKind::kSentenceBpe) {
  TokenizerData data;
  data.kind = kind;
  add_token(data, "<unk>", TokenKind::kUnknown);
  add_token(data, "<s>", TokenKind::kControl);
  add_token(data, "</s>", TokenKind::kControl);
  const char* hex = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    add_token(data, std::string("<0x") + hex[byte / 16] + hex[byte % 16] + ">", TokenKind::kByte);
  }
  float score = -1;
  for (const std::string piece : {"aaaaaaaa",
                                  "\xE2\x96\x81hello",
                                  "hello",
                                  "hell",
                                  "aaaa",
                                  "\xE2\x96\x81hell",
                                  "he",
                                  "ll",
                                  "aa",
                                  "\xE2\x96\x81\xE2\x96\x81",
                                  "\xE2\x96\x81",
                                  "h",
                                  "e",
                                  "l",
                                  "o",
                                  "a",
                                  "\n",
                                  "<",
                                  "s",
                                  ">"}) {
    add_token(data, piece, TokenKind::kNormal, score);
    score -= 1;
  }
  add_token(data, "<tool>", TokenKind::kUserDefined);
  data.unk = 0;
  data.bos = 1;
  data.eos = 2;
  data.add_bos = true;
  return data;
}

inline TokenizerData word_piece_vocabulary() {
  TokenizerData data;
  data.kind = TokenizerKind::kWordPiece;
  add_token(data, "[PAD]", TokenKind::kControl);
  add_token(data, "[UNK]", TokenKind::kUnknown);
  add_token(data, "[CLS]", TokenKind::kControl);
  add_token(data, "[SEP]", TokenKind::kControl);
  for (const std::string piece : {"\xE2\x96\x81hello", "\xE2\x96\x81he", "llo",
                                  "\xE2\x96\x81"
                                  "a",
                                  "a", "aaaa", "\xE2\x96\x81,", "\xE2\x96\x81\xE4\xB8\xAD",
                                  "\xE2\x96\x81"
                                  "cafe",
                                  "s"}) {
    add_token(data, piece);
  }
  data.scores.clear();
  data.unk = 1;
  data.cls = 2;
  data.sep = 3;
  return data;
}

}  // namespace hearth
