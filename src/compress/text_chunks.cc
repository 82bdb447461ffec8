#include "compress/text_chunks.h"

#include <random>
#include <utility>

namespace hearth::compress {

Chunks shuffled_chunks(const Tokenizer& tokenizer, std::string_view text, size_t length, uint64_t seed) {
  const std::vector<Token> tokens = tokenizer.encode(text, {.parse_special = false, .add_bos = false});
  const bool bos = tokenizer.data().add_bos && tokenizer.data().bos != kNoToken;
  Chunks chunks;
  for (size_t begin = 0; begin + length <= tokens.size(); begin += length) {
    const auto from = tokens.begin() + static_cast<ptrdiff_t>(begin);
    chunks.emplace_back(from, from + static_cast<ptrdiff_t>(length));
    if (bos) chunks.back().front() = tokenizer.data().bos;
  }
  std::mt19937_64 random(seed);
  for (size_t i = chunks.size(); i-- > 1;) std::swap(chunks[i], chunks[random() % (i + 1)]);
  return chunks;
}

}  // namespace hearth::compress
