#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hearth {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view name, std::string_view text) {
  Words words;
  PreTokenizer::find(name).value()->split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(PreTokenizer, AnUnknownNameIsRefusedByName) {
  const auto found = PreTokenizer::find("never-heard-of");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::kUnsupported);
  EXPECT_NE(found.error().message.find("never-heard-of"), std::string::npos);
}

TEST(PreTokenizer, Gpt2) {
  EXPECT_EQ(split("gpt-2", "Hello  world's 12345!\n\n x"),
            (Words{"Hello", " ", " world", "'s", " 12345", "!", "\n\n", " x"}));
  EXPECT_EQ(split("gpt-2", "I'M  "), (Words{"I", "'", "M", "  "}));
}

TEST(PreTokenizer, SmolLmKeepsDigitsApart) {
  EXPECT_EQ(split("smollm", "a  12 b"), (Words{"a", "  ", "1", "2", " b"}));
}

TEST(PreTokenizer, Llama3GroupsThreeDigits) {
  EXPECT_EQ(split("llama-bpe", "I'M 12345 ok!\r\n\r\n  x\t\ty"),
            (Words{"I", "'M", " ", "123", "45", " ok", "!\r\n\r\n", " ", " x", "\t", "\ty"}));
}

TEST(PreTokenizer, Qwen2KeepsDigitsApartAndQwen35KeepsMarksWithTheirLetters) {
  EXPECT_EQ(split("qwen2", "12 a"), (Words{"1", "2", " a"}));
  EXPECT_EQ(split("qwen2", "e\xCC\x81x"), (Words{"e", "\xCC\x81x"}));
  EXPECT_EQ(split("qwen35", "e\xCC\x81x"), (Words{"e\xCC\x81x"}));
}

TEST(PreTokenizer, TekkenBreaksWordsAtACapital) {
  EXPECT_EQ(split("tekken", "helloWorld HTTPServer ABC/\n1"),
            (Words{"hello", "World", " HTTPServer", " ABC", "/\n", "1"}));
  EXPECT_EQ(split("tekken", "don't"), (Words{"don", "'t"}));
  EXPECT_EQ(split("gpt-4o", "don't 1234"), (Words{"don't", " ", "123", "4"}));
  EXPECT_EQ(split("tekken",
                  "\xE4\xB8\xAD"
                  "AB"),
            (Words{"\xE4\xB8\xAD", "AB"}))
      << "a letter without case may end a word";
}

TEST(PreTokenizer, DefaultGroupsDigitsByThreeAfterPunctuation) {
  EXPECT_EQ(split("default", "a+b 1234567"), (Words{"a", "+", "b", " ", "123", "456", "7"}));
}

TEST(PreTokenizer, DeepSeekV3) {
  EXPECT_EQ(split("deepseek-v3",
                  "x 1234 (foo) \xE4\xB8\xAD\xE6\x96\x87"
                  "a"),
            (Words{"x", " ", "123", "4", " (", "foo", ")", " ", "\xE4\xB8\xAD\xE6\x96\x87", "a"}));
}

TEST(PreTokenizer, WordsTogetherAreTheTextWhateverTheBytes) {
  std::string bytes;
  for (int i = 0; i < 4096; ++i) bytes += static_cast<char>((i * 131 + i / 7) & 0xFF);
  for (const PreTokenizer& pre : PreTokenizer::all()) {
    std::string joined;
    pre.split(bytes, [&](std::string_view word) {
      EXPECT_FALSE(word.empty());
      joined += word;
    });
    EXPECT_EQ(joined, bytes) << pre.name;
  }
}

}  // namespace
}  // namespace hearth
