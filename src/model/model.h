// A model ready to answer: its files, its text side and its decoder.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/decoder.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hearth {

// What a checkpoint says about text. `chat_template` is null if the model carries none; `template_error` says why if it carries
// one that does not parse.
struct TextSide {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ChatTemplate> chat_template;
  std::optional<Error> template_error;
};
Result<TextSide> load_text(const Checkpoint& checkpoint);

struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  TextSide text;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
};
Result<Model> load_model(const std::filesystem::path& path, std::unique_ptr<Backend> backend,
                         const DecoderOptions& options);

// The prompt of a conversation by the model's own template; kUnsupported if it has none (a base model), with what to do instead.
Result<std::string> render_chat(const TextSide& text, const boost::json::array& messages,
                                ChatTemplateOptions options = {});
// Tokens of a rendered prompt: BOS where the model wants it and the text does not begin with it already.
std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt);

}  // namespace hearth
