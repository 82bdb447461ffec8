#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "base/limits.h"
#include "text/test_vocabulary.h"

namespace hearth {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

object byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}
object split(std::string_view expression) {
  return {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}};
}
object sequence(std::string_view list, const array& parts) { return {{"type", "Sequence"}, {list, parts}}; }

// A tokenizer.json with the vocabulary of the tests, merges as texts or as pairs.
object byte_bpe_file(bool merges_as_pairs = false) {
  const TokenizerData data = byte_bpe_vocabulary();
  object vocab;
  array added;
  array merges;
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (data.kinds[i] == TokenKind::kNormal) {
      vocab[data.tokens[i]] = i;
    } else {
      added.push_back(
          object{{"id", i}, {"content", data.tokens[i]}, {"special", data.kinds[i] == TokenKind::kControl}});
    }
  }
  for (const std::string& merge : data.merges) {
    const size_t space = merge.find(' ');
    if (merges_as_pairs) {
      merges.push_back(array{value(merge.substr(0, space)), value(merge.substr(space + 1))});
    } else {
      merges.emplace_back(merge);
    }
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level(true)},
          {"model", {{"type", "BPE"}, {"unk_token", nullptr}, {"vocab", vocab}, {"merges", merges}}}};
}

Result<TokenizerFiles> read(const object& root, std::string_view config = {}, std::string_view generation = {}) {
  const std::string text = boost::json::serialize(root);
  return read_tokenizer_json({.tokenizer = text, .tokenizer_config = config, .generation_config = generation});
}

void expect_unsupported(const object& root, const std::string& name) {
  const auto files = read(root);
  ASSERT_FALSE(files) << name;
  EXPECT_EQ(files.error().code, Code::kUnsupported) << files.error().message;
  EXPECT_NE(files.error().message.find(name), std::string::npos) << files.error().message;
}

TEST(TokenizerJson, GivesTheSameTokensAsTheVocabularyItWasMadeFrom) {
  const auto expected = Tokenizer::create(byte_bpe_vocabulary());
  const std::string text = "hello hello aaaaa<|im_end|><tool> \xC3\xA9 12";
  for (const bool pairs : {false, true}) {
    const auto files = read(byte_bpe_file(pairs));
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(files->data.pre, "gpt-2");
    const auto tokenizer = Tokenizer::create(files->data);
    ASSERT_TRUE(tokenizer);
    for (const bool special : {false, true}) {
      EXPECT_EQ((*tokenizer)->encode(text, {.parse_special = special}),
                (*expected)->encode(text, {.parse_special = special}));
    }
  }
}

TEST(TokenizerJson, KnowsTheExpressionsOfTheFamilies) {
  const std::string spaces = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|";
  const std::vector<std::pair<std::string, std::string>> known{
      {contractions + R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" + spaces, "dbrx"},
      {contractions + R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" + spaces, "qwen2"},
      {contractions + R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" + spaces, "qwen35"}};
  object root = byte_bpe_file();
  for (const auto& [expression, name] : known) {
    root["pre_tokenizer"] = sequence("pretokenizers", {split(expression), byte_level(false)});
    const auto files = read(root);
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(files->data.pre, name);
  }
  root["pre_tokenizer"] =
      sequence("pretokenizers", {object{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)});
  EXPECT_EQ(read(root)->data.pre, "smollm");
  root["normalizer"] = object{{"type", "NFC"}};
  EXPECT_TRUE(read(root)->data.normalize_nfc);
}

TEST(TokenizerJson, ComposesTextFirstWhereTheFileAsksForIt) {
  object root = byte_bpe_file();
  root["normalizer"] = object{{"type", "NFC"}};
  const auto tokenizer = Tokenizer::create(read(root)->data);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ((*tokenizer)->encode("e\xCC\x81", {}), (*tokenizer)->encode("\xC3\xA9", {}));
  EXPECT_EQ((*tokenizer)
                ->decode((*tokenizer)
                             ->encode("\xFF"
                                      "e\xCC\x81\xE2\x82",
                                      {})),
            "\xFF\xC3\xA9\xE2\x82");
  std::string marks = "e";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3";  // must not take quadratic time
  const std::string composed = (*tokenizer)->decode((*tokenizer)->encode(marks, {}));
  EXPECT_TRUE(composed.starts_with("\xE1\xBA\xB9")) << "the dot below goes first, though it comes second";
  EXPECT_EQ(composed.size(), marks.size());
}

TEST(TokenizerJson, WhatIsNotKnownIsRefusedByName) {
  object root = byte_bpe_file();
  root["pre_tokenizer"] = object{{"type", "Mystery"}};
  expect_unsupported(root, "Mystery");
  root["pre_tokenizer"] = sequence("pretokenizers", {object{{"type", "Mystery"}}, byte_level(false)});
  expect_unsupported(root, "Mystery");
  root["pre_tokenizer"] = sequence("pretokenizers", {split("[a-z]+"), byte_level(false)});
  expect_unsupported(root, "[a-z]+");
  root = byte_bpe_file();
  root["normalizer"] = object{{"type", "Lowercase"}};
  expect_unsupported(root, "Lowercase");
  root = byte_bpe_file();
  root["post_processor"] = object{{"type", "Strange"}};
  expect_unsupported(root, "Strange");
  root = byte_bpe_file();
  root["model"].as_object()["type"] = "WordLevel";
  expect_unsupported(root, "WordLevel");
  root["model"].as_object()["type"] = "BPE";
  root["model"].as_object()["end_of_word_suffix"] = "</w>";
  expect_unsupported(root, "end_of_word_suffix");
}

TEST(TokenizerJson, MalformedFilesAreErrors) {
  for (const std::string_view text :
       {"", "{", "[]", "{}", R"({"model": 1})", R"({"model": {"type": "BPE"}})",
        R"({"model": {"type": "BPE", "vocab": {}}})", R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 1e9}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 2097152}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 2097151}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})",
        R"({"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [1]}})",
        R"({"model": {"type": "Unigram", "vocab": [["a"]]}})",
        R"({"model": {"type": "Unigram", "vocab": [], "unk_id": -3}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": 3})"}) {
    const auto files = read_tokenizer_json({.tokenizer = text});
    ASSERT_FALSE(files) << text;
    EXPECT_EQ(files.error().code, Code::kMalformed) << text;
  }
  const std::string deep(limits::kJsonDepth + 10, '[');
  EXPECT_EQ(read_tokenizer_json({.tokenizer = deep}).error().code, Code::kLimit);
}

