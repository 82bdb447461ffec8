#include "text/tokenizer_json.h"

#include <algorithm>
#include <boost/json/value.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "text/tokenizer_json_parts.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

using boost::json::object;
using boost::json::value;
using namespace tokenizer_json;

// Of a file that is not there, the empty object.
Result<value> parse_file(std::string_view name, std::string_view text) {
  if (text.empty()) return value(object());
  auto parsed = parse_json(text);
  if (!parsed) return within(name, std::move(parsed).error());
  if (!parsed->is_object()) return fail(Code::kMalformed, "{}: it is no object", name);
  return parsed;
}

// A token id, or an error that names the token.
Result<Token> id_of(const value& number, std::string_view token) {
  const int64_t* id = number.if_int64();
  if (id == nullptr || *id < 0 || *id >= static_cast<int64_t>(limits::kVocabulary)) {
    return fail(Code::kMalformed, "tokenizer.json: the id of \"{}\" is no number from 0 to {}", token.substr(0, 64),
                limits::kVocabulary - 1);
  }
  return static_cast<Token>(*id);
}

void put_token(TokenizerData& data, Token id, std::string_view text, TokenKind kind) {
  const auto at = static_cast<size_t>(id);
  if (data.tokens.size() <= at) {
    data.tokens.resize(at + 1);
    data.kinds.resize(at + 1, TokenKind::kUnused);  // ids that no token has
  }
  data.tokens[at] = text;
  data.kinds[at] = kind;
}

Result<void> read_vocab_object(const object& vocab, bool byte_fallback, TokenizerData& data) {
  for (const auto& entry : vocab) {
    const std::string_view text(entry.key().data(), entry.key().size());
    const bool byte = byte_fallback && byte_token_value(text) >= 0;
    const Token id = TRY(id_of(entry.value(), text));
    put_token(data, id, text, byte ? TokenKind::kByte : TokenKind::kNormal);
  }
  return {};
}

// "left right" or ["left", "right"]
Result<void> read_merges(const boost::json::array& merges, TokenizerData& data) {
  data.merges.reserve(merges.size());
  for (const value& merge : merges) {
    if (const boost::json::string* both = merge.if_string()) {
      data.merges.emplace_back(both->data(), both->size());
      continue;
    }
    const boost::json::array* pair = merge.if_array();
    const bool two_texts = pair != nullptr && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string();
    if (!two_texts) return fail(Code::kMalformed, "tokenizer.json: merge {} is no pair of texts", data.merges.size());
    const boost::json::string& left = (*pair)[0].get_string();
    const boost::json::string& right = (*pair)[1].get_string();
    if (std::string_view(left.data(), left.size()).find(' ', 1) != std::string_view::npos) {
      return fail(Code::kUnsupported, "tokenizer.json: merge {} has a space inside its first text", data.merges.size());
    }
    std::string& joined = data.merges.emplace_back(left.data(), left.size());
    joined.append(1, ' ').append(right.data(), right.size());
  }
  return {};
}

Result<void> read_bpe(const object& root, const object& model, TokenizerData& data) {
  for (const std::string_view option : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!string_field(model, option).empty()) return fail(Code::kUnsupported, "tokenizer.json: BPE with {}", option);
  }
  if (const value* dropout = field(model, "dropout");
      dropout != nullptr && (!dropout->is_double() || dropout->get_double() != 0)) {
    return fail(Code::kUnsupported, "tokenizer.json: BPE with dropout");
  }
  const object* vocab = object_field(model, "vocab");
  const boost::json::array* merges = array_field(model, "merges");
  if (vocab == nullptr) return fail(Code::kMalformed, "tokenizer.json: the BPE model has no object \"vocab\"");
  if (merges == nullptr) return fail(Code::kMalformed, "tokenizer.json: the BPE model has no list \"merges\"");
  data.kind = TRY(is_byte_level(root)) ? TokenizerKind::kByteBpe : TokenizerKind::kSentenceBpe;
  data.ignore_merges = bool_field(model, "ignore_merges", false);
  TRY(read_vocab_object(*vocab, bool_field(model, "byte_fallback", false), data));
  TRY(read_merges(*merges, data));
  return data.kind == TokenizerKind::kByteBpe ? read_byte_bpe_shape(root, data) : read_sentence_bpe_shape(root, data);
}

