#include "cli/inspect_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json.hpp>
#include <vector>

#include "cli/output.h"
#include "store/model_name.h"
#include "text/utf8.h"

namespace hearth::cli {
namespace json = boost::json;
namespace {

constexpr size_t kShownArrayElements = 8;

// A scalar of any type; empty for arrays.
std::optional<json::value> scalar(const Metadata& metadata, const MetadataEntry& entry) {
  switch (entry.value.type) {
    case ValueType::kString:
      if (auto text = metadata.find<std::string>(entry.key)) return json::value(with_replacement(*text));
      return std::nullopt;
    case ValueType::kBool:
      if (auto value = metadata.find<bool>(entry.key)) return json::value(*value);
      return std::nullopt;
    case ValueType::kF32:
    case ValueType::kF64:
      if (auto value = metadata.find<double>(entry.key)) return json::value(*value);
      return std::nullopt;
    case ValueType::kU64:
      if (auto value = metadata.find<uint64_t>(entry.key)) return json::value(*value);
      return std::nullopt;
    default:
      if (auto value = metadata.find<int64_t>(entry.key)) return json::value(*value);
      return std::nullopt;
  }
}

// Arrays have up to half a million elements: their kind, length and beginning say enough.
json::value array_summary(const MetadataEntry& entry) {
  json::object summary{{"array_of", std::string(value_type_name(entry.value.element))}, {"count", entry.value.count}};
  if (entry.value.element != ValueType::kString) return summary;
  json::array first;
  for (size_t i = 0; i < std::min(kShownArrayElements, entry.value.strings.size()); ++i) {
    first.emplace_back(with_replacement(entry.value.strings[i]));
  }
  summary["first"] = std::move(first);
  return summary;
}

json::object metadata_json(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kHuggingFace) return checkpoint.config();
  json::object object;
  for (const MetadataEntry& entry : checkpoint.metadata().entries()) {
    auto value = scalar(checkpoint.metadata(), entry);
    object[with_replacement(entry.key)] = value ? std::move(*value) : array_summary(entry);
  }
  return object;
}

json::object share_json(const Share& share) {
  return {{"tensors", share.tensors},
          {"elements", share.elements},
          {"bytes", share.bytes},
          {"bits_per_weight", share.bits_per_weight()}};
}

json::object shares_json(const std::map<std::string, Share>& shares) {
  json::object object;
  for (const auto& [name, share] : shares) object[name] = share_json(share);
  return object;
}

json::value memory_json(const Result<MemoryPlan>& memory) {
  if (!memory) return json::object{{"error", memory.error().message}};
  return json::object{
      {"family", memory->family},           {"context", memory->context},
      {"context_max", memory->context_max}, {"weight_bytes", memory->weight_bytes},
      {"kv_bytes", memory->kv_bytes},       {"total_bytes", memory->weight_bytes + memory->kv_bytes},
      {"token_bytes", memory->token_bytes}, {"token_bytes_at_4_bits", memory->token_bytes - memory->token_low_bytes}};
}

std::string_view format_name(const Checkpoint& checkpoint) {
  return checkpoint.kind() == Checkpoint::Kind::kGguf ? "gguf" : "huggingface";
}

std::vector<std::string> share_row(const std::string& name, const Share& share) {
  return {name, std::to_string(share.tensors), std::to_string(share.elements), human_bytes(share.bytes),
          fmt::format("{:.3f}", share.bits_per_weight())};
}

std::string memory_text(const Result<MemoryPlan>& memory) {
  if (!memory) return fmt::format("memory: cannot be planned: {}\n", memory.error().message);
  std::string text = fmt::format(
      "memory: {} for weights + {} for keys and values of {} positions = {} (family {}, at most {} positions)\n",
      human_memory(memory->weight_bytes), human_memory(memory->kv_bytes), memory->context,
      human_memory(memory->weight_bytes + memory->kv_bytes), memory->family, memory->context_max);
  if (memory->token_bytes > 0) text += fmt::format("each token reads {} of weights", human_memory(memory->token_bytes));
  if (memory->token_low_bytes > 0)
    text += fmt::format(", at 4 bits (--precision 4) {}", human_memory(memory->token_bytes - memory->token_low_bytes));
  return text + "\n";
}

}  // namespace

