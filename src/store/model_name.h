// Names of models and of their files. They become paths, so nothing that is not on the short list of characters gets
// through.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

// A model name: [a-z0-9._-], with at most one '/' (owner/name) and at most one ':' after it (a tag). Each part begins
// with a letter or a digit, so neither "." nor ".." nor a hidden file is a name.
Result<void> check_model_name(std::string_view name);

// A file inside a model's folder: [A-Za-z0-9._-], beginning with a letter or a digit, one level, not the manifest.
Result<void> check_file_name(std::string_view name);

// The folder of a model under models/: its name with '/' as '@' (which no name contains), so that every model is one
// level deep.
std::string model_folder(std::string_view name);
std::string model_of_folder(std::string_view folder);

// A valid model name made of any text ("Qwen/Qwen2.5-GGUF" -> "qwen/qwen2.5-gguf"); kInvalidArgument if nothing is
// left.
Result<std::string> model_name_from(std::string_view text);

// ASCII only.
std::string lower_case(std::string_view text);

// Those of `names` that a reader could have meant by `name`, best first, at most three.
std::vector<std::string> near_names(std::string_view name, const std::vector<std::string>& names);

// Text from outside for a message on a terminal: other than printable ASCII becomes '?', long text is cut.
std::string printable(std::string_view text);

}  // namespace hearth
