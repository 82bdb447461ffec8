// BERT's settings and names of tensors, as GGUF files and Hugging Face folders have them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/arch/all.h"

namespace hearth {

enum class Pooling : uint8_t { kMean, kFirst };  // over a text's positions, or the first one's ("cls")

struct EncoderConfig {
  int n_layers = 0, d_model = 0, n_heads = 0, d_ffn = 0, n_vocab = 0;
  int n_positions = 0;  // rows of the table of positions
  int tokens_max = 0;   // at most so many in a text, marks included
  int n_segments = 0;   // rows of the table of segments; 0: none
  double norm_eps = 1e-12;
  Pooling pooling = Pooling::kMean;
  bool normalise = true;  // embeddings get length 1
};

// True where the files are of an encoder of this family.
bool is_bert(const Checkpoint& checkpoint);
// kUnsupported names a setting that is not BERT's own (another activation, relative positions, another pooling).
Result<EncoderConfig> configure_bert(const Checkpoint& checkpoint);
// The file's name of a tensor, given GGUF's ("blk.3.attn_q.weight").
std::string bert_tensor_name(const Checkpoint& checkpoint, std::string_view gguf_name);

}  // namespace hearth
