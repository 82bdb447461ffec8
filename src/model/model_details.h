// What a model's files say about it, for lists: read without its weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"

namespace hearth {

struct ModelDetails {
  std::string format;         // "gguf" or "safetensors"
  std::string family;         // "llama"; of one that is not known what the file calls it
  uint64_t parameters = 0;    // elements of all tensors
  std::string quantization;   // the type that most of them have: "Q4_K", "F16"
  int context_max = 0;        // positions; 0: the file does not say
  int d_model = 0;            // width of hidden states, and of embeddings
  bool completion = false;    // a family that generates text
  bool embedding = false;     // an encoder whose output is one vector per text
  bool tools = false;         // its chat template takes tools
  bool thinking = false;      // its chat template has a place for reasoning
  std::string chat_template;  // empty: none
};

// Opens the files (see open_checkpoint) and reads what is cheap. An unknown family is no error: neither completion nor embedding.
// Cost: milliseconds, some ten for a vocabulary of 262,144.
Result<ModelDetails> model_details(const std::filesystem::path& path);

// 134515008 -> "134.52M", as lists of models write it.
std::string parameter_count_text(uint64_t parameters);

}  // namespace hearth
