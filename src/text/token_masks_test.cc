// Masks agree with the language whatever the vocabulary.
#include "text/token_masks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <fstream>
#include <random>
#include <thread>

#include "text/test_vocabulary.h"

namespace hearth {
namespace {

std::unique_ptr<const Tokenizer> tokenizer_of(TokenizerData data) {
  return std::move(*Tokenizer::create(std::move(data)));
}

bool has(std::span<const uint64_t> mask, Token token) {
  return (mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
}

// Bytes, and pieces of text that cross the borders of JSON, of characters and of words.
TokenizerData crossing_vocabulary() {
  TokenizerData data = byte_bpe_vocabulary();
  for (const std::string text : {"\"", "\":", "\",", "{\"", "\"}", "ab", "abcabc", "abcdefghijklmnopqrstuvwxyz", "\\\"",
                                 "true", "12", "3.5", "]}", ",", "\xC3\xA4", "\xE4\xBD", "\n"}) {
    std::string letters;
    for (const char c : text) letters += byte_letter(static_cast<uint8_t>(c));
    add_token(data, letters);
  }
  data.scores.clear();
  return data;
}

// Each token's bit says whether the text so far and the token together begin a text of the language.
void expect_exact(const Grammar::Shared& grammar, TokenMasks& masks, Constraint& constraint, const std::string& text) {
  const std::span<const uint64_t> allowed = constraint.allowed();
  const std::vector<uint64_t> mask(allowed.begin(), allowed.end());
  const Tokenizer& tokenizer = masks.tokenizer();
  for (Token token = 0; token < tokenizer.n_vocab(); ++token) {
    const std::string piece = tokenizer.bytes(token, false, text.empty());
    const bool may = tokenizer.ends_generation(token)
                         ? grammar->matches(text)
                         : !tokenizer.bytes(token, false, false).empty() && grammar->matches_prefix(text + piece);
    EXPECT_EQ(has(mask, token), may) << "\"" << text << "\" + \"" << piece << "\" (" << token << ")";
    EXPECT_EQ(constraint.accepts(token), may) << text << " + " << piece;
  }
}

const std::vector<std::string>& grammars() {
  static const std::vector<std::string> all = {
      R"(root ::= "{" "\"" [^"\\\x00-\x1f]* "\"" ":" ("true" | [0-9]+ ("." [0-9]+)?) "}")",
      R"(root ::= "\"" ([^"\\\x00-\x1f\x7f] | "\\" ["\\n]){0,5} "\"" [,\]}]*)",
      R"(root ::= "\"" [^"\\\x00-\x1f]{3,20} "\"")",
      R"(root ::= [a-z ]{2,4} root | "\n")",
      R"(root ::= . . "ab"* .*)",
      R"(root ::= " "? "hello" | "aaaa" "a"{0,9})",
      R"(root ::= [^b]*)",
  };
  return all;
}

TEST(TokenMasks, AreExactlyTheTokensThatGoOn) {
  const auto tokenizer = tokenizer_of(crossing_vocabulary());
  TokenMasks masks(*tokenizer);
  std::mt19937 random(1);
  for (const std::string& source : grammars()) {
    const auto grammar = *Grammar::from_gbnf(source);
    Constraint constraint(grammar, masks);
    std::string text;
    for (int step = 0; step < 12; ++step) {
      expect_exact(grammar, masks, constraint, text);
      const auto allowed = constraint.allowed();
      std::vector<Token> choice;
      for (Token token = 0; token < tokenizer->n_vocab(); ++token) {
        if (has(allowed, token) && !tokenizer->ends_generation(token)) choice.push_back(token);
      }
      if (choice.empty()) break;
      const Token token = choice[random() % choice.size()];
      ASSERT_TRUE(constraint.accept(token));
      text += tokenizer->bytes(token, false, false);
      EXPECT_EQ(constraint.complete(), grammar->matches(text)) << text;
    }
  }
}

// Thousands of words, so that whole branches of them are taken at once.
TokenizerData wordy_vocabulary() {
  TokenizerData data = byte_bpe_vocabulary();
  std::mt19937 random(5);
  const std::vector<std::string> pieces = {"a",
                                           "b",
                                           "e",
                                           "z",
                                           "A",
                                           "Z",
                                           "0",
                                           "7",
                                           " ",
                                           "_",
                                           "-",
                                           ".",
                                           "@",
                                           "\"",
                                           "\\",
                                           "\n",
                                           "\xC3\xA9",
                                           "\xC2\xA0",
                                           "\xE2\x80\xA8",
                                           "\xE4\xB8\xAD",
                                           "\xF0\x9F\x98\x80",
                                           "\xE4",
                                           "\xB8"};
  while (data.tokens.size() < 4000) {
    const size_t of_these = random() % 4 == 0 ? pieces.size() : random() % 2 == 0 ? 4 : 9;
    std::string letters;
    for (size_t n = 1 + random() % 7; n > 0; --n) {
      for (const char c : pieces[random() % of_these]) letters += byte_letter(static_cast<uint8_t>(c));
    }
    if (std::find(data.tokens.begin(), data.tokens.end(), letters) == data.tokens.end()) add_token(data, letters);
  }
  data.scores.clear();
  return data;
}

// Random answers; returns the masks met, and expects each to be what every token alone says.
std::vector<std::vector<uint64_t>> walk_randomly(TokenMasks& masks, const Grammar::Shared& grammar, uint32_t seed,
                                                 bool check) {
  std::mt19937 random(seed);
  Constraint constraint(grammar, masks);
  std::vector<std::vector<uint64_t>> met;
  for (int step = 0; step < 16; ++step) {
    const auto allowed = constraint.allowed();
    met.emplace_back(allowed.begin(), allowed.end());
    std::vector<Token> choice;
    for (Token token = 0; token < masks.tokenizer().n_vocab(); ++token) {
      const bool is_allowed = has(met.back(), token);
      if (is_allowed) choice.push_back(token);
      EXPECT_TRUE(!check || is_allowed == constraint.accepts(token)) << masks.tokenizer().bytes(token, true, false);
    }
    if (choice.empty() || !constraint.accept(choice[random() % choice.size()])) break;
  }
  return met;
}

std::vector<Grammar::Shared> wordy_grammars() {
  std::vector<Grammar::Shared> all;
  for (const std::string_view source :
       {R"(root ::= [a-z_]{1,9} ("." [a-z_]{1,3})*)", R"(root ::= [A-Za-z_] [A-Za-z0-9_]* "\"")",
        R"(root ::= "\""? [^"\\\x00-\x1F]{0,12} "\"")", R"(root ::= ([^a] | "a" [^e])* "z")",
        "root ::= .{3} [0-9a-f -]*"}) {
    all.push_back(*Grammar::from_gbnf(source));
  }
  for (const std::string_view source :
       {R"({"type":"object","properties":{"ab":{"type":"null"}},"additionalProperties":{"maxLength":9}})",
        R"({"type":"string","pattern":"^\\S+$"})", R"({"type":"string","pattern":"a\\W$"})", R"({"format":"email"})"}) {
    all.push_back(*Grammar::from_json_schema(boost::json::parse(source)));
  }
  return all;
}

