// The texts of a vocabulary's tokens as a tree, laid out for one walk. Inside this room only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

// Kinds of characters, as a set of bits: grammars mostly treat the characters of one kind alike.
using CharKinds = uint16_t;
struct ByteRange {
  uint8_t low, high;
};
// A kind of ASCII characters and the bytes it consists of.
std::span<const std::span<const ByteRange>> ascii_kinds();
// Beyond those: characters of several bytes, in two kinds because patterns single out spaces and breaks, and all that no kind
// covers, such as quotes and parts of characters.
inline constexpr CharKinds kBeyondAscii = 1u << 13, kNearSpaces = 1u << 14, kNoKind = 1u << 15;
// The first character's kind, and how many bytes it has; kNoKind of one byte if it is none that JSON strings hold as it is.
std::pair<CharKinds, size_t> kind_at(std::string_view text, size_t at);
// Of all its characters.
CharKinds kinds_of(std::string_view text);

// In preorder: a node's first child follows it, and `skip` is the node behind all below it.
struct TokenTrie {
  struct Node {
    uint32_t skip;
    uint32_t rank;  // into `tokens`: the node's own end at the next node's rank, those below it at skip's
    // Of the characters after this byte, in all texts through it, and how many these are at most. A character's first byte of
    // several counts that character, too; inside of one it is kNoKind.
    CharKinds kinds_below = 0;
    uint8_t chars_below = 0;
    uint8_t depth, byte;
  };
  struct Root {
    uint8_t byte;
    uint32_t node;
  };
  std::vector<Node> nodes;  // and one more behind them
  std::vector<Root> roots;
  std::vector<Token> tokens;
  std::vector<Token> by_length;  // the same; those of at most n characters are the first up_to[n]
  std::vector<uint32_t> up_to;

  // Longer texts are left out.
  static constexpr size_t kBytesMax = 250;
  // `tokens` in order of their texts.
  static TokenTrie build(std::span<const std::pair<std::string, Token>> tokens);
};

}  // namespace hearth
