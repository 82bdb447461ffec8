#include "text/tokenizer_json_parts.h"

#include <array>
#include <optional>
#include <string>

#include "text/vocabulary.h"

namespace hearth::tokenizer_json {

using boost::json::object;
using Parts = std::vector<const object*>;

const boost::json::value* field(const object& from, std::string_view name) {
  const boost::json::value* value = from.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}
const object* object_field(const object& from, std::string_view name) {
  const boost::json::value* value = field(from, name);
  return value == nullptr ? nullptr : value->if_object();
}
const boost::json::array* array_field(const object& from, std::string_view name) {
  const boost::json::value* value = field(from, name);
  return value == nullptr ? nullptr : value->if_array();
}
std::string_view string_field(const object& from, std::string_view name, std::string_view otherwise) {
  const boost::json::value* value = field(from, name);
  const boost::json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? otherwise : std::string_view(text->data(), text->size());
}
bool bool_field(const object& from, std::string_view name, bool otherwise) {
  const boost::json::value* value = field(from, name);
  const bool* truth = value == nullptr ? nullptr : value->if_bool();
  return truth == nullptr ? otherwise : *truth;
}

namespace {

std::string_view type_of(const object& part) { return string_field(part, "type"); }

std::unexpected<Error> unknown(std::string_view what, std::string_view name) {
  return fail(Code::kUnsupported, "tokenizer.json: {} \"{}\" is not known", what, name.substr(0, 200));
}

// The lists of a Sequence have another name in every component. Sequences in sequences are flattened; JSON's depth
// limit bounds the recursion.
Result<void> flatten(const object& part, Parts& out) {
  if (type_of(part) != "Sequence") {
    out.push_back(&part);
    return {};
  }
  for (const std::string_view list : {"normalizers", "pretokenizers", "processors"}) {
    const boost::json::array* items = array_field(part, list);
    if (items == nullptr) continue;
    for (const boost::json::value& item : *items) {
      const object* inner = item.if_object();
      if (inner == nullptr)
        return fail(Code::kMalformed, "tokenizer.json: \"{}\" holds something that is no object", list);
      TRY(flatten(*inner, out));
    }
  }
  return {};
}

// A pattern {"String": ...} or {"Regex": ...}; line ends are written as escapes, as most files do.
struct Pattern {
  bool regex = false;
  std::string text;
};
Pattern pattern_of(const object& part) {
  Pattern pattern;
  const object* holder = object_field(part, "pattern");
  if (holder == nullptr) return pattern;
  pattern.regex = field(*holder, "Regex") != nullptr;
  for (const char c : string_field(*holder, pattern.regex ? "Regex" : "String")) {
    if (c == '\r') {
      pattern.text += "\\r";
    } else if (c == '\n') {
      pattern.text += "\\n";
    } else {
      pattern.text += c;
    }
  }
  return pattern;
}

// The expressions of the families, and the rules of pretokenizer_names.cc that are those expressions.
struct KnownExpression {
  std::string_view expression, name;
};
constexpr std::array<KnownExpression, 10> kExpressions{{
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "gpt-2"},
    {R"(\p{N} then 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "smollm"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
     R"(\s+(?!\S)|\s+)",
     "dbrx"},
    {R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "dbrx"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
     R"(\s+(?!\S)|\s+)",
     "qwen2"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
     "qwen35"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|)"
     R"(\s+(?!\S)|\s+)",
     "seed-coder"},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
     R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "tekken"},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "gpt-4o"},
    {R"(\p{N}{1,3} then [一-龥぀-ゟ゠-ヿ]+ then )"
     R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
     R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "deepseek-v3"},
}};