TEST(TokenMasks, WholeBranchesAreAsTheirTokens) {
  const auto tokenizer = tokenizer_of(wordy_vocabulary());
  TokenMasks masks(*tokenizer);
  for (const Grammar::Shared& grammar : wordy_grammars())
    for (uint32_t seed = 0; seed < 4; ++seed) walk_randomly(masks, grammar, seed, true);
}

// Requests on several threads share what is known of a grammar, and still get what each would get alone.
TEST(TokenMasks, AreSharedAmongThreads) {
  const auto tokenizer = tokenizer_of(wordy_vocabulary());
  const std::vector<Grammar::Shared> grammars = wordy_grammars();
  TokenMasks alone(*tokenizer);
  TokenMasks shared(*tokenizer);
  constexpr uint32_t kThreads = 4;
  std::array<bool, kThreads> same{};
  std::vector<std::vector<std::vector<uint64_t>>> expected;
  for (uint32_t seed = 0; seed < kThreads; ++seed)
    for (const Grammar::Shared& grammar : grammars) expected.push_back(walk_randomly(alone, grammar, seed, false));
  {
    std::vector<std::jthread> threads;
    for (uint32_t seed = 0; seed < kThreads; ++seed) {
      threads.emplace_back([&, seed] {
        same[seed] = true;
        for (size_t i = 0; i < grammars.size(); ++i) {
          const auto met = walk_randomly(shared, grammars[i], seed, false);
          same[seed] = same[seed] && met == expected[seed * grammars.size() + i];
        }
      });
    }
  }
  for (const bool each : same) EXPECT_TRUE(each);
}

bool is_json(const std::string& text) {
  boost::system::error_code error;
  boost::json::parse(text, error);
  return !error;
}

