// Text through the tokenizers of every kind and pre-tokenizer. The first byte chooses the tokenizer, the second the
// options.
#include <memory>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "text/pretokenizer.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace hearth;
using Tokenizers = std::vector<std::unique_ptr<const Tokenizer>>;

const Tokenizers& tokenizers() {
  static const Tokenizers all = [] {
    Tokenizers made;
    const auto add = [&](TokenizerData data) { made.push_back(Tokenizer::create(std::move(data)).value()); };
    for (const PreTokenizer& pre : PreTokenizer::all()) add(byte_bpe_vocabulary(std::string(pre.name)));
    for (const TokenizerKind kind : {TokenizerKind::kSentenceBpe, TokenizerKind::kUnigram}) {
      for (const bool prefix : {false, true}) {
        TokenizerData data = sentence_vocabulary(kind);
        data.add_space_prefix = prefix;
        data.remove_extra_spaces = prefix && kind == TokenizerKind::kUnigram;
        add(std::move(data));
      }
    }
    add(word_piece_vocabulary());
    return made;
  }();
  return all;
}

// Whether decoding must give back the text to the byte.
bool keeps_bytes(const TokenizerData& data, std::string_view text) {
  if (data.kind == TokenizerKind::kByteBpe) return true;
  if (data.kind != TokenizerKind::kSentenceBpe || text.contains("\xE2\x96\x81")) return false;
  return !data.add_space_prefix || !text.contains("<tool>");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 2) return 0;
  const Tokenizer& tokenizer = *tokenizers()[bytes[0] % tokenizers().size()];
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 2, size - 2);
  const std::vector<Token> plain = tokenizer.encode(text, {});
  if (keeps_bytes(tokenizer.data(), text)) CHECK(tokenizer.decode(plain) == text);

  const std::vector<Token> special =
      tokenizer.encode(text, {.parse_special = (bytes[1] & 1) != 0, .add_bos = (bytes[1] & 2) != 0});
  Detokenizer detokenizer(tokenizer, (bytes[1] & 4) != 0);
  for (const Token token : special) {
    CHECK(token >= 0 && token < tokenizer.n_vocab());
    CHECK(is_utf8(detokenizer.push(token)));
  }
  CHECK(is_utf8(detokenizer.finish()));
  return 0;
}