// The expressions of a byte-level pre-tokenizer, joined with " then ".
Result<std::string> expressions_of(const Parts& parts) {
  std::string joined;
  const auto add = [&](std::string_view expression) {
    joined.append(joined.empty() ? "" : " then ").append(expression);
  };
  for (const object* part : parts) {
    const std::string_view type = type_of(*part);
    if (type == "Digits") {
      add(bool_field(*part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    } else if (type == "Split") {
      const std::string_view behavior = string_field(*part, "behavior");
      const bool invert = bool_field(*part, "invert", false);
      // "Removed" of all that does not match: the expressions match everything.
      if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert))
        return unknown("split behavior", behavior);
      add(pattern_of(*part).text);
    } else if (type == "ByteLevel") {
      if (bool_field(*part, "add_prefix_space", true)) return unknown("byte-level option", "add_prefix_space");
      if (bool_field(*part, "use_regex", true)) add(kExpressions[0].expression);
    } else {
      return unknown("pre-tokenizer", type);
    }
  }
  return joined;
}

bool is_space_mark_replacement(const object& part) {
  const Pattern pattern = pattern_of(part);
  return type_of(part) == "Replace" && !pattern.regex && pattern.text == " " &&
         string_field(part, "content") == kSpaceMark;
}

// Metaspace: spaces become U+2581, and perhaps one goes in front.
Result<void> read_metaspace(const object& part, TokenizerData& data) {
  if (string_field(part, "replacement", kSpaceMark) != kSpaceMark) {
    return unknown("metaspace replacement", string_field(part, "replacement"));
  }
  const std::string_view scheme = string_field(part, "prepend_scheme");
  data.add_space_prefix = scheme.empty() ? bool_field(part, "add_prefix_space", true) : scheme != "never";
  return {};
}

Result<std::string> from_base64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int n_bits = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos)
      return fail(Code::kMalformed, "tokenizer.json: precompiled_charsmap is no base64");
    bits = bits << 6 | static_cast<uint32_t>(value);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out += static_cast<char>(bits >> n_bits & 0xFF);
  }
  return out;
}

}  // namespace

Result<Parts> parts_of(const object& root, std::string_view name) {
  Parts parts;
  const boost::json::value* component = field(root, name);
  if (component == nullptr) return parts;
  if (component->if_object() == nullptr) return fail(Code::kMalformed, "tokenizer.json: \"{}\" is no object", name);
  TRY(flatten(component->get_object(), parts));
  return parts;
}

Result<bool> is_byte_level(const object& root) {
  const Parts cuts = TRY(parts_of(root, "pre_tokenizer"));
  for (const object* part : cuts) {
    if (type_of(*part) == "ByteLevel") return true;
  }
  return false;
}

Result<void> read_byte_bpe_shape(const object& root, TokenizerData& data) {
  const Parts normalizers = TRY(parts_of(root, "normalizer"));
  for (const object* part : normalizers) {
    if (type_of(*part) != "NFC") return unknown("normalizer", type_of(*part));
    data.normalize_nfc = true;
  }
  const Parts cuts = TRY(parts_of(root, "pre_tokenizer"));
  const std::string expressions = TRY(expressions_of(cuts));
  for (const KnownExpression& known : kExpressions) {
    if (known.expression == expressions) data.pre = known.name;
  }
  if (data.pre.empty()) return unknown("pre-tokenizer expression", expressions);
  return {};
}

Result<void> read_sentence_bpe_shape(const object& root, TokenizerData& data) {
  data.add_space_prefix = false;
  bool marks_spaces = false;
  const Parts normalizers = TRY(parts_of(root, "normalizer"));
  for (const object* part : normalizers) {
    if (type_of(*part) == "Prepend" && string_field(*part, "prepend") == kSpaceMark) {
      data.add_space_prefix = true;
    } else if (is_space_mark_replacement(*part)) {
      marks_spaces = true;
    } else {
      return unknown("normalizer", type_of(*part));
    }
  }
  const Parts cuts = TRY(parts_of(root, "pre_tokenizer"));
  for (const object* part : cuts) {
    const Pattern pattern = pattern_of(*part);
    if (type_of(*part) == "Metaspace") {
      if (bool_field(*part, "split", true)) return unknown("metaspace option", "split");
      TRY(read_metaspace(*part, data));
      marks_spaces = true;
    } else if (type_of(*part) != "Split" || pattern.regex || pattern.text != " " || !marks_spaces) {
      return unknown("pre-tokenizer", type_of(*part));  // a split at spaces does nothing once they are replaced
    }
  }
  if (!marks_spaces) return unknown("BPE without byte level or metaspace", type_of(root));
  return {};
}

