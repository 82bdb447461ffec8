#include <cmath>

#include "model/arch/all.h"

namespace hearth {
namespace {

namespace json = boost::json;

Result<int> to_int(const json::value& value, std::string_view name) {
  int64_t number = 0;
  if (value.is_int64())
    number = value.get_int64();
  else if (value.is_double() && std::nearbyint(value.get_double()) == value.get_double() &&
           std::fabs(value.get_double()) < 1e15)
    number = static_cast<int64_t>(value.get_double());
  else
    return fail(Code::kMalformed, "config.json: '{}' is not a whole number", name);
  if (number < INT32_MIN || number > INT32_MAX) return fail(Code::kMalformed, "config.json: '{}' is {}", name, number);
  return static_cast<int>(number);
}

Result<double> to_double(const json::value& value, std::string_view name) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  return fail(Code::kMalformed, "config.json: '{}' is not a number", name);
}

}  // namespace

ModelKeys::ModelKeys(const Checkpoint& checkpoint) : checkpoint_(&checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    architecture_ = checkpoint.metadata().find<std::string>("general.architecture").value_or("");
    return;
  }
  config_ = &checkpoint.config();
  const json::value* classes = field("architectures");
  if (classes && classes->is_array() && !classes->get_array().empty() && classes->get_array().front().is_string())
    architecture_ = std::string(classes->get_array().front().get_string());
}

std::string ModelKeys::key(std::string_view gguf) const { return fmt::format("{}.{}", architecture_, gguf); }

std::string ModelKeys::missing(std::string_view gguf, std::string_view hf) const {
  return config_ ? fmt::format("config.json has no '{}'", hf) : fmt::format("the file has no key '{}'", key(gguf));
}

const json::value* ModelKeys::field(std::string_view hf) const {
  const json::object* object = config_;
  while (object) {
    const size_t dot = hf.find('.');
    const json::value* value = object->if_contains(hf.substr(0, dot));
    if (!value || value->is_null()) return nullptr;
    if (dot == hf.npos) return value;
    object = value->if_object();
    hf.remove_prefix(dot + 1);
  }
  return nullptr;
}

Result<std::optional<int>> ModelKeys::find_int(std::string_view gguf, std::string_view hf) const {
  if (config_) {
    const json::value* value = field(hf);
    if (!value) return std::nullopt;
    return TRY(to_int(*value, hf));
  }
  if (gguf.empty() || !checkpoint_->metadata().contains(key(gguf))) return std::nullopt;
  return TRY(checkpoint_->metadata().require<int32_t>(key(gguf)));
}

Result<int> ModelKeys::require_int(std::string_view gguf, std::string_view hf) const {
  const auto value = TRY(find_int(gguf, hf));
  if (!value) return fail(Code::kMalformed, "{}", missing(gguf, hf));
  return *value;
}

Result<int> ModelKeys::int_or(std::string_view gguf, std::string_view hf, int fallback) const {
  return TRY(find_int(gguf, hf)).value_or(fallback);
}

Result<std::optional<double>> ModelKeys::find_float(std::string_view gguf, std::string_view hf) const {
  if (config_) {
    const json::value* value = field(hf);
    if (!value) return std::nullopt;
    return TRY(to_double(*value, hf));
  }
  if (gguf.empty() || !checkpoint_->metadata().contains(key(gguf))) return std::nullopt;
  return TRY(checkpoint_->metadata().require<double>(key(gguf)));
}

Result<double> ModelKeys::float_or(std::string_view gguf, std::string_view hf, double fallback) const {
  return TRY(find_float(gguf, hf)).value_or(fallback);
}

Result<double> ModelKeys::require_float(std::string_view gguf, std::string_view hf) const {
  const auto value = TRY(find_float(gguf, hf));
  if (!value) return fail(Code::kMalformed, "{}", missing(gguf, hf));
  return *value;
}