Result<void> read_unigram(const object& root, const object& model, TokenizerData& data) {
  data.kind = TokenizerKind::kUnigram;
  const boost::json::array* vocab = array_field(model, "vocab");
  if (vocab == nullptr) return fail(Code::kMalformed, "tokenizer.json: the unigram model has no list \"vocab\"");
  const bool byte_fallback = bool_field(model, "byte_fallback", false);
  for (const value& entry : *vocab) {
    const boost::json::array* pair = entry.if_array();
    const size_t id = data.tokens.size();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_number()) {
      return fail(Code::kMalformed, "tokenizer.json: unigram token {} is no pair of text and score", id);
    }
    const boost::json::string& text = (*pair)[0].get_string();
    boost::json::error_code error;
    data.scores.push_back(static_cast<float>((*pair)[1].to_number<double>(error)));
    const bool byte = byte_fallback && byte_token_value({text.data(), text.size()}) >= 0;
    put_token(data, static_cast<Token>(id), {text.data(), text.size()}, byte ? TokenKind::kByte : TokenKind::kNormal);
  }
  if (const value* unknown = field(model, "unk_id")) {
    data.unk = TRY(id_of(*unknown, "unk_id"));
    if (static_cast<size_t>(data.unk) < data.kinds.size())
      data.kinds[static_cast<size_t>(data.unk)] = TokenKind::kUnknown;
  }
  return read_unigram_shape(root, data);
}

Result<void> read_word_piece(const object& root, const object& model, TokenizerData& data) {
  data.kind = TokenizerKind::kWordPiece;
  const object* vocab = object_field(model, "vocab");
  if (vocab == nullptr) return fail(Code::kMalformed, "tokenizer.json: the WordPiece model has no object \"vocab\"");
  if (string_field(model, "continuing_subword_prefix", "##") != "##") {
    return fail(Code::kUnsupported, "tokenizer.json: WordPiece with another prefix than ##");
  }
  TRY(read_vocab_object(*vocab, false, data));
  return read_word_piece_shape(root, data);
}

Result<void> read_model(const object& root, TokenizerData& data) {
  const object* model = object_field(root, "model");
  if (model == nullptr) return fail(Code::kMalformed, "tokenizer.json: no object \"model\"");
  // Old files leave the type out.
  const std::string_view type = string_field(*model, "type", field(*model, "merges") != nullptr ? "BPE" : "");
  if (type == "BPE") return read_bpe(root, *model, data);
  if (type == "Unigram") return read_unigram(root, *model, data);
  if (type == "WordPiece") return read_word_piece(root, *model, data);
  return fail(Code::kUnsupported, "tokenizer.json: model type \"{}\" is not known", type.substr(0, 100));
}

// Ids may have gaps, but a small file must not make a large vocabulary.
Result<void> check_gaps(const TokenizerData& data) {
  const auto n_texts =
      std::count_if(data.tokens.begin(), data.tokens.end(), [](const auto& text) { return !text.empty(); });
  if (data.tokens.size() <= static_cast<size_t>(n_texts) * 2 + 65536) return {};
  return fail(Code::kMalformed, "tokenizer.json: {} tokens with ids up to {}", n_texts, data.tokens.size() - 1);
}

Result<void> read_added_tokens(const object& root, TokenizerData& data) {
  const boost::json::array* added = array_field(root, "added_tokens");
  if (added == nullptr) return {};
  for (const value& entry : *added) {
    const object* token = entry.if_object();
    const value* number = token == nullptr ? nullptr : field(*token, "id");
    if (number == nullptr) return fail(Code::kMalformed, "tokenizer.json: an added token has no id");
    const std::string_view text = string_field(*token, "content");
    const Token id = TRY(id_of(*number, text));
    if (bool_field(*token, "single_word", false)) {
      return fail(Code::kUnsupported, "tokenizer.json: added token \"{}\" is for single words only",
                  text.substr(0, 64));
    }
    const bool special = bool_field(*token, "special", false);
    put_token(data, id, text, special ? TokenKind::kControl : TokenKind::kUserDefined);
    if (bool_field(*token, "lstrip", false)) data.strips_left.push_back(id);
    if (bool_field(*token, "rstrip", false)) data.strips_right.push_back(id);
  }
  if (!data.scores.empty()) data.scores.resize(data.tokens.size());
  return {};
}

// WordPiece files mark what continues a word; GGUF and our tokenizer mark what begins one.
void mark_word_beginnings(TokenizerData& data) {
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    std::string& text = data.tokens[i];
    if (data.kinds[i] != TokenKind::kNormal) continue;
    if (text.starts_with("##") && text.size() > 2) {
      text.erase(0, 2);
    } else {
      text.insert(0, kSpaceMark);
    }
  }
}

// "bos_token": "<s>" or {"content": "<s>", ...}
std::string_view token_text(const object& config, std::string_view name) {
  const object* detailed = object_field(config, name);
  return detailed == nullptr ? string_field(config, name) : string_field(*detailed, "content");
}

