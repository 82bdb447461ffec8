// Making text from values: padding, replacing and Python's two ways of formatting, all within the memory limit.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/jinja_value.h"

namespace hearth::jinja {

// kLimit for a text that may not be made.
Result<void> check_text_size(uint64_t bytes);
// replaced(), refused before it is made if the result would be too large.
Result<Value> replace_bounded(Heap& heap, std::string_view text, std::string_view from, std::string_view to,
                              int64_t count);
// To `width` code points with `fill`; side -1 pads on the right, 1 on the left, 0 on both.
Result<Value> pad_text(Heap& heap, std::string_view text, int64_t width, std::string_view fill, int side);
// str.format: {}, {0}, {name}, each with an optional format specification of fill, alignment, sign, width, precision
// and type.
Result<Value> format_braces(Heap& heap, std::string_view format, std::span<const Value> positional,
                            std::span<const Value> names, std::span<const Value> named);

}  // namespace hearth::jinja
