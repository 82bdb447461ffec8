// What broke other engines' tokenizers, and must not break this one. Each test names the failure's number in the list
// of known failures (T1 to T7) and, where it has one, the public report.
#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>
#include <limits>
#include <set>

#include "base/limits.h"
#include "text/charsmap.h"
#include "text/pretokenizer.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"

namespace hearth {
namespace {

constexpr size_t kMiB = 1 << 20;

std::vector<TokenizerData> one_of_each_kind() {
  return {byte_bpe_vocabulary(), sentence_vocabulary(), sentence_vocabulary(TokenizerKind::kUnigram),
          word_piece_vocabulary()};
}

void expect_error(TokenizerData data, Code code, const std::string& words) {
  const auto made = Tokenizer::create(std::move(data));
  ASSERT_FALSE(made.has_value()) << words;
  EXPECT_EQ(made.error().code, code);
  EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
}

// Runs it on a thread whose stack is as small as an embedded program's.
void on_a_small_stack(const std::function<void()>& run) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 256 * 1024), 0);
  pthread_t thread;
  const auto start = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, start, const_cast<std::function<void()>*>(&run)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(TokenizerHostile, T1_ArrayLengthsDisagreeWithTheTokenCount_LC20735_LC24888) {
  for (const int change : {-1, 1}) {
    TokenizerData data = sentence_vocabulary();
    data.scores.resize(data.scores.size() + static_cast<size_t>(change));
    expect_error(data, Code::kMalformed, "token scores for");
    data = sentence_vocabulary();
    data.kinds.resize(data.kinds.size() + static_cast<size_t>(change));
    expect_error(data, Code::kMalformed, "token types for");
  }
  for (const TokenizerKind kind : {TokenizerKind::kSentenceBpe, TokenizerKind::kUnigram}) {
    TokenizerData data = sentence_vocabulary(kind);
    data.scores.clear();
    expect_error(data, Code::kMalformed, "needs token scores");
  }
  expect_error({}, Code::kMalformed, "no tokens");
}

TEST(TokenizerHostile, T2_SpecialIdsBeyondTheVocabulary_GHSA_g4cc_763q_h9h6_LC14145_LC25508) {
  for (const TokenizerData& whole : one_of_each_kind()) {
    const auto n_vocab = static_cast<Token>(whole.tokens.size());
    for (Token TokenizerData::* id :
         {&TokenizerData::bos, &TokenizerData::eos, &TokenizerData::eot, &TokenizerData::unk, &TokenizerData::pad,
          &TokenizerData::sep, &TokenizerData::cls, &TokenizerData::mask}) {
      for (const Token bad : {n_vocab, -2, std::numeric_limits<Token>::max(), std::numeric_limits<Token>::min()}) {
        TokenizerData data = whole;
        data.*id = bad;
        expect_error(data, Code::kMalformed, "is not in the vocabulary");
      }
    }
    for (const Token bad : {n_vocab, -1}) {
      TokenizerData data = whole;
      data.end_of_generation = {0, bad};
      expect_error(data, Code::kMalformed, "end-of-generation token id");
    }
  }
}

TEST(TokenizerHostile, T3_ByteTokensThatAreNoBytes_LC25969_LC26511_LC27226) {
  for (const std::string text :
       {"<0x-1>", "<0x>", "<0x1>", "<0x100>", "<0xG0>", "<0x 1>", "0x01", "", "<0x0A", "<0X0A>"}) {
    for (const TokenizerKind kind : {TokenizerKind::kSentenceBpe, TokenizerKind::kUnigram}) {
      TokenizerData data = sentence_vocabulary(kind);
      add_token(data, text, TokenKind::kByte, 0);
      expect_error(data, Code::kMalformed, "byte token");
    }
  }
  TokenizerData data = sentence_vocabulary();
  add_token(data, "<0x-1>", TokenKind::kNormal, 0);  // as text it is harmless
  EXPECT_TRUE(Tokenizer::create(data));
}

std::string charsmap(uint32_t n_bytes, const std::vector<uint32_t>& units, const std::string& replacements) {
  std::string out;
  const auto put = [&](uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift & 0xFF);
  };
  put(n_bytes);
  for (const uint32_t unit : units) put(unit);
  return out + replacements;
}

