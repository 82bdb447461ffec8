#include "serve/model_defaults.h"

#include <array>

#include "base/json.h"
#include "base/log.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

// A parameter as Ollama calls it, and the fields by which a request says the same, the first of which is added.
struct Parameter {
  std::string_view name;
  std::array<std::string_view, 4> fields{};
};
constexpr std::array kParameters{
    Parameter{"stop", {"stop"}},
    Parameter{"seed", {"seed"}},
    Parameter{"temperature", {"temperature"}},
    Parameter{"top_k", {"top_k"}},
    Parameter{"top_p", {"top_p"}},
    Parameter{"min_p", {"min_p"}},
    Parameter{"repeat_penalty", {"repeat_penalty", "repetition_penalty"}},
    Parameter{"presence_penalty", {"presence_penalty"}},
    Parameter{"frequency_penalty", {"frequency_penalty"}},
    Parameter{"num_predict", {"n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens"}},
};

bool has(const json::object& body, std::string_view field) { return !field.empty() && body.contains(field); }

}  // namespace

std::optional<json::value> with_parameters(const LoadedModel& model, const json::value& body, bool in_options) {
  if (model.parameters_json.empty() || !body.is_object()) return {};
  const auto parsed = parse_json(model.parameters_json);
  const auto* given = parsed ? parsed->if_object() : nullptr;
  if (given == nullptr) {
    LOG(kWarning, "model {}: its parameters are no JSON object and are not used", model.name);
    return {};
  }
  json::value whole = body;
  json::object* target = &whole.as_object();
  if (in_options) {
    json::value& options = (*target)["options"];
    if (!options.is_object()) options = json::object();
    target = &options.as_object();
    for (const auto& member : *given)
      if (!target->contains(member.key())) target->emplace(member.key(), member.value());
    return whole;
  }
  for (const Parameter& parameter : kParameters) {
    const auto* value = given->if_contains(parameter.name);
    const bool said =
        std::ranges::any_of(parameter.fields, [&](std::string_view field) { return has(*target, field); });
    if (value != nullptr && !said) target->emplace(parameter.fields[0], *value);
  }
  return whole;
}

void add_system(const LoadedModel& model, json::array& messages) {
  if (model.system.empty()) return;
  const auto* first = messages.empty() ? nullptr : messages.front().if_object();
  const auto* role = first == nullptr ? nullptr : first->if_contains("role");
  if (role != nullptr && *role == "system") return;
  messages.insert(messages.begin(), json::object{{"role", "system"}, {"content", model.system}});
}

}  // namespace hearth::serve
