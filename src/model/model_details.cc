#include "model/model_details.h"

#include <algorithm>
#include <map>

#include "base/json.h"
#include "model/arch/all.h"
#include "model/arch/bert.h"
#include "model/gguf_tokenizer.h"

namespace hearth {
namespace {

namespace json = boost::json;

// Of tokenizer_config.json: one text, or several with names of which "default" is meant.
std::string template_of_config(const json::object& config) {
  const json::value* value = config.if_contains("chat_template");
  if (!value) return {};
  if (value->is_string()) return std::string(value->get_string());
  if (!value->is_array()) return {};
  for (const json::value& entry : value->get_array()) {
    const json::object* named = entry.if_object();
    const json::value* name = named ? named->if_contains("name") : nullptr;
    const json::value* text = named ? named->if_contains("template") : nullptr;
    if (name && text && text->is_string() && *name == "default") return std::string(text->get_string());
  }
  return {};
}

std::string chat_template_of(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    auto templates = chat_templates_from_gguf(checkpoint.metadata());
    return templates && !templates->empty() ? std::move(templates->front().text) : std::string();
  }
  const auto text = checkpoint.text_file("tokenizer_config.json");
  const auto config = text ? parse_json(*text) : Result<json::value>(std::unexpected(text.error()));
  const json::object* object = config ? config->if_object() : nullptr;
  return object ? template_of_config(*object) : std::string();
}

void count_parameters(const Checkpoint& checkpoint, ModelDetails& details) {
  std::map<std::string_view, uint64_t> by_type;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    details.parameters += tensor.elements();
    by_type[info(tensor.type).name] += tensor.elements();
  }
  const auto most = std::ranges::max_element(by_type, {}, [](const auto& entry) { return entry.second; });
  if (most != by_type.end()) details.quantization = most->first;
}

}  // namespace

Result<ModelDetails> model_details(const std::filesystem::path& path) {
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  const ModelKeys keys(checkpoint);
  ModelDetails details;
  details.format = checkpoint.kind() == Checkpoint::Kind::kGguf ? "gguf" : "safetensors";
  count_parameters(checkpoint, details);
  details.context_max = keys.int_or("context_length", "max_position_embeddings", 0).value_or(0);
  details.d_model = keys.int_or("embedding_length", "hidden_size", 0).value_or(0);
  const auto family = find_family(checkpoint);
  details.completion = family.has_value();
  details.family = family ? std::string((*family)->name) : std::string(keys.architecture());
  if (is_bert(checkpoint)) {
    details.family = "bert";
    details.embedding = true;
    return details;
  }
  details.chat_template = chat_template_of(checkpoint);
  details.tools = details.chat_template.find("tools") != std::string::npos;
  details.thinking = details.chat_template.find("<think>") != std::string::npos;
  return details;
}

std::string parameter_count_text(uint64_t parameters) {
  constexpr uint64_t kMillion = 1'000'000, kBillion = 1'000'000'000;
  const auto count = static_cast<double>(parameters);
  if (parameters >= kBillion) return fmt::format("{:.1f}B", count / kBillion);
  if (parameters >= kMillion) return fmt::format("{:.2f}M", count / kMillion);
  return fmt::format("{:.2f}K", count / 1000);
}

}  // namespace hearth