TEST(TokenizerHostile, T4_CharsmapShorterThanItsHeader_LC25258_LC18750) {
  const std::string end(1, '\0');
  for (const std::string& bad : {std::string("a"), std::string("abc"), charsmap(0, {}, ""), charsmap(4, {1}, ""),
                                 charsmap(8, {1}, end), charsmap(3, {1}, end), charsmap(0xFFFFFFFF, {1}, end),
                                 charsmap(0xFFFFFFFC, {1}, end), charsmap(4, {1}, "no end")}) {
    TokenizerData data = sentence_vocabulary(TokenizerKind::kUnigram);
    data.precompiled_charsmap = bad;
    expect_error(data, Code::kMalformed, "precompiled charsmap");
  }
  TokenizerData data = sentence_vocabulary(TokenizerKind::kUnigram);
  data.precompiled_charsmap = charsmap(4, {1}, std::string(100'000, 'x') + end);
  expect_error(data, Code::kLimit, "a replacement of 100000 bytes");
}

TEST(TokenizerHostile, T4_CharsmapThatPointsOutsideItselfReplacesNothing) {
  const std::string end(1, '\0');
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  for (const uint32_t unit : {0u, 1u, 0x61u, 0x161u, 0x400u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0xFFFFFE61u, 0x361u}) {
    const auto map = Charsmap::create(charsmap(16, {unit, unit, unit, unit}, "x" + end));
    ASSERT_TRUE(map);
    for (size_t at = 0; at < text.size(); ++at) {
      const Charsmap::Match match = map->longest(std::string_view(text).substr(at));
      EXPECT_LE(match.n_bytes, text.size() - at);
      EXPECT_LE(match.replacement.size(), 1u);
    }
  }
}

TEST(TokenizerHostile, T5_TokensOfManyBytes_CVE_2025_49847_CVE_2025_52566) {
  TokenizerData data = byte_bpe_vocabulary();
  data.tokens[300 % data.tokens.size()] = std::string(limits::kTokenBytes + 1, 'x');
  expect_error(data, Code::kLimit, "65537 bytes");
  data = byte_bpe_vocabulary();
  add_token(data, std::string(limits::kTokenBytes, 'x'));
  data.scores.clear();
  const auto made = Tokenizer::create(data);
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->bytes((*made)->n_vocab() - 1, false, false).size(), limits::kTokenBytes);
  data = sentence_vocabulary(TokenizerKind::kUnigram);
  add_token(data, std::string(limits::kPieceBytes + 1, 'x'));
  expect_error(data, Code::kLimit, "513 bytes");
  data = byte_bpe_vocabulary();
  for (int i = 0; i < 300; ++i) add_token(data, std::string(limits::kTokenBytes, 'x'), TokenKind::kControl);
  data.scores.clear();
  expect_error(data, Code::kLimit, "the special tokens have");
}

TEST(TokenizerHostile, T6_OneMebibyteOfOneCharacterOnASmallStack_LC27783_LC21257_LC14655_LC26965) {
  for (const TokenizerData& data : one_of_each_kind()) {
    const auto made = Tokenizer::create(data);
    ASSERT_TRUE(made);
    for (const std::string unit : {"a", "Z", " ", "\n", "1", "\xC3\xA9", "\xFF", "<tool"}) {
      std::string text;
      while (text.size() < kMiB) text += unit;
      std::vector<Token> tokens;
      on_a_small_stack([&] { tokens = (*made)->encode(text, {.parse_special = true}); });
      if (data.kind == TokenizerKind::kByteBpe || data.kind == TokenizerKind::kSentenceBpe) {
        EXPECT_TRUE((*made)->decode(tokens) == text) << unit;
      }
    }
  }
}

TEST(TokenizerHostile, T6_EveryPreTokenizerTakesAMebibyteOfOneCharacterOnASmallStack) {
  std::set<const void*> seen;
  for (const PreTokenizer& pre : PreTokenizer::all()) {
    if (!seen.insert(pre.stages.data()).second) continue;  // another name of the same rules
    for (const std::string unit : {"a", "A", " ", "\n", "1", "!", "'s", "\xE4\xB8\xAD"}) {
      std::string text;
      while (text.size() < kMiB) text += unit;
      size_t n_bytes = 0;
      on_a_small_stack([&] { pre.split(text, [&](std::string_view word) { n_bytes += word.size(); }); });
      EXPECT_EQ(n_bytes, text.size()) << pre.name;
    }
  }
}

TEST(TokenizerHostile, T7_MergingIsNotQuadratic) {
  // A vocabulary in which every merge of a run of one letter makes room for another one.
  TokenizerData data = byte_bpe_vocabulary();
  data.merges.clear();
  std::string run = "a";
  for (int i = 0; i < 64; ++i) {
    data.merges.push_back(run + " a");
    run += "a";
    add_token(data, run);
  }
  data.scores.clear();
  const auto made = Tokenizer::create(data);
  ASSERT_TRUE(made);
  const std::string text(kMiB, 'a');
  EXPECT_TRUE((*made)->decode((*made)->encode(text, {})) == text);
}

TEST(TokenizerHostile, T7_OfTokensWithTheSameTextTheFirstCounts) {
  for (TokenizerData data : one_of_each_kind()) {
    const auto n = data.tokens.size();
    for (size_t i = 0; i < n; ++i) {
      data.tokens.push_back(data.tokens[i]);
      if (!data.kinds.empty()) data.kinds.push_back(data.kinds[i]);
      if (!data.scores.empty()) data.scores.push_back(1);
    }
    const auto made = Tokenizer::create(data);
    ASSERT_TRUE(made);
    for (const Token token : (*made)->encode("hello aaaa <tool>[CLS]", {.parse_special = true})) {
      EXPECT_LT(token, static_cast<Token>(n));
    }
  }
}

TEST(TokenizerHostile, T7_MergesThatCanNeverHappenOrLeadOutOfTheVocabulary) {
  TokenizerData data = byte_bpe_vocabulary();
  data.merges.insert(data.merges.begin(), {"x y", "xy z", "never seen", "\xFF \xFE", "h  e"});
  const auto made = Tokenizer::create(data);
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->decode((*made)->encode("xyz never seen hello", {})), "xyz never seen hello");
  for (const std::string bad : {"", " ", "ab", "ab ", " ab"}) {
    data.merges = {"a a", bad};
    expect_error(data, Code::kMalformed, "merge 1 is");
  }
}

