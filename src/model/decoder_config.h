// What a model family's file tells the one decoder: sizes, traits, constants. Filled by model/arch/<family>.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace hearth {

// How a layer mixes positions.
enum class Mixer : uint8_t { kAttention, kShortConv };

enum class RopeScaling : uint8_t {
  kNone,
  kLinear,   // positions divided by factor
  kNtk,      // "dynamic NTK": base raised once the admitted context is longer than original_context
  kYarn,     // Peng et al. 2023: by parts, and attention sharpened
  kLlama3,   // by parts, as Llama 3.1
  kFactors,  // the file gives a divisor per frequency (rope_freqs; longrope's short or long list)
};

struct RopeConfig {
  int dims = 0;  // rotated per head, even
  double base = 10000.0;
  RopeStyle style = RopeStyle::kHalves;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  int original_context = 0;                              // ntk, yarn, llama3, longrope
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  std::vector<float> factors;                            // kFactors: dims / 2 divisors; longrope: the short list
  std::vector<float> long_factors;  // longrope: used when the admitted context is longer than original_context
  double magnitude = 1.0;           // multiplies cos and sin (yarn's and longrope's attention factor)
};

struct LayerConfig {
  Mixer mixer = Mixer::kAttention;
  int n_heads = 0, n_kv_heads = 0, head_dim = 0;
  int window = 0;     // 0: sees everything before it
  int rope = 0;       // index into ropes, -1: none
  int d_ffn = 0;      // dense layers
  int n_experts = 0;  // 0: dense
};

struct DecoderConfig {
  std::string family;
  int n_vocab = 0, d_model = 0, context_max = 0;
  float norm_eps = 1e-5f;
  bool norm_plus_one = false;  // norm weights are stored minus one (Gemma in Hugging Face's form)
  float embedding_scale = 1.0f;
  float residual_scale = 1.0f;   // on what attention and ffn add to the stream
  float attention_scale = 0.0f;  // 0: 1 / sqrt(head_dim)
  float attention_soft_cap = 0.0f, logit_soft_cap = 0.0f;
  float logit_scale = 1.0f;  // multiplies the logits
  GluKind glu = GluKind::kSilu;
  bool fused_qkv = false, fused_gate_up = false;  // phi3: one matrix, split by rows
  std::vector<RopeConfig> ropes;
  std::vector<LayerConfig> layers;
  // Mixtures of experts
  int n_experts_used = 0, d_expert = 0;
  bool softmax_before_top_k = true, normalise_expert_weights = true;
  float expert_scale = 1.0f;
  // Short convolutions
  int conv_taps = 0;

  [[nodiscard]] int n_layers() const { return static_cast<int>(layers.size()); }
};

// kMalformed or kLimit naming the first value that makes no sense; what passes can be run without further checks of sizes.
Result<void> check(const DecoderConfig& config);

}  // namespace hearth