TEST(TokenizerJson, TakesNamedTokensTheTemplateAndTheEndsFromTheFilesBeside) {
  const auto files = read(byte_bpe_file(), R"({"bos_token": {"content": "<|endoftext|>"}, "eos_token": "<|im_end|>",
      "add_bos_token": true, "chat_template": "{{ messages }}"})",
                          R"({"eos_token_id": [265, 264, 999999]})");
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->data.tokens[static_cast<size_t>(files->data.bos)], "<|endoftext|>");
  EXPECT_EQ(files->data.tokens[static_cast<size_t>(files->data.eos)], "<|im_end|>");
  EXPECT_TRUE(files->data.add_bos);
  EXPECT_EQ(files->chat_template, "{{ messages }}");
  EXPECT_EQ(files->data.end_of_generation, (std::vector<Token>{265, 264}));
  const auto named = read(byte_bpe_file(), R"({"chat_template": [{"name": "tool_use", "template": "a"},
      {"name": "default", "template": "b"}]})");
  EXPECT_EQ(named->chat_template, "b");
}

TEST(TokenizerJson, SentencePieceWithRankedMerges) {
  object vocab{{"<unk>", 0},
               {"<0xC3>", 1},
               {"<0xA9>", 2},
               {"\xE2\x96\x81", 3},
               {"a", 4},
               {"b", 5},
               {"ab", 6},
               {"\xE2\x96\x81"
                "ab",
                7},
               {"ba", 8}};
  object root{{"added_tokens", array{object{{"id", 0}, {"content", "<unk>"}, {"special", true}}}},
              {"normalizer",
               sequence("normalizers",
                        {object{{"type", "Prepend"}, {"prepend", "\xE2\x96\x81"}},
                         object{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}}})},
              {"model",
               {{"type", "BPE"},
                {"byte_fallback", true},
                {"unk_token", "<unk>"},
                {"vocab", vocab},
                {"merges", array{"a b", "b a", "\xE2\x96\x81 ab"}}}}};
  const auto files = read(root);
  ASSERT_TRUE(files) << files.error().message;
  const auto tokenizer = Tokenizer::create(files->data);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->encode("ab bab", {}), (std::vector<Token>{7, 3, 5, 6}));
  EXPECT_EQ((*tokenizer)->encode("\xC3\xA9", {}), (std::vector<Token>{3, 0})) << "not every byte has a token here";
}

TEST(TokenizerJson, UnigramAndWordPiece) {
  object unigram{
      {"model",
       {{"type", "Unigram"},
        {"unk_id", 0},
        {"vocab", array{array{"<unk>", 0}, array{"\xE2\x96\x81", -2.5}, array{"a", -2},
                        array{"\xE2\x96\x81"
                              "a",
                              -3}}}}},
      {"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"prepend_scheme", "always"}}}};
  const auto unigram_files = read(unigram);
  ASSERT_TRUE(unigram_files) << unigram_files.error().message;
  EXPECT_EQ((*Tokenizer::create(unigram_files->data))->encode("aa x", {}), (std::vector<Token>{3, 2, 1, 0}));

  object pieces{{"[UNK]", 0}, {"[CLS]", 1}, {"[SEP]", 2}, {"hello", 3}, {"##s", 4}, {"s", 5}};
  array special;
  for (const char* text : {"[UNK]", "[CLS]", "[SEP]"}) {
    special.push_back(object{{"id", pieces[text]}, {"content", text}, {"special", true}});
  }
  object bert{{"added_tokens", special},
              {"normalizer", {{"type", "BertNormalizer"}, {"lowercase", true}}},
              {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
              {"post_processor", {{"type", "BertProcessing"}, {"cls", array{"[CLS]", 1}}, {"sep", array{"[SEP]", 2}}}},
              {"model", {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"vocab", pieces}}}};
  const auto bert_files = read(bert);
  ASSERT_TRUE(bert_files) << bert_files.error().message;
  EXPECT_EQ((*Tokenizer::create(bert_files->data))->encode("HELLOs s x", {.add_bos = true}),
            (std::vector<Token>{1, 3, 4, 5, 0, 2}));
}

TEST(TokenizerJson, TokensThatSwallowTheSpacesBesideThem) {
  object root = byte_bpe_file();
  for (value& token : root["added_tokens"].as_array()) token.as_object()["rstrip"] = true;
  root["added_tokens"].as_array()[0].as_object()["lstrip"] = true;
  const auto tokenizer = Tokenizer::create(read(root)->data);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ((*tokenizer)->decode((*tokenizer)->encode("a  <|endoftext|> \nb <tool> c", {.parse_special = true}), true),
            "a<|endoftext|>b <tool>c");
}

}  // namespace
}  // namespace hearth