TEST(TokenizerHostile, T7_TokensThatAreNoUtf8OrEmpty) {
  for (TokenizerData data : one_of_each_kind()) {
    for (const std::string text : {"\xFF\xFE", "\xE2\x96", "\xC4", ""}) {
      data.tokens.push_back(text);
      if (!data.kinds.empty()) data.kinds.push_back(TokenKind::kNormal);
      if (!data.scores.empty()) data.scores.push_back(-1);
    }
    const auto made = Tokenizer::create(data);
    ASSERT_TRUE(made);
    (void)(*made)->encode("\xFF\xFE \xE2\x96 \xC4", {});
    EXPECT_EQ((*made)->bytes((*made)->n_vocab() - 4, false, false), "\xFF\xFE");
    EXPECT_EQ((*made)->find(""), kNoToken);
  }
}

TEST(TokenizerHostile, T7_ScoresThatAreNoNumbers) {
  TokenizerData data = sentence_vocabulary();
  data.scores[5] = std::numeric_limits<float>::quiet_NaN();
  expect_error(data, Code::kMalformed, "the score of token 5");
  for (const TokenizerKind kind : {TokenizerKind::kSentenceBpe, TokenizerKind::kUnigram}) {
    data = sentence_vocabulary(kind);
    for (size_t i = 0; i < data.scores.size(); ++i) {
      data.scores[i] = (i % 2 == 0 ? 1.0f : -1.0f) * std::numeric_limits<float>::infinity();
    }
    const auto made = Tokenizer::create(data);
    ASSERT_TRUE(made);
    (void)(*made)->encode("hello hello", {});
  }
}

TEST(TokenizerHostile, T7_SpecialTokensThatAlmostMatchEverywhereCostLinearTime) {
  TokenizerData data = byte_bpe_vocabulary();
  for (int i = 1; i < 200; ++i)
    add_token(data, std::string(static_cast<size_t>(i) * 50, 'a') + "b", TokenKind::kUserDefined);
  data.scores.clear();
  const auto made = Tokenizer::create(data);
  ASSERT_TRUE(made);
  const std::string text(kMiB, 'a');
  EXPECT_TRUE((*made)->decode((*made)->encode(text, {})) == text);
}

}  // namespace
}  // namespace hearth
