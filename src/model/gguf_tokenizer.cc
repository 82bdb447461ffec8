#include "model/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "base/limits.h"

namespace hearth {
namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kCharsmapKey = "tokenizer.ggml.precompiled_charsmap";
constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

// What a tokenizer model means where the file says nothing.
struct ModelDefaults {
  std::string_view name;
  TokenizerKind kind;
  bool add_bos, add_eos, add_space_prefix;
  Token bos = kNoToken, eos = kNoToken, unk = kNoToken, pad = kNoToken, sep = kNoToken, cls = kNoToken, mask = kNoToken;
};
constexpr std::array<ModelDefaults, 4> kModels = {{
    {.name = "gpt2", .kind = TokenizerKind::kByteBpe, .add_bos = false, .add_eos = false, .add_space_prefix = false},
    {.name = "llama",
     .kind = TokenizerKind::kSentenceBpe,
     .add_bos = true,
     .add_eos = false,
     .add_space_prefix = true,
     .bos = 1,
     .eos = 2,
     .unk = 0},
    {.name = "t5",
     .kind = TokenizerKind::kUnigram,
     .add_bos = false,
     .add_eos = true,
     .add_space_prefix = false,
     .eos = 1,
     .unk = 2,
     .pad = 0},
    {.name = "bert",
     .kind = TokenizerKind::kWordPiece,
     .add_bos = true,
     .add_eos = false,
     .add_space_prefix = false,
     .bos = 101,
     .unk = 100,
     .pad = 0,
     .sep = 102,
     .cls = 101,
     .mask = 103},
}};

// Pre-tokenizers whose models begin every text with BOS unless the file says otherwise.
constexpr std::array<std::string_view, 11> kBeginsWithBos = {"llama3",    "llama-v3",     "llama-bpe", "falcon3",
                                                             "falcon-h1", "pixtral",      "midm-2.0",  "lfm2",
                                                             "tekken",    "jina-v5-nano", "chameleon"};

Result<const ModelDefaults*> find_model(const Metadata& metadata) {
  const auto name = TRY(metadata.require<std::string_view>("tokenizer.ggml.model"));
  const auto found = std::ranges::find(kModels, name, &ModelDefaults::name);
  if (found == kModels.end()) {
    return fail(Code::kUnsupported, "tokenizer.ggml.model is '{}'; gpt2, llama, t5 and bert can be read",
                name.substr(0, 64));
  }
  return &*found;
}

Result<std::vector<TokenKind>> read_kinds(const Metadata& metadata) {
  static constexpr std::array kKinds = {TokenKind::kNormal,  TokenKind::kNormal,      TokenKind::kUnknown,
                                        TokenKind::kControl, TokenKind::kUserDefined, TokenKind::kUnused,
                                        TokenKind::kByte};
  std::vector<TokenKind> kinds;
  if (!metadata.contains(kTypesKey)) return kinds;
  const auto types = TRY(metadata.require<std::vector<int32_t>>(kTypesKey));
  kinds.reserve(types.size());
  for (const int32_t type : types) {
    if (type < 0 || static_cast<size_t>(type) >= kKinds.size()) {
      return fail(Code::kMalformed, "{}[{}] is {}, need 0 to {}", kTypesKey, kinds.size(), type, kKinds.size() - 1);
    }
    kinds.push_back(kKinds[static_cast<size_t>(type)]);
  }
  return kinds;
}

Result<void> check_length(std::string_view key, size_t length, size_t n_vocab) {
  if (length == n_vocab) return {};
  return fail(Code::kMalformed, "{} has {} elements, {} has {}", key, length, kTokensKey, n_vocab);
}

Result<void> read_vocabulary(const Metadata& metadata, TokenizerData& data) {
  data.tokens = TRY(metadata.require<std::vector<std::string>>(kTokensKey));
  if (data.tokens.empty() || data.tokens.size() > limits::kVocabulary) {
    return fail(Code::kLimit, "{} has {} elements, need 1 to {}", kTokensKey, data.tokens.size(), limits::kVocabulary);
  }
  if (metadata.contains(kScoresKey)) {
    data.scores = TRY(metadata.require<std::vector<float>>(kScoresKey));
    TRY(check_length(kScoresKey, data.scores.size(), data.tokens.size()));
  }
  data.kinds = TRY(read_kinds(metadata));
  if (metadata.contains(kTypesKey)) TRY(check_length(kTypesKey, data.kinds.size(), data.tokens.size()));
  if (data.kind == TokenizerKind::kByteBpe) data.merges = TRY(metadata.require<std::vector<std::string>>(kMergesKey));
  return {};
}

Result<std::string> read_charsmap(const Metadata& metadata) {
  const MetadataValue* value = metadata.find_value(kCharsmapKey);
  if (value == nullptr) return std::string();
  const bool is_bytes =
      value->type == ValueType::kArray && (value->element == ValueType::kU8 || value->element == ValueType::kI8);
  if (!is_bytes) return fail(Code::kMalformed, "{} is no array of bytes", kCharsmapKey);
  return std::string(reinterpret_cast<const char*>(value->bytes.data()), value->bytes.size());
}

// An id from the file must be in the vocabulary, or all ones, by which some converters mean "none". A default is
// dropped where the vocabulary is too small for it.
Result<Token> read_id(const Metadata& metadata, std::string_view name, Token fallback, size_t n_vocab) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!metadata.contains(key)) {
    return fallback >= 0 && static_cast<size_t>(fallback) >= n_vocab ? kNoToken : fallback;
  }
  const auto id = TRY(metadata.require<int64_t>(key));
  if (id == -1 || id == int64_t{0xffffffff}) return kNoToken;
  if (id < 0 || static_cast<uint64_t>(id) >= n_vocab) {
    return fail(Code::kMalformed, "{} is {}, the vocabulary has {} tokens", key, id, n_vocab);
  }
  return static_cast<Token>(id);
}

