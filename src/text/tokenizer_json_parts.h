// Inside of tokenizer_json: what the "normalizer", "pre_tokenizer" and "post_processor" of a tokenizer.json mean for
// us.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace hearth::tokenizer_json {

// Fields by name; nullptr or the default if absent or of another type. A JSON null counts as absent.
const boost::json::value* field(const boost::json::object& object, std::string_view name);
const boost::json::object* object_field(const boost::json::object& object, std::string_view name);
const boost::json::array* array_field(const boost::json::object& object, std::string_view name);
std::string_view string_field(const boost::json::object& object, std::string_view name,
                              std::string_view otherwise = {});
bool bool_field(const boost::json::object& object, std::string_view name, bool otherwise);

// The parts of a component: itself, or what its Sequence holds, in order. Null gives none.
Result<std::vector<const boost::json::object*>> parts_of(const boost::json::object& root, std::string_view name);

// Each sets the fields of `data` that its component decides, for the kind of model that it is.
Result<void> read_byte_bpe_shape(const boost::json::object& root, TokenizerData& data);
Result<void> read_sentence_bpe_shape(const boost::json::object& root, TokenizerData& data);
Result<void> read_unigram_shape(const boost::json::object& root, TokenizerData& data);
Result<void> read_word_piece_shape(const boost::json::object& root, TokenizerData& data);
// Whether the pre-tokenizer writes bytes as GPT-2 does.
[[nodiscard]] Result<bool> is_byte_level(const boost::json::object& root);

// Texts of the special tokens that the post-processor puts around a text.
struct Frame {
  bool known = false;  // there is a post-processor that says
  std::string_view before, after;
};
[[nodiscard]] Result<Frame> read_frame(const boost::json::object& root);

}  // namespace hearth::tokenizer_json
