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

// The feedback of each matrix by name; matrices with one input share it.
using FeedbackByName = std::map<std::string, std::shared_ptr<const ErrorFeedback>, std::less<>>;

// Runs layer `index` as the source has it over copies of the streams. Matrices whose inputs are not seen (what experts read last) or
// are no multiple of kGroup wide get ErrorFeedback::none().
Result<FeedbackByName> calibrate_layer(const SourceModel& source, int index, const Streams& streams, float damping,
                                       Backend& backend);

// The feedback of the matrix that gives the logits, from the streams' beginnings: some of them run through the source's layers.
Result<ErrorFeedback> calibrate_head(const SourceModel& source, const Streams& streams, float damping,
                                     Backend& backend);

}  // namespace hearth::compress