Result<void> read_unigram_shape(const object& root, TokenizerData& data) {
  const Parts normalizers = TRY(parts_of(root, "normalizer"));
  for (const object* part : normalizers) {
    const Pattern pattern = pattern_of(*part);
    if (type_of(*part) == "Precompiled") {
      data.precompiled_charsmap = TRY(from_base64(string_field(*part, "precompiled_charsmap")));
    } else if (type_of(*part) == "Replace" && pattern.regex && pattern.text == " {2,}") {
      data.remove_extra_spaces = true;
    } else if (type_of(*part) != "Strip" && !is_space_mark_replacement(*part)) {
      return unknown("normalizer", type_of(*part));
    }
  }
  data.add_space_prefix = false;
  const Parts cuts = TRY(parts_of(root, "pre_tokenizer"));
  for (const object* part : cuts) {
    if (type_of(*part) == "WhitespaceSplit" && !data.precompiled_charsmap.empty()) {
      data.remove_extra_spaces = true;  // the charsmap has made every white space one of them
    } else if (type_of(*part) == "Metaspace") {
      TRY(read_metaspace(*part, data));
    } else {
      return unknown("pre-tokenizer", type_of(*part));
    }
  }
  return {};
}

Result<void> read_word_piece_shape(const object& root, TokenizerData& data) {
  const Parts normalizers = TRY(parts_of(root, "normalizer"));
  if (normalizers.size() != 1 || type_of(*normalizers[0]) != "BertNormalizer") {
    return unknown("normalizer", normalizers.empty() ? "none" : type_of(*normalizers[0]));
  }
  const object& bert = *normalizers[0];
  data.lower_case = bool_field(bert, "lowercase", true);
  for (const std::string_view option : {"clean_text", "handle_chinese_chars"}) {
    if (!bool_field(bert, option, true)) return unknown("BertNormalizer without", option);
  }
  if (bool_field(bert, "strip_accents", data.lower_case) != data.lower_case)
    return unknown("BertNormalizer option", "strip_accents");
  const Parts cuts = TRY(parts_of(root, "pre_tokenizer"));
  if (cuts.size() != 1 || type_of(*cuts[0]) != "BertPreTokenizer") {
    return unknown("pre-tokenizer", cuts.empty() ? "none" : type_of(*cuts[0]));
  }
  return {};
}

namespace {

// [..., {"SpecialToken": {"id": text}}, {"Sequence": ...}, ...]
Frame frame_of_template(const object& part) {
  Frame frame;
  const boost::json::array* pieces = array_field(part, "single");
  if (pieces == nullptr) return frame;
  frame.known = true;
  bool text_seen = false;
  for (const boost::json::value& piece : *pieces) {
    const object* item = piece.if_object();
    if (item == nullptr) continue;
    const object* special = object_field(*item, "SpecialToken");
    text_seen = text_seen || field(*item, "Sequence") != nullptr;
    if (special != nullptr) (text_seen ? frame.after : frame.before) = string_field(*special, "id");
  }
  return frame;
}

// ["[CLS]", 101]
std::string_view first_string(const object& part, std::string_view name) {
  const boost::json::array* pair = array_field(part, name);
  const boost::json::string* text = pair == nullptr || pair->empty() ? nullptr : pair->front().if_string();
  return text == nullptr ? std::string_view() : std::string_view(text->data(), text->size());
}

}  // namespace

Result<Frame> read_frame(const object& root) {
  Frame frame;
  const Parts processors = TRY(parts_of(root, "post_processor"));
  for (const object* part : processors) {
    const std::string_view type = type_of(*part);
    if (type == "TemplateProcessing") {
      frame = frame_of_template(*part);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      frame = {true, first_string(*part, "cls"), first_string(*part, "sep")};
    } else if (type != "ByteLevel") {
      return unknown("post-processor", type);
    }
  }
  return frame;
}

}  // namespace hearth::tokenizer_json
