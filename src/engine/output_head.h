// The output head of a model elsewhere than in the engine's decoder, which has it as well.
//
// Called by the engine's thread alone. An error means that the decoder's own head has to do: nothing is waited for then.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace hearth {

class OutputHead {
 public:
  virtual ~OutputHead() = default;
  // As Decoder::most_likely() and logits(), to the bit, of rows of the residual stream behind the last layer: [rows][d_model].
  virtual Result<void> most_likely(std::span<const float> rows, int count, std::span<int32_t> tokens,
                                   std::span<float> logits) = 0;
  virtual Result<void> logits(std::span<const float> rows, std::span<float> out) = 0;
};

}  // namespace hearth
