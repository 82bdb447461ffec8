#include "text/token_trie.h"

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace hearth {
namespace {

// Of the bytes 0x20 to 0x7E but the quote and the backslash. Letters come in two kinds because of hexadecimal numbers.
constexpr ByteRange kHexSmall[] = {{'a', 'f'}}, kSmall[] = {{'g', 'z'}}, kHexLarge[] = {{'A', 'F'}},
                    kLarge[] = {{'G', 'Z'}}, kDigits[] = {{'0', '9'}}, kSpace[] = {{' ', ' '}},
                    kUnderscore[] = {{'_', '_'}}, kHyphen[] = {{'-', '-'}}, kPoint[] = {{'.', '.'}},
                    kMarks[] = {{'!', '!'}, {'#', ','}, {'/', '/'}, {':', '@'},
                                {'[', '['}, {']', '^'}, {'`', '`'}, {'{', '~'}};
constexpr std::array<std::span<const ByteRange>, 10> kAsciiKinds{kHexSmall, kSmall,      kHexLarge, kLarge, kDigits,
                                                                 kSpace,    kUnderscore, kHyphen,   kPoint, kMarks};

// What a text says of those that share its bytes up to each of them. Returns how many characters it has.
size_t add_below(std::string_view text, std::span<const uint32_t> path, std::vector<TokenTrie::Node>& nodes) {
  struct Char {
    size_t begin, n_bytes;
    CharKinds kind;
  };
  std::array<Char, TokenTrie::kBytesMax> chars;
  size_t n_chars = 0;
  for (size_t at = 0; at < text.size(); ++n_chars) {
    const auto [kind, n_bytes] = kind_at(text, at);
    chars[n_chars] = {at, n_bytes, kind};
    at += n_bytes;
  }
  CharKinds below = 0;
  const auto add = [&](size_t at, CharKinds kinds, size_t n) {
    TokenTrie::Node& node = nodes[path[at]];
    node.kinds_below |= kinds;
    node.chars_below = std::max(node.chars_below, static_cast<uint8_t>(n));
  };
  for (size_t i = n_chars; i-- > 0;) {
    const Char& c = chars[i];
    const size_t n_below = n_chars - i - 1;
    // What is cut or malformed is no character, so nothing is said of what follows its bytes.
    const bool is_char = c.kind != kNoKind || static_cast<uint8_t>(text[c.begin]) < 0x80;
    add(c.begin + c.n_bytes - 1, is_char ? below : kNoKind, n_below);
    below |= c.kind;
    for (size_t k = 1; k + 1 < c.n_bytes; ++k) add(c.begin + k, kNoKind, 0);
    if (c.n_bytes > 1) add(c.begin, below, n_below + 1);
  }
  return n_chars;
}

}  // namespace

std::span<const std::span<const ByteRange>> ascii_kinds() { return kAsciiKinds; }

std::pair<CharKinds, size_t> kind_at(std::string_view text, size_t at) {
  static constexpr auto kKindOf = [] {
    std::array<CharKinds, 128> kinds;
    kinds.fill(kNoKind);
    for (size_t kind = 0; kind < kAsciiKinds.size(); ++kind) {
      for (const ByteRange range : kAsciiKinds[kind]) {
        for (size_t byte = range.low; byte <= range.high; ++byte) kinds[byte] = static_cast<CharKinds>(1u << kind);
      }
    }
    return kinds;
  }();
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {kKindOf[byte], 1};
  const DecodedChar c = decode_utf8(text, at);
  if (!c.valid) return {kNoKind, 1};
  const bool near_spaces = byte == 0xC2 || (byte >= 0xE1 && byte <= 0xE3) || byte == 0xEF;
  return {near_spaces ? kNearSpaces : kBeyondAscii, c.n_bytes};
}

CharKinds kinds_of(std::string_view text) {
  CharKinds kinds = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [kind, n_bytes] = kind_at(text, at);
    kinds |= kind;
    at += n_bytes;
  }
  return kinds;
}

TokenTrie TokenTrie::build(std::span<const std::pair<std::string, Token>> tokens) {
  TokenTrie trie;
  std::vector<uint32_t> path;  // nodes of the text before
  std::string_view before;
  std::vector<size_t> lengths;  // by rank
  const auto leave = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      trie.nodes[path.back()].skip = static_cast<uint32_t>(trie.nodes.size());
  };
  for (const auto& [text, token] : tokens) {
    if (text.empty() || text.size() > kBytesMax) continue;
    size_t shared = 0;
    while (shared < before.size() && shared < text.size() && before[shared] == text[shared]) ++shared;
    leave(shared);
    for (size_t i = shared; i < text.size(); ++i) {
      const auto node = static_cast<uint32_t>(trie.nodes.size());
      const auto byte = static_cast<uint8_t>(text[i]);
      if (i == 0) trie.roots.push_back({byte, node});
      path.push_back(node);
      trie.nodes.push_back({.skip = 0,
                            .rank = static_cast<uint32_t>(trie.tokens.size()),
                            .depth = static_cast<uint8_t>(i),
                            .byte = byte});
    }
    trie.tokens.push_back(token);
    lengths.push_back(add_below(text, path, trie.nodes));
    before = text;
  }
  leave(0);
  trie.nodes.push_back({.skip = 0, .rank = static_cast<uint32_t>(trie.tokens.size()), .depth = 0, .byte = 0});
  const size_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  for (size_t length = 0; length <= longest; ++length) {
    for (size_t rank = 0; rank < lengths.size(); ++rank) {
      if (lengths[rank] == length) trie.by_length.push_back(trie.tokens[rank]);
    }
    trie.up_to.push_back(static_cast<uint32_t>(trie.by_length.size()));
  }
  return trie;
}

}  // namespace hearth