Result<void> read_ids(const Metadata& metadata, const ModelDefaults& defaults, TokenizerData& data) {
  struct Named {
    std::string_view name;
    Token fallback;
    Token* id;
  };
  Token eom = kNoToken;
  // "seperator" is how the key is spelt.
  const std::array<Named, 9> ids = {{{"bos", defaults.bos, &data.bos},
                                     {"eos", defaults.eos, &data.eos},
                                     {"eot", kNoToken, &data.eot},
                                     {"eom", kNoToken, &eom},
                                     {"unknown", defaults.unk, &data.unk},
                                     {"padding", defaults.pad, &data.pad},
                                     {"seperator", defaults.sep, &data.sep},
                                     {"cls", defaults.cls, &data.cls},
                                     {"mask", defaults.mask, &data.mask}}};
  for (const Named& named : ids) {
    *named.id = TRY(read_id(metadata, named.name, named.fallback, data.tokens.size()));
  }
  for (const Token id : {data.eos, data.eot, eom}) {
    const bool known = std::ranges::find(data.end_of_generation, id) != data.end_of_generation.end();
    if (id != kNoToken && !known) data.end_of_generation.push_back(id);
  }
  return {};
}

}  // namespace

Result<TokenizerData> tokenizer_from_gguf(const Metadata& metadata) {
  const ModelDefaults& defaults = *TRY(find_model(metadata));
  TokenizerData data;
  data.kind = defaults.kind;
  data.pre = TRY(metadata.value_or<std::string>("tokenizer.ggml.pre", "default"));
  TRY(read_vocabulary(metadata, data));
  TRY(read_ids(metadata, defaults, data));
  const bool begins =
      data.kind == TokenizerKind::kByteBpe && std::ranges::find(kBeginsWithBos, data.pre) != kBeginsWithBos.end();
  data.add_bos = TRY(metadata.value_or<bool>("tokenizer.ggml.add_bos_token", defaults.add_bos || begins));
  data.add_eos = TRY(metadata.value_or<bool>("tokenizer.ggml.add_eos_token", defaults.add_eos));
  data.add_space_prefix = TRY(metadata.value_or<bool>("tokenizer.ggml.add_space_prefix", defaults.add_space_prefix));
  data.remove_extra_spaces = TRY(metadata.value_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false));
  data.lower_case = TRY(metadata.value_or<bool>("tokenizer.ggml.normalizer.lowercase", true));
  data.precompiled_charsmap = TRY(read_charsmap(metadata));
  return data;
}

Result<std::vector<NamedTemplate>> chat_templates_from_gguf(const Metadata& metadata) {
  std::vector<NamedTemplate> out;
  for (const MetadataEntry& entry : metadata.entries()) {
    if (!entry.key.starts_with(kTemplateKey)) continue;
    const std::string_view rest = entry.key.substr(kTemplateKey.size());
    if (!rest.empty() && (rest[0] != '.' || rest.size() == 1)) continue;  // tokenizer.chat_templates lists names only
    const auto text = TRY(metadata.require<std::string_view>(entry.key));
    if (text.size() > limits::kTemplateBytes) {
      return fail(Code::kLimit, "{} has {} bytes, limit {}", entry.key, text.size(), limits::kTemplateBytes);
    }
    NamedTemplate named{std::string(rest.empty() ? "default" : rest.substr(1)), std::string(text)};
    out.insert(rest.empty() ? out.begin() : out.end(), std::move(named));
  }
  return out;
}

}  // namespace hearth
