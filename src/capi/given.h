// What a C caller gave, checked and copied: the structs in their present form, whatever header the caller was built with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hearth/hearth.h"
#include "text/sampler.h"

namespace hearth {

// kInvalidArgument if the pointer is null.
Result<void> given(std::string_view what, const void* pointer);
// kInvalidArgument with the value and the range.
Result<void> in_range(std::string_view what, int64_t value, int64_t min, int64_t max);
// kLimit over limits::kPromptBytes.
Result<void> check_bytes(std::string_view what, size_t bytes);

// Null gives the defaults; fields that the caller's header did not have are zero. Ranges are checked.
Result<hearth_options> take(const hearth_options* options);
// Counts and pointers agree; the engine checks the values.
Result<hearth_request> take(const hearth_request* request);
Result<void> check_piece(const hearth_piece* piece);

SamplingOptions sampling_of(const hearth_request& request);
Result<std::vector<std::string>> stops_of(const hearth_request& request);

}  // namespace hearth
