// Any bytes as a GGUF file: parsed, every value asked for, the tokenizer taken, a row of every tensor decoded.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/checkpoint.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "model/gguf_writer.h"

namespace {

using hearth::MetadataEntry;
using hearth::TensorRef;

void ask_for_everything(const hearth::Metadata& metadata) {
  hearth::GgufWriter writer;
  for (const MetadataEntry& entry : metadata.entries()) {
    (void)metadata.require<uint32_t>(entry.key);
    (void)metadata.require<int64_t>(entry.key);
    (void)metadata.require<float>(entry.key);
    (void)metadata.require<bool>(entry.key);
    (void)metadata.require<std::string>(entry.key);
    (void)metadata.require<std::vector<int32_t>>(entry.key);
    (void)metadata.require<std::vector<float>>(entry.key);
    (void)metadata.require<std::vector<std::string>>(entry.key);
    (void)metadata.require_each<uint32_t>(entry.key, 4);
    writer.set(entry.key, entry.value);
  }
  // What was read can be written, and is then the same.
  const auto copy = writer.bytes();
  const auto again = hearth::parse_gguf(copy);
  if (!again.has_value() || again->metadata.entries().size() != metadata.entries().size()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file = hearth::parse_gguf(std::as_bytes(std::span(data, size)));
  if (!file) {
    if (file.error().message.empty()) __builtin_trap();
    return 0;
  }
  ask_for_everything(file->metadata);
  (void)hearth::tokenizer_from_gguf(file->metadata);
  (void)hearth::chat_templates_from_gguf(file->metadata);
  for (const TensorRef& tensor : file->tensors) {
    std::vector<float> row(tensor.row_length());
    hearth::info(tensor.type).decode(tensor.data.data(), row.data(), static_cast<int64_t>(row.size()));
  }
  hearth::Checkpoint::Parts parts;
  parts.tensors = std::move(file->tensors);
  (void)hearth::Checkpoint::create("fuzz", std::move(parts));
  return 0;
}
