// What a model of Ollama's store was made with: its system prompt and parameters, where a request does not say otherwise.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <utility>

#include "engine/catalog.h"
#include "serve/chat_request.h"

namespace hearth::serve {

// The body with the parameters that it lacks, beside its other fields or, for `in_options`, in Ollama's object of options. Empty: there
// is nothing to add.
std::optional<boost::json::value> with_parameters(const LoadedModel& model, const boost::json::value& body,
                                                  bool in_options);
// Puts the model's system prompt before messages that have none.
void add_system(const LoadedModel& model, boost::json::array& messages);

// Reads the body anew, with the model's parameters. If those are no good, what was read before stays.
template <typename Request>
void apply_parameters(const LoadedModel& model, const boost::json::value& body, bool in_options,
                      Result<Request> (*read)(const boost::json::value&), Request& request) {
  const auto whole = with_parameters(model, body, in_options);
  if (!whole) return;
  if (auto again = read(*whole)) request = std::move(*again);
}

}  // namespace hearth::serve
