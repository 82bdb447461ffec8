#include "compress/write_model.h"

#include "base/mapped_file.h"
#include "model/gguf_writer.h"
#include "model/pack_import.h"

namespace hearth::compress {
namespace {

// GGUF's file_type is a hint for people's tools: the type that most matrices have, by llama.cpp's numbers.
constexpr std::string_view kFileType = "general.file_type";

Result<GgufWriter> gguf_of(const SourceModel& source, const EncodedTensors& tensors) {
  const Checkpoint& checkpoint = source.checkpoint();
  if (checkpoint.kind() != Checkpoint::Kind::kGguf)
    return fail(Code::kUnsupported, "{}: GGUF is written from GGUF only; use --format pack",
                checkpoint.path().string());
  GgufWriter writer;
  for (const MetadataEntry& entry : checkpoint.metadata().entries())
    if (entry.key != kFileType && !entry.key.starts_with("split.")) writer.set(entry.key, entry.value);
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const auto found = tensors.find(tensor.name);
    if (found == tensors.end()) {
      if (source.find(tensor.name) || tensor.data.empty())
        return fail(Code::kUnsupported, "tensor '{}' is stored in another form in this source; use --format pack",
                    tensor.name);
      writer.add_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.n_dims)),
                        tensor.data);
      continue;
    }
    const EncodedTensor& encoded = found->second;
    writer.add_tensor(tensor.name, encoded.type, std::span(encoded.shape).first(static_cast<size_t>(encoded.n_dims)),
                      encoded.data);
  }
  return writer;
}

}  // namespace

Result<void> write_pack(const SourceModel& source, const EncodedTensors& tensors, const Digest& source_digest,
                        Backend& backend, int n_threads, const std::filesystem::path& path) {
  const Checkpoint checkpoint = TRY(source.with_tensors(tensors));
  PackPlan plan = TRY(PackPlan::create(checkpoint, backend, source_digest));
  return write_file_atomically(path, [&](int fd) { return plan.write(fd, path, n_threads, {}); });
}

Result<void> write_gguf(const SourceModel& source, const EncodedTensors& tensors, const std::filesystem::path& path) {
  return TRY(gguf_of(source, tensors)).write(path);
}

Result<uint64_t> file_bytes(const SourceModel& source, const TypePlan& plan, bool gguf, Backend& backend) {
  EncodedTensors blank;
  for (const PlannedTensor& tensor : source.tensors()) {
    const auto planned = plan.find(tensor.name);
    if (planned == plan.end()) {
      blank[tensor.name] = SourceModel::encoded(tensor);
      continue;
    }
    blank[tensor.name] = {.type = planned->second->type,
                          .shape = tensor.shape,
                          .n_dims = tensor.n_dims,
                          .data = std::vector<std::byte>(SourceModel::bytes_as(tensor, *planned->second))};
  }
  if (gguf) return TRY(gguf_of(source, blank)).file_bytes();
  const Checkpoint checkpoint = TRY(source.with_tensors(blank));
  return TRY(PackPlan::create(checkpoint, backend, {})).file_bytes();
}

}  // namespace hearth::compress
