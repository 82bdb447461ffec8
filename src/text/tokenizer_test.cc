#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/pretokenizer.h"
#include "text/test_vocabulary.h"

namespace hearth {
namespace {

using Texts = std::vector<std::string>;

std::unique_ptr<const Tokenizer> make(TokenizerData data) {
  auto made = Tokenizer::create(std::move(data));
  EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
  return made ? std::move(*made) : nullptr;
}

Texts texts(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  Texts out;
  for (const Token token : tokens) out.push_back(tokenizer.data().tokens[static_cast<size_t>(token)]);
  return out;
}

TEST(ByteBpe, MergesByRankInsideWords) {
  const auto tokenizer = make(byte_bpe_vocabulary());
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("hello hello", {})), (Texts{"hello", "\xC4\xA0hello"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("aaaaaaa", {})), (Texts{"aaaa", "aa", "a"}));
  EXPECT_TRUE(tokenizer->encode("", {}).empty());
}

TEST(SentenceBpe, MergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = make(sentence_vocabulary());
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("hello hell", {})), (Texts{"\xE2\x96\x81hello", "\xE2\x96\x81hell"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("\xC3\xA9", {})), (Texts{"\xE2\x96\x81", "<0xC3>", "<0xA9>"}));
  EXPECT_EQ(tokenizer->encode("", {.add_bos = true}), std::vector<Token>{1});
}

TEST(SentenceBpe, WithoutByteTokensWhatIsUnknownIsOneUnknownToken) {
  TokenizerData data = sentence_vocabulary();
  data.kinds.assign(data.kinds.size(), TokenKind::kNormal);
  data.kinds[0] = TokenKind::kUnknown;
  data.add_space_prefix = false;
  const auto tokenizer = make(std::move(data));
  EXPECT_EQ(tokenizer->encode("\xC3\xA9\xC3\xA9", {}), std::vector<Token>{0});
}

TEST(Unigram, TakesTheCutWithTheBestSum) {
  TokenizerData data = sentence_vocabulary(TokenizerKind::kUnigram);
  const auto tokenizer = make(data);
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("hello hell", {})), (Texts{"\xE2\x96\x81hello", "\xE2\x96\x81hell"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("a  a", {})),
            (Texts{"\xE2\x96\x81", "a", "\xE2\x96\x81\xE2\x96\x81", "a"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("\xC3\xA9", {})), (Texts{"\xE2\x96\x81", "<0xC3>", "<0xA9>"}));
  for (TokenKind& kind : data.kinds) kind = kind == TokenKind::kByte ? TokenKind::kControl : kind;
  data.remove_extra_spaces = true;
  data.add_eos = true;
  const auto without_bytes = make(data);
  EXPECT_EQ(texts(*without_bytes, without_bytes->encode("  a  \xC3\xA9\xC3\xA9 ", {.add_bos = true})),
            (Texts{"<s>", "\xE2\x96\x81", "a", "\xE2\x96\x81", "<unk>", "</s>"}));
}

TEST(WordPiece, CoversCleanedWordsWithTheLongestPieces) {
  const auto tokenizer = make(word_piece_vocabulary());
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("Hello,HELLO \xE4\xB8\xAD"
                                                "a Caf\xC3\xA9s e\xCC\x81 aaaaaaa\xE2\x80\x8B!",
                                                {.add_bos = true})),
            (Texts{"[CLS]", "\xE2\x96\x81hello", "\xE2\x96\x81,", "\xE2\x96\x81hello", "\xE2\x96\x81\xE4\xB8\xAD",
                   "\xE2\x96\x81"
                   "a",
                   "\xE2\x96\x81"
                   "cafe",
                   "s", "[UNK]",
                   "\xE2\x96\x81"
                   "a",
                   "aaaa", "a", "a", "[UNK]", "[SEP]"}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("hello, hello", {})), "hello , hello");
}

TEST(SpecialTokens, ControlTokensOnlyWhenAskedUserDefinedAlways) {
  const auto tokenizer = make(byte_bpe_vocabulary());
  const std::string text = "hello<|im_end|><tool>hello";
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode(text, {.parse_special = true})),
            (Texts{"hello", "<|im_end|>", "<tool>", "hello"}));
  const Texts plain = texts(*tokenizer, tokenizer->encode(text, {}));
  EXPECT_EQ(std::count(plain.begin(), plain.end(), "<|im_end|>"), 0);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), "<tool>"), 1);
}

