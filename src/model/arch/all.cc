#include "model/arch/all.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace hearth {
namespace {

constexpr std::array kFamilies{&kGemma2,  &kGemma3, &kGranite, &kGraniteMoe, &kLfm2,     &kLlama,
                               &kMistral, &kPhi3,   &kQwen2,   &kQwen3,      &kQwen3Moe, &kSmolLm3};

// Hugging Face's usual names; what stands under a layer has "model.layers.N." before it.
constexpr std::array kHfNames{
    TensorName{"token_embd.weight", "model.embed_tokens.weight"},
    TensorName{"output_norm.weight", "model.norm.weight"},
    TensorName{"output.weight", "lm_head.weight"},
    TensorName{"attn_norm.weight", "input_layernorm.weight"},
    TensorName{"attn_q.weight", "self_attn.q_proj.weight"},
    TensorName{"attn_k.weight", "self_attn.k_proj.weight"},
    TensorName{"attn_v.weight", "self_attn.v_proj.weight"},
    TensorName{"attn_q.bias", "self_attn.q_proj.bias"},
    TensorName{"attn_k.bias", "self_attn.k_proj.bias"},
    TensorName{"attn_v.bias", "self_attn.v_proj.bias"},
    TensorName{"attn_qkv.weight", "self_attn.qkv_proj.weight"},
    TensorName{"attn_output.weight", "self_attn.o_proj.weight"},
    TensorName{"attn_output.bias", "self_attn.o_proj.bias"},
    TensorName{"attn_q_norm.weight", "self_attn.q_norm.weight"},
    TensorName{"attn_k_norm.weight", "self_attn.k_norm.weight"},
    TensorName{"ffn_norm.weight", "post_attention_layernorm.weight"},
    TensorName{"ffn_gate.weight", "mlp.gate_proj.weight"},
    TensorName{"ffn_up.weight", "mlp.up_proj.weight"},
    TensorName{"ffn_down.weight", "mlp.down_proj.weight"},
    TensorName{"ffn_gate_inp.weight", "mlp.gate.weight"},
    TensorName{"ffn_gate.E.weight", "mlp.experts.E.gate_proj.weight"},
    TensorName{"ffn_up.E.weight", "mlp.experts.E.up_proj.weight"},
    TensorName{"ffn_down.E.weight", "mlp.experts.E.down_proj.weight"},
};

std::string_view hf_name(const Family& family, std::string_view gguf) {
  for (const TensorName& name : family.hf_names)
    if (name.gguf == gguf) return name.hf;
  for (const TensorName& name : kHfNames)
    if (name.gguf == gguf) return name.hf;
  return {};
}

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// "ffn_gate.7.weight" -> "ffn_gate.E.weight" and "7"
std::pair<std::string, std::string_view> without_expert(std::string_view name) {
  const size_t first = name.find('.'), second = first == name.npos ? name.npos : name.find('.', first + 1);
  if (second == name.npos || !is_number(name.substr(first + 1, second - first - 1))) return {std::string(name), {}};
  return {fmt::format("{}.E{}", name.substr(0, first), name.substr(second)),
          name.substr(first + 1, second - first - 1)};
}

}  // namespace

std::span<const Family* const> all_families() { return kFamilies; }

Result<const Family*> find_family(const Checkpoint& checkpoint) {
  const ModelKeys keys(checkpoint);
  std::string known;
  for (const Family* family : kFamilies) {
    const bool same = keys.hugging_face()
                          ? std::ranges::find(family->hf_classes, keys.architecture()) != family->hf_classes.end()
                          : family->name == keys.architecture();
    if (same) return family;
    known += fmt::format(" {}", family->name);
  }
  if (keys.architecture().empty())
    return fail(Code::kMalformed, "the model does not say its family ({})",
                keys.hugging_face() ? "architectures in config.json" : "general.architecture");
  return fail(Code::kUnsupported, "model family '{}' is not known; this program knows:{}", keys.architecture(), known);
}

std::string tensor_name(const Family& family, const Checkpoint& checkpoint, std::string_view gguf_name) {
  if (checkpoint.has_gguf_names()) return std::string(gguf_name);
  std::string prefix;
  std::string_view rest = gguf_name;
  if (rest.starts_with("blk.")) {
    rest.remove_prefix(4);
    const size_t dot = rest.find('.');
    prefix = fmt::format("model.layers.{}.", rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
  }
  const auto [general, expert] = without_expert(rest);
  std::string name(hf_name(family, general));
  if (name.empty()) return prefix + std::string(rest);  // names no file has; the error shows what was looked for
  if (!expert.empty()) name.replace(name.find(".E.") + 1, 1, expert);
  return prefix + name;
}

}  // namespace hearth
