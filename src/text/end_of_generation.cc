#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "text/token_index.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

// Texts that end an answer in every family that has them. Model files often name only one such token, and some
// conversions even call these texts normal ones.
constexpr std::array<std::string_view, 20> kEndTexts{
    "<|eot_id|>", "<|im_end|>", "<|end|>",   "<|return|>", "<|call|>", "<end_of_turn>",        "<|endoftext|>",
    "<|eom_id|>", "<EOT>",      "_<EOT>",    "[EOT]",      "[EOS]",    "<|end_of_text|>",      "<end_of_utterance>",
    "<turn|>",    "<|flush|>",  "<|calls|>", "[e~[",       "<eos>",    "<｜end▁of▁sentence｜>"};
// Fill-in-the-middle tokens after which nothing useful follows.
constexpr std::array<std::string_view, 10> kFillEndTexts{"<|fim_pad|>",   "<fim-pad>",   "<fim_pad>", "<PAD>",
                                                         "<|fim_repo|>",  "<fim-repo>",  "<REPO>",    "<reponame>",
                                                         "<|repo_name|>", "<|file_sep|>"};
// Parts of the answer's form in gpt-oss: always shown.
constexpr std::array<std::string_view, 4> kShownTexts{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

void complete_special_tokens(TokenizerData& data) {
  const auto n = static_cast<Token>(data.tokens.size());
  const auto find = [&](std::string_view text) -> std::optional<Token> {
    const auto at = std::find(data.tokens.begin(), data.tokens.end(), text);
    return at == data.tokens.end() ? std::nullopt : std::optional(static_cast<Token>(at - data.tokens.begin()));
  };
  std::vector<Token>& ends = data.end_of_generation;
  const auto set_kind = [&](Token id, TokenKind kind) {
    if (data.kinds.empty()) data.kinds.assign(data.tokens.size(), TokenKind::kNormal);
    data.kinds[static_cast<size_t>(id)] = kind;
  };
  Token strike = kNoToken;  // "</s>": the end in some families, an HTML tag in others
  Token end = kNoToken;
  bool has_return_and_call[2] = {false, false};
  for (Token id = 0; id < n; ++id) {
    const std::string& text = data.tokens[static_cast<size_t>(id)];
    if (text.size() < 4 || text.size() > 32) continue;
    if (text.front() != '<' && text.front() != '[' && text.front() != '_') continue;
    if (is_one_of(kEndTexts, text) || is_one_of(kFillEndTexts, text)) {
      ends.push_back(id);
      set_kind(id, TokenKind::kControl);
    }
    if (is_one_of(kShownTexts, text)) set_kind(id, TokenKind::kUserDefined);
    if (text == "</s>") strike = id;
    if (text == "<|end|>") end = id;
    if (text == "<|return|>" || text == "<|flush|>") has_return_and_call[0] = true;
    if (text == "<|call|>" || text == "<|calls|>") has_return_and_call[1] = true;
  }
  const bool other_end = (data.eos != kNoToken && data.eos != strike) || !ends.empty();
  const bool strike_is_text = strike != kNoToken && other_end && !data.kinds.empty() &&
                              data.kinds[static_cast<size_t>(strike)] == TokenKind::kNormal;
  if (strike != kNoToken && !strike_is_text) {
    ends.push_back(strike);
    set_kind(strike, TokenKind::kControl);
  }
  // Where an answer has several messages, <|end|> only ends one of them.
  if (has_return_and_call[0] && has_return_and_call[1] && end != kNoToken) {
    std::erase(ends, end);
    set_kind(end, TokenKind::kUserDefined);
  }
  if (data.eot == kNoToken) {
    for (const std::string_view text : {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"}) {
      if (data.eot == kNoToken) data.eot = find(text).value_or(kNoToken);
    }
  }
  for (const Token id : {data.eos, data.eot}) {
    if (id != kNoToken) ends.push_back(id);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

}  // namespace hearth