TEST(SpecialTokens, PlainTextNeverBecomesAControlToken) {
  TokenizerData data = sentence_vocabulary();
  add_token(data, "<s");  // with this piece, "<s>" could be merged
  const auto tokenizer = make(std::move(data));
  for (const Token token : tokenizer->encode("<s></s><s>", {})) EXPECT_GT(token, 2);
}

TEST(SpecialTokens, TheLongestWinsAndOverlapsAreCutFromTheLeft) {
  TokenizerData data = byte_bpe_vocabulary();
  for (const std::string text : {"<a", "<a>", "<a><a>", "a><b"}) add_token(data, text, TokenKind::kControl);
  data.scores.clear();
  const auto tokenizer = make(std::move(data));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("<a><a><a><b<a", {.parse_special = true})),
            (Texts{"<a><a>", "<a>", "<", "b", "<a"}));
}

TEST(Tokenizer, KnowsWhatEndsAnAnswer) {
  const auto tokenizer = make(byte_bpe_vocabulary());
  EXPECT_TRUE(tokenizer->ends_generation(tokenizer->find("<|endoftext|>")));
  EXPECT_TRUE(tokenizer->ends_generation(tokenizer->find("<|im_end|>"))) << "by its text: the file names only one";
  EXPECT_FALSE(tokenizer->ends_generation(tokenizer->find("<tool>")));
  EXPECT_FALSE(tokenizer->ends_generation(kNoToken));
  EXPECT_EQ(tokenizer->find("no such token"), kNoToken);
}

TEST(Tokenizer, ControlTokensAreNotPartOfTheText) {
  const auto tokenizer = make(byte_bpe_vocabulary());
  const std::vector<Token> tokens = tokenizer->encode("hello<|im_end|>", {.parse_special = true});
  EXPECT_EQ(tokenizer->decode(tokens), "hello");
  EXPECT_EQ(tokenizer->decode(tokens, true), "hello<|im_end|>");
  EXPECT_EQ(tokenizer->bytes(-1, true, false), "");
  EXPECT_EQ(tokenizer->bytes(1 << 20, true, false), "");
}

TEST(Detokenizer, NeverGivesHalfACharacter) {
  for (const auto& tokenizer : {make(byte_bpe_vocabulary()), make(sentence_vocabulary())}) {
    const std::string text = "hello \xF0\x9F\x98\x80\xC3\xA9 \xE4\xB8\xAD";
    Detokenizer detokenizer(*tokenizer);
    std::string out;
    for (const Token token : tokenizer->encode(text, {})) {
      const std::string piece = detokenizer.push(token);
      EXPECT_TRUE(is_utf8(piece));
      out += piece;
    }
    EXPECT_EQ(out + detokenizer.finish(), text);
  }
}

TEST(Detokenizer, BrokenBytesBecomeReplacementCharacters) {
  const auto tokenizer = make(byte_bpe_vocabulary());
  Detokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.finish(), "");
}

std::string random_text(std::mt19937_64& random, bool valid) {
  std::string text;
  const size_t n = random() % 60;
  for (size_t i = 0; i < n; ++i) {
    switch (random() % 6) {
      case 0:
        text += "hello";
        break;
      case 1:
        text += "a ";
        break;
      case 2:
        text += static_cast<char>(valid ? random() % 128 : random() % 256);
        break;
      case 3:
        append_utf8(static_cast<char32_t>(random() % 0x250), text);
        break;
      case 4:
        append_utf8(static_cast<char32_t>(0x3000 + random() % 0x7000), text);
        break;
      default:
        append_utf8(static_cast<char32_t>(0x10000 + random() % 0x100000), text);
        break;
    }
  }
  return text;
}

TEST(Tokenizer, DecodingWhatWasEncodedGivesTheSameBytes) {
  std::mt19937_64 random(1);
  for (const PreTokenizer& pre : PreTokenizer::all()) {
    const auto tokenizer = make(byte_bpe_vocabulary(std::string(pre.name)));
    for (int i = 0; i < 50; ++i) {
      const std::string text = random_text(random, i % 2 == 0);
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(text, {})), text) << pre.name;
    }
  }
  for (const bool prefix : {true, false}) {
    TokenizerData data = sentence_vocabulary();
    data.add_space_prefix = prefix;
    const auto tokenizer = make(std::move(data));
    for (int i = 0; i < 500; ++i) {
      const std::string text = random_text(random, i % 2 == 0);
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(text, {})), text);
    }
  }
}

}  // namespace
}  // namespace hearth
