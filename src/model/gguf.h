// The GGUF file format, versions 2 and 3, little endian: header, keys and values, tensor table, aligned tensor data.
// Source: the GGUF specification of the ggml project. This is the only reader of the format in the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "model/metadata.h"

namespace hearth {

struct GgufFile {
  uint32_t version = 0;
  Metadata metadata;               // views into the bytes that were parsed
  std::vector<TensorRef> tensors;  // likewise
};

bool has_gguf_magic(std::span<const std::byte> bytes);

// Parses one file. Nothing in it is trusted: counts, lengths, shapes, types, offsets, alignment and overlap are checked
// before use, in constant time each; memory is at most a small multiple of the file. Errors name the key or tensor.
Result<GgufFile> parse_gguf(std::span<const std::byte> bytes);

// A whole model from its only or first file: opens the other parts of a split model beside it (split.count, split.no
// and split.tensors.count must agree). Errors name the file.
Result<Checkpoint> open_gguf(MappedFile file);

// The path of part `index` (from 0) of the split model whose first part is `first` ("name-00001-of-00003.gguf").
// kMalformed if that name does not end so or has another count.
Result<std::filesystem::path> gguf_split_path(const std::filesystem::path& first, uint32_t index, uint32_t count);

// The name of a tensor type by its number, also of types that cannot be read ("IQ2_XXS"); "unknown" otherwise.
std::string_view gguf_type_name(uint32_t id);

}  // namespace hearth
