// What a layer's matrices read on a text: second moments of each input.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compress/error_feedback.h"
#include "compress/recording_backend.h"
#include "compress/source_model.h"

namespace hearth::compress {

// Activations of some sequences, between two layers: [tokens][d_model] each.
using Streams = std::vector<std::vector<float>>;

// The feedback of each matrix by name; matrices with one input share it.
using FeedbackByName = std::map<std::string, std::shared_ptr<const ErrorFeedback>, std::less<>>;

// Runs layer `index` as the source has it over copies of the streams. Matrices whose inputs are not seen (what experts read last) or
// are no multiple of kGroup wide get ErrorFeedback::none().
Result<FeedbackByName> calibrate_layer(const SourceModel& source, int index, const Streams& streams, float damping,
                                       Backend& backend);

}  // namespace hearth::compress
