// Compares a real model's tokenizer with the ids another engine gave for the same texts
// (tests/data/tokenizer/make_golden.py). For tests only.
#pragma once

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

inline std::string sha256_of_ids(const std::vector<Token>& ids) {
  std::string lines;
  for (const Token id : ids) lines += fmt::format("{}\n", id);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int n = 0;
  EVP_Digest(lines.data(), lines.size(), digest.data(), &n, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < n; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

// Every unknown, control and user-defined token of the file, with something after each.
inline std::string all_special_tokens(const TokenizerData& data) {
  static constexpr std::array<std::string_view, 5> kAfter{"", " x", "hello ", "\n", "1"};
  std::string text;
  size_t n = 0;
  for (size_t i = 0; i < data.kinds.size(); ++i) {
    const TokenKind kind = data.kinds[i];
    if (kind != TokenKind::kUnknown && kind != TokenKind::kControl && kind != TokenKind::kUserDefined) continue;
    text.append(data.tokens[i]).append(kAfter[n++ % kAfter.size()]);
  }
  return text;
}

// One line per text that differs from `folder`/NAME.golden, with the name of the text; empty if all agree.
// `data` is the vocabulary as the model file has it.
inline std::vector<std::string> golden_differences(const TokenizerData& data, const std::string& folder,
                                                   const std::string& name) {
  const auto read = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  };
  auto tokenizer = Tokenizer::create(data);
  if (!tokenizer) return {tokenizer.error().message};
  const std::string scripts = read(folder + "/scripts.txt");
  std::istringstream golden(read(folder + "/" + name + ".golden"));
  std::vector<std::string> differences;
  size_t n_checked = 0;
  size_t part_begin = 0;
  for (std::string line; std::getline(golden, line);) {
    std::istringstream fields(line);
    std::string what, sha, first;
    size_t n_ids = 0;
    fields >> what;
    if (what == "model") continue;
    fields >> n_ids >> sha >> first;
    std::string text = what == "special" ? all_special_tokens(data) : scripts;
    if (what.starts_with("part")) {
      const size_t end = std::min(scripts.find('\f', part_begin), scripts.size());
      text = scripts.substr(part_begin, end - part_begin);
      part_begin = end + 1;
    }
    const std::vector<Token> ids = (*tokenizer)->encode(text, {.parse_special = what == "special"});
    ++n_checked;
    if (ids.size() == n_ids && sha256_of_ids(ids) == sha) continue;
    std::string ours;
    for (size_t i = 0; i < std::min<size_t>(ids.size(), 12); ++i)
      ours += fmt::format("{}{}", i == 0 ? "" : ",", ids[i]);
    differences.push_back(
        fmt::format("{}: {} ids {}..., the golden file has {} ids {}...", what, ids.size(), ours, n_ids, first));
  }
  if (n_checked == 0 || scripts.empty()) differences.push_back("no golden data for " + name + " in " + folder);
  return differences;
}

}  // namespace hearth