Result<bool> ModelKeys::bool_or(std::string_view gguf, std::string_view hf, bool fallback) const {
  if (config_) {
    const json::value* value = field(hf);
    if (!value) return fallback;
    if (!value->is_bool()) return fail(Code::kMalformed, "config.json: '{}' is neither true nor false", hf);
    return value->get_bool();
  }
  if (gguf.empty()) return fallback;
  return checkpoint_->metadata().value_or<bool>(key(gguf), fallback);
}

Result<std::string> ModelKeys::string_or(std::string_view gguf, std::string_view hf, std::string_view fallback) const {
  if (config_) {
    const json::value* value = field(hf);
    if (!value) return std::string(fallback);
    if (!value->is_string()) return fail(Code::kMalformed, "config.json: '{}' is not a text", hf);
    return std::string(value->get_string());
  }
  if (gguf.empty()) return std::string(fallback);
  return checkpoint_->metadata().value_or<std::string>(key(gguf), std::string(fallback));
}

Result<std::vector<int>> ModelKeys::per_layer(std::string_view gguf, std::string_view hf, int n_layers,
                                              std::optional<int> fallback) const {
  const auto count = static_cast<size_t>(n_layers);
  if (config_) {
    const json::value* value = field(hf);
    if (value && value->is_array()) {
      const json::array& list = value->get_array();
      if (list.size() != count)
        return fail(Code::kMalformed, "config.json: '{}' has {} values for {} layers", hf, list.size(), n_layers);
      std::vector<int> out;
      for (const json::value& each : list) out.push_back(TRY(to_int(each, hf)));
      return out;
    }
    if (value) return std::vector<int>(count, TRY(to_int(*value, hf)));
  } else if (!gguf.empty() && checkpoint_->metadata().contains(key(gguf))) {
    return checkpoint_->metadata().require_each<int32_t>(key(gguf), count);
  }
  if (!fallback) return fail(Code::kMalformed, "{}", missing(gguf, hf));
  return std::vector<int>(count, *fallback);
}

Result<std::vector<bool>> ModelKeys::layer_flags(std::string_view gguf, int n_layers) const {
  if (config_) return std::vector<bool>();
  const MetadataValue* value = checkpoint_->metadata().find_value(key(gguf));
  if (!value || value->type != ValueType::kArray) return std::vector<bool>();
  std::vector<bool> out;
  if (value->element == ValueType::kBool) {
    for (const std::byte each : value->bytes) out.push_back(each != std::byte{0});
  } else {
    for (const int32_t each : TRY(checkpoint_->metadata().require<std::vector<int32_t>>(key(gguf))))
      out.push_back(each != 0);
  }
  if (out.size() != static_cast<size_t>(n_layers))
    return fail(Code::kMalformed, "the key '{}' has {} values for {} layers", key(gguf), out.size(), n_layers);
  return out;
}

Result<std::vector<float>> ModelKeys::floats(std::string_view gguf, std::string_view hf) const {
  if (!config_) {
    if (gguf.empty() || !checkpoint_->metadata().contains(key(gguf))) return std::vector<float>();
    return checkpoint_->metadata().require<std::vector<float>>(key(gguf));
  }
  const json::value* value = field(hf);
  if (!value) return std::vector<float>();
  if (!value->is_array()) return fail(Code::kMalformed, "config.json: '{}' is not a list", hf);
  std::vector<float> out;
  for (const json::value& each : value->get_array()) out.push_back(static_cast<float>(TRY(to_double(each, hf))));
  return out;
}

Result<std::vector<std::string>> ModelKeys::strings(std::string_view hf) const {
  const json::value* value = field(hf);
  if (!value) return std::vector<std::string>();
  if (!value->is_array()) return fail(Code::kMalformed, "config.json: '{}' is not a list", hf);
  std::vector<std::string> out;
  for (const json::value& each : value->get_array()) {
    if (!each.is_string()) return fail(Code::kMalformed, "config.json: '{}' holds something that is no text", hf);
    out.emplace_back(each.get_string());
  }
  return out;
}

}  // namespace hearth
