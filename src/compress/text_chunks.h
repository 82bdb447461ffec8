// Pieces of a text to calibrate and judge on.
#pragma once

#include <cstdint>
#include <string_view>

#include "compress/source_model.h"

namespace hearth::compress {

// All whole pieces of `length` tokens, in an order that the seed gives; each begins with BOS where the model wants one.
Chunks shuffled_chunks(const Tokenizer& tokenizer, std::string_view text, size_t length, uint64_t seed);

}  // namespace hearth::compress