double Share::bits_per_weight() const {
  return elements == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
}

std::string_view tensor_kind(std::string_view name) {
  auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (has("norm")) return "norm";
  if (has("_exps") || has(".experts.") || has("ffn_gate_inp") || has("mlp.gate.")) return "experts";
  if (has("attn") || has("attention")) return "attention";
  if (has("ffn") || has("mlp") || has("feed_forward")) return "feed-forward";
  if (has("token_embd") || has("embed_tokens")) return "embedding";
  if (name == "output.weight" || has("lm_head")) return "output";
  return "other";
}

InspectReport inspect_checkpoint(const Checkpoint& checkpoint, Backend& backend, int context, KvType kv_type) {
  InspectReport report{{}, {}, {}, plan_memory(checkpoint, backend, context, kv_type)};
  for (const TensorRef& tensor : checkpoint.tensors()) {
    for (Share* share : {&report.all, &report.by_kind[std::string(tensor_kind(tensor.name))],
                         &report.by_type[std::string(info(tensor.type).name)]}) {
      ++share->tensors;
      share->elements += tensor.elements();
      share->bytes += tensor.stored_bytes();
    }
  }
  return report;
}

std::string to_text(const Checkpoint& checkpoint, const InspectReport& report, bool with_tensors) {
  std::string text = fmt::format("{}: {}, {} in {} file{}\n\n", checkpoint.path().string(), format_name(checkpoint),
                                 human_bytes(checkpoint.file_bytes()), checkpoint.files().size(),
                                 checkpoint.files().size() == 1 ? "" : "s");
  for (const auto& entry : metadata_json(checkpoint)) {
    text +=
        fmt::format("{} = {}\n", printable(std::string_view(entry.key())), printable(json::serialize(entry.value())));
  }
  std::vector<std::vector<std::string>> rows{{"WEIGHTS", "TENSORS", "ELEMENTS", "SIZE", "BITS PER WEIGHT"}};
  for (const auto& [name, share] : report.by_kind) rows.push_back(share_row(name, share));
  for (const auto& [name, share] : report.by_type) rows.push_back(share_row(name, share));
  rows.push_back(share_row("all", report.all));
  text += "\n" + table(rows);
  if (with_tensors) {
    std::vector<std::vector<std::string>> tensors{{"TENSOR", "TYPE", "SHAPE"}};
    for (const TensorRef& tensor : checkpoint.tensors()) {
      tensors.push_back({printable(tensor.name), std::string(info(tensor.type).name), shape_text(tensor)});
    }
    text += "\n" + table(tensors);
  }
  return text + "\n" + memory_text(report.memory);
}

std::string to_json(const Checkpoint& checkpoint, const InspectReport& report) {
  json::array tensors;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    json::array shape;
    for (int i = 0; i < tensor.n_dims; ++i) shape.push_back(tensor.shape[static_cast<size_t>(i)]);
    tensors.push_back(json::object{{"name", with_replacement(tensor.name)},
                                   {"type", info(tensor.type).name},
                                   {"shape", shape},
                                   {"bytes", tensor.stored_bytes()}});
  }
  const json::object object{{"path", checkpoint.path().string()},
                            {"format", format_name(checkpoint)},
                            {"file_bytes", checkpoint.file_bytes()},
                            {"metadata", metadata_json(checkpoint)},
                            {"weights", json::object{{"all", share_json(report.all)},
                                                     {"by_kind", shares_json(report.by_kind)},
                                                     {"by_type", shares_json(report.by_type)}}},
                            {"memory", memory_json(report.memory)},
                            {"tensors", tensors}};
  return json::serialize(object);
}

}  // namespace hearth::cli
