// The safetensors format and Hugging Face folders made of it.
// Source: the format description of the safetensors project (8 bytes header length, JSON header, tensor data).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace hearth {

// The tensors of one file, in the order of their data. Lengths, dtypes (F32, F16, BF16; others are kUnsupported),
// shapes and offsets are checked: in range, without gap or overlap, the size that dtype and shape need. Errors name the
// tensor.
Result<std::vector<TensorRef>> parse_safetensors(std::span<const std::byte> bytes);

// A folder with config.json and model.safetensors, or the files that model.safetensors.index.json lists.
Result<Checkpoint> open_hf_folder(const std::filesystem::path& folder);

}  // namespace hearth