Token find_token(const TokenizerData& data, std::string_view text) {
  if (text.empty()) return kNoToken;
  const auto at = std::find(data.tokens.begin(), data.tokens.end(), text);
  return at == data.tokens.end() ? kNoToken : static_cast<Token>(at - data.tokens.begin());
}

struct NamedId {
  std::string_view name;
  Token TokenizerData::* id;
};
constexpr NamedId kNamedIds[] = {{"bos_token", &TokenizerData::bos},  {"eos_token", &TokenizerData::eos},
                                 {"unk_token", &TokenizerData::unk},  {"pad_token", &TokenizerData::pad},
                                 {"sep_token", &TokenizerData::sep},  {"cls_token", &TokenizerData::cls},
                                 {"mask_token", &TokenizerData::mask}};

void read_named_tokens(const object& config, TokenizerData& data) {
  for (const NamedId& named : kNamedIds) {
    if (data.*named.id == kNoToken) data.*named.id = find_token(data, token_text(config, named.name));
  }
}

// "eos_token_id": 2 or [2, 3]
void read_generation_config(const object& config, TokenizerData& data) {
  const auto n_vocab = static_cast<int64_t>(data.tokens.size());
  const auto in_vocabulary = [&](const value& number) -> Token {
    const int64_t* id = number.if_int64();
    return id != nullptr && *id >= 0 && *id < n_vocab ? static_cast<Token>(*id) : kNoToken;
  };
  const value* ends = field(config, "eos_token_id");
  if (ends == nullptr) return;
  std::vector<Token> ids;
  if (const boost::json::array* list = ends->if_array()) {
    for (const value& id : *list) ids.push_back(in_vocabulary(id));
  } else {
    ids.push_back(in_vocabulary(*ends));
  }
  std::erase(ids, kNoToken);  // ids of another vocabulary say nothing about this one
  if (data.eos == kNoToken && !ids.empty()) data.eos = ids.front();
  data.end_of_generation.insert(data.end_of_generation.end(), ids.begin(), ids.end());
}

// What goes around a text: as the post-processor says, else as tokenizer_config.json says.
void apply_frame(const Frame& frame, const object& config, TokenizerData& data) {
  if (!frame.known) {
    data.add_bos = bool_field(config, "add_bos_token", false);
    data.add_eos = bool_field(config, "add_eos_token", false);
    return;
  }
  const Token before = find_token(data, frame.before);
  const Token after = find_token(data, frame.after);
  data.add_bos = before != kNoToken;
  data.add_eos = after != kNoToken;
  const bool classifier = data.kind == TokenizerKind::kWordPiece;
  if (before != kNoToken) (classifier ? data.cls : data.bos) = before;
  if (after != kNoToken) (classifier ? data.sep : data.eos) = after;
}

// A text, or [{"name": "default", "template": text}, ...]
std::string read_chat_template(const object& config) {
  const boost::json::array* named = array_field(config, "chat_template");
  if (named == nullptr) return std::string(string_field(config, "chat_template"));
  std::string chosen;
  for (const value& entry : *named) {
    const object* item = entry.if_object();
    if (item == nullptr) continue;
    if (chosen.empty() || string_field(*item, "name") == "default") chosen = string_field(*item, "template");
  }
  return chosen;
}

}  // namespace

Result<TokenizerFiles> read_tokenizer_json(const TokenizerJsonTexts& texts) {
  if (texts.tokenizer.empty()) return fail(Code::kMalformed, "tokenizer.json: the file is empty");
  const value root_value = TRY(parse_file("tokenizer.json", texts.tokenizer));
  const value config_value = TRY(parse_file("tokenizer_config.json", texts.tokenizer_config));
  const value map_value = TRY(parse_file("special_tokens_map.json", texts.special_tokens_map));
  const value generation_value = TRY(parse_file("generation_config.json", texts.generation_config));
  const object& root = root_value.get_object();
  const object& config = config_value.get_object();

  TokenizerFiles files;
  TokenizerData& data = files.data;
  TRY(read_model(root, data));
  TRY(read_added_tokens(root, data));
  TRY(check_gaps(data));
  read_named_tokens(config, data);
  read_named_tokens(map_value.get_object(), data);
  if (data.unk == kNoToken) data.unk = find_token(data, string_field(root.at("model").get_object(), "unk_token"));
  const Frame frame = TRY(read_frame(root));
  apply_frame(frame, config, data);
  read_generation_config(generation_value.get_object(), data);
  if (data.kind == TokenizerKind::kWordPiece) mark_word_beginnings(data);
  files.chat_template = read_chat_template(config);
  return files;
}

}  // namespace hearth
