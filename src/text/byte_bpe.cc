// Byte-level byte pair encoding (Radford et al. 2019, section 2.2): every byte is written as a printable character, so
// every text has tokens.
#include <array>
#include <functional>
#include <unordered_map>

#include "base/limits.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

// GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 and on.
struct ByteAlphabet {
  std::array<char32_t, 256> to_char{};
  std::array<int16_t, 512> to_byte{};
};
const ByteAlphabet& alphabet() {
  static const ByteAlphabet table = [] {
    ByteAlphabet t;
    t.to_byte.fill(-1);
    char32_t next = 256;
    for (size_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      t.to_char[byte] = printable ? static_cast<char32_t>(byte) : next++;
      t.to_byte[t.to_char[byte]] = static_cast<int16_t>(byte);
    }
    return t;
  }();
  return table;
}

class ByteBpe final : public VocabularyTokenizer {
 public:
  ByteBpe(TokenizerData data, std::vector<bool> matches, const PreTokenizer& pre)
      : VocabularyTokenizer(std::move(data), std::move(matches)),
        pre_(pre),
        ignore_merges_(data_.ignore_merges || pre.ignore_merges) {}

  Result<void> read_merges();

 protected:
  void encode_text(std::string_view text, bool at_start, std::vector<Token>& out) const override;
  [[nodiscard]] std::string normal_bytes(const std::string& text) const override;
  [[nodiscard]] bool drops_first_space() const override { return false; }

 private:
  void encode_word(std::string_view word, MergeSpace& space, std::string& written, std::vector<Token>& out) const;
  void append_bytes(std::string_view bytes, std::vector<Token>& out) const;
  // Of the two texts that a merge rule joins.
  void prefetch_names(std::string_view merge) const;

  const PreTokenizer& pre_;
  bool ignore_merges_;
  PairTable merges_;
  // Symbols are token ids; texts that occur only in merges come after the vocabulary.
  std::array<int32_t, 256> byte_symbol_{};
};

// Ids of texts: tokens that plain text may become, and further ones as they appear.
class SymbolNames {
 public:
  using Find = std::function<Token(std::string_view)>;
  SymbolNames(Find find, int n_vocab) : find_(std::move(find)), next_(n_vocab) {}
  int32_t id(std::string_view text) {
    const Token token = find_(text);
    if (token != kNoToken) return token;
    const auto [at, added] = further_.try_emplace(std::string(text), next_);
    if (added) ++next_;
    return at->second;
  }

 private:
  Find find_;
  int32_t next_;
  std::unordered_map<std::string, int32_t> further_;
};

Result<void> ByteBpe::read_merges() {
  SymbolNames names([this](std::string_view text) { return find_plain(text); }, n_vocab());
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(alphabet().to_char[byte], text);
    byte_symbol_[byte] = names.id(text);
  }
  merges_.reserve(data_.merges.size());
  struct Pair {
    uint32_t left, right;
    PairTable::Entry entry;
  };
  std::array<Pair, 8>
      waiting;  // for its place in the table to come from memory, as names do kAhead before they are asked for
  constexpr size_t kAhead = 8;
  std::string merged;
  Token guess = kNoToken;  // most files have their merges' tokens in the order of the merges
  const size_t n = data_.merges.size();
  for (size_t rank = 0; rank < n + waiting.size(); ++rank) {
    Pair& pair = waiting[rank % waiting.size()];
    if (rank >= waiting.size()) merges_.insert(pair.left, pair.right, pair.entry);
    if (rank + kAhead < n) prefetch_names(data_.merges[rank + kAhead]);
    if (rank >= n) continue;
    const std::string_view merge = data_.merges[rank];
    const size_t space = TRY(space_of_merge(merge, rank));
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    merged.assign(left).append(right);
    pair = {static_cast<uint32_t>(names.id(left)), static_cast<uint32_t>(names.id(right)), {}};
    const bool guessed = texts_are_unique() && ++guess < n_vocab() && matches_text(guess) && text_of(guess) == merged;
    if (!guessed) guess = names.id(merged);
    pair.entry = {static_cast<uint32_t>(rank), guess};
    merges_.prefetch(pair.left, pair.right);
  }
  data_.merges = std::vector<std::string>();  // as large as the vocabulary, and nothing reads them any more
  return {};
}

void ByteBpe::prefetch_names(std::string_view merge) const {
  const size_t space = merge.find(' ', 1);
  if (space == merge.npos) return;
  prefetch(merge.substr(0, space));
  prefetch(merge.substr(space + 1));
}

void ByteBpe::append_bytes(std::string_view bytes, std::vector<Token>& out) const {
  for (const char c : bytes) {
    const int32_t symbol = byte_symbol_[static_cast<uint8_t>(c)];
    if (symbol < n_vocab()) {
      out.push_back(symbol);
    } else if (data_.unk != kNoToken && kind_of(data_.unk) == TokenKind::kUnknown) {
      out.push_back(data_.unk);
    }  // else nothing: some files name their end-of-text token as unknown, and no text may become that
  }
}

void ByteBpe::encode_word(std::string_view word, MergeSpace& space, std::string& written,
                          std::vector<Token>& out) const {
  if (ignore_merges_ && word.size() <= token_bytes_max()) {
    written.clear();
    for (const char c : word) append_utf8(alphabet().to_char[static_cast<uint8_t>(c)], written);
    if (const Token whole = find_plain(written); whole != kNoToken) return out.push_back(whole);
  }
  space.clear();
  for (size_t i = 0; i < word.size(); ++i) {
    space.push_symbol(byte_symbol_[static_cast<uint8_t>(word[i])], static_cast<uint32_t>(i), 1);
  }
  space.merge_all([this](const MergeSymbol& left, const MergeSymbol& right) {
    const PairTable::Entry found = merges_.find(static_cast<uint32_t>(left.id), static_cast<uint32_t>(right.id));
    return MergeResult{found.rank, found.value};
  });
  for (const MergeSymbol& symbol : space.symbols) {
    if (symbol.n_bytes == 0) continue;
    if (symbol.id < n_vocab()) {
      out.push_back(symbol.id);
    } else {
      append_bytes(word.substr(symbol.begin, symbol.n_bytes), out);
    }
  }
}

void ByteBpe::encode_text(std::string_view text, bool /*at_start*/, std::vector<Token>& out) const {
  MergeSpace space;
  std::string written;
  std::string composed;
  if (data_.normalize_nfc) {
    composed = to_nfc(text);
    text = composed;
  }
  pre_.split(text, [&](std::string_view word) { encode_word(word, space, written, out); });
}

std::string ByteBpe::normal_bytes(const std::string& text) const {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    const int byte = c.valid && c.code_point < 512 ? alphabet().to_byte[c.code_point] : -1;
    if (byte < 0) return text;  // not written in the alphabet: the text stands for itself
    out += static_cast<char>(byte);
    at += c.n_bytes;
  }
  return out;
}

}  // namespace

TokenizerResult make_byte_bpe(TokenizerData data, std::vector<bool> matches) {
  const PreTokenizer* pre = TRY(PreTokenizer::find(data.pre));
  auto tokenizer = std::make_unique<ByteBpe>(std::move(data), std::move(matches), *pre);
  TRY(tokenizer->read_merges());
  return tokenizer;
}

}  // namespace hearth
