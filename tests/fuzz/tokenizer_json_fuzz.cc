// Tokenizer files: the four texts are separated by a zero byte. What is read is built and used.
#include <array>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace hearth;
  std::string_view rest(reinterpret_cast<const char*>(bytes), size);
  std::array<std::string_view, 4> texts;
  for (std::string_view& text : texts) {
    text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
  }
  auto files = read_tokenizer_json({texts[0], texts[1], texts[2], texts[3]});
  if (!files) {
    CHECK(!files.error().message.empty());
    return 0;
  }
  const auto tokenizer = Tokenizer::create(std::move(files->data));
  if (!tokenizer) return 0;
  constexpr std::string_view kText =
      "Hello, hello <s></s> \xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 e\xCC\x81 123\r\n\t aaaa\xFF";
  for (const bool special : {false, true}) {
    for (const Token token : (*tokenizer)->encode(kText, {.parse_special = special, .add_bos = special})) {
      CHECK(token >= 0 && token < (*tokenizer)->n_vocab());
      (void)(*tokenizer)->bytes(token, special, true);
    }
  }
  return 0;
}