// Random answers to every schema of the list that are finished are JSON in the language; those cut short can still become so.
// tests/reference/check_schemas.py validates such answers through the vocabularies of real models.
TEST(TokenMasks, RandomAnswersKeepToTheirSchemas) {
  const auto tokenizer = tokenizer_of(crossing_vocabulary());
  TokenMasks masks(*tokenizer);
  std::mt19937 random(2);
  std::ifstream file(std::string(HEARTH_TEST_DATA) + "/schemas/schemas.jsonl");
  int n_finished = 0;
  int n_schemas = 0;
  for (std::string line; std::getline(file, line); ++n_schemas) {
    const boost::json::value entry = boost::json::parse(line);
    const auto grammar = Grammar::from_json_schema(entry.at("schema"));
    const boost::json::value* refused = entry.as_object().if_contains("refused");
    ASSERT_EQ(grammar.has_value(), refused == nullptr) << line;
    if (refused != nullptr) {
      EXPECT_NE(grammar.error().message.find(refused->get_string()), std::string::npos) << grammar.error().message;
      continue;
    }
    Constraint constraint(*grammar, masks);
    std::string text;
    bool ended = false;
    for (int step = 0; step < 60 && !ended; ++step) {
      const auto allowed = constraint.allowed();
      std::vector<Token> choice;
      for (Token token = 0; token < tokenizer->n_vocab(); ++token) {
        if (has(allowed, token)) choice.push_back(token);
      }
      ASSERT_FALSE(choice.empty()) << line << " " << text;
      // Quotes and brackets often, so that answers end.
      const bool closes = step > 10 && random() % 4 != 0;
      const auto found = std::find_if(choice.begin(), choice.end(), [&](Token token) {
        const std::string piece = tokenizer->bytes(token, false, false);
        return piece == "\"" || piece == "}" || piece == "]" || tokenizer->ends_generation(token);
      });
      const Token token = closes && found != choice.end() ? *found : choice[random() % choice.size()];
      ASSERT_TRUE(constraint.accept(token)) << line << " " << text;
      ended = tokenizer->ends_generation(token);
      text += tokenizer->bytes(token, false, false);
    }
    EXPECT_TRUE((*grammar)->matches_prefix(text)) << line << " " << text;
    EXPECT_TRUE(!ended || ((*grammar)->matches(text) && is_json(text))) << line << " " << text;
    n_finished += ended ? 1 : 0;
  }
  EXPECT_GE(n_schemas, 300);
  EXPECT_GE(n_finished, n_schemas / 2);
}

// SentencePiece takes a space from the first token of an answer.
TEST(TokenMasks, TheFirstTokenLosesItsSpace) {
  const auto tokenizer = tokenizer_of(sentence_vocabulary());
  TokenMasks masks(*tokenizer);
  const auto grammar = *Grammar::from_gbnf("root ::= \"hello\" \" hell\"?");
  Constraint constraint(grammar, masks);
  expect_exact(grammar, masks, constraint, "");
  ASSERT_TRUE(constraint.accept(tokenizer->find("\xE2\x96\x81hello")));
  expect_exact(grammar, masks, constraint, "hello");
  EXPECT_TRUE(constraint.accept(tokenizer->find("\xE2\x96\x81hell")));
  EXPECT_TRUE(constraint.accept(tokenizer->data().eos));
  EXPECT_FALSE(constraint.accepts(tokenizer->data().eos)) << "nothing follows the end";
}

// llama.cpp #22234: a list of candidates shorter than the vocabulary; #27619: a stack that ran empty.
TEST(TokenMasks, S4_TokensThatAreNoneAreRefused_LC22234) {
  const auto tokenizer = tokenizer_of(byte_bpe_vocabulary());
  TokenMasks masks(*tokenizer);
  Constraint constraint(*Grammar::from_choices(std::vector<std::string>{"a"}), masks);
  for (const Token token : {-1, -2147483647 - 1, tokenizer->n_vocab(), 2147483647}) {
    EXPECT_FALSE(constraint.accept(token)) << token;
  }
  EXPECT_FALSE(constraint.accepts(tokenizer->data().eos)) << "not complete";
  ASSERT_TRUE(constraint.accept('a'));
  Constraint copy = constraint;
  EXPECT_FALSE(constraint.accepts('a'));
  ASSERT_TRUE(constraint.accept(tokenizer->data().eos));
  for (const uint64_t word : constraint.allowed()) EXPECT_EQ(word, 0u) << "nothing follows the end";
  EXPECT_TRUE(copy.accepts(tokenizer->data().eos)) << "a copy goes on by itself";
}

}  // namespace
}  // namespace hearth
