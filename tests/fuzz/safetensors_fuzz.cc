// Any bytes as a safetensors file: the header parsed, every tensor's bytes read.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensors = hearth::parse_safetensors(std::as_bytes(std::span(data, size)));
  if (!tensors) {
    if (tensors.error().message.empty()) __builtin_trap();
    return 0;
  }
  uint64_t data_bytes = 0;
  for (const hearth::TensorRef& tensor : *tensors) {
    std::vector<float> row(tensor.row_length());
    hearth::info(tensor.type).decode(tensor.data.data(), row.data(), static_cast<int64_t>(row.size()));
    data_bytes += tensor.data.size();
  }
  if (data_bytes > size) __builtin_trap();  // tensors may not share bytes
  return 0;
}
