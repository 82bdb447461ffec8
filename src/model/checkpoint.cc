#include "model/checkpoint.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "model/gguf.h"
#include "model/pack.h"
#include "model/safetensors.h"

namespace hearth {
namespace {

// What a file that is no GGUF seems to be, for the error message.
std::string_view file_kind(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 16));
  if (text.empty()) return "an empty file";
  if (text.starts_with("PK\x03\x04")) return "a zip archive (PyTorch writes its pickles so)";
  if (text.starts_with("\x80\x02") || text.starts_with("\x80\x04")) return "a Python pickle";
  if (text.starts_with("FUGG")) return "a big-endian GGUF";
  for (const std::string_view magic : {"lmgg", "fmgg", "tjgg", "algg"}) {
    if (text.starts_with(magic)) return "a GGML file, older than GGUF";
  }
  if (text.size() >= 9 && text[8] == '{') return "a safetensors file (open the folder it lies in)";
  if (text.starts_with("version https:")) return "a Git LFS pointer (the model itself was not downloaded)";
  if (text.starts_with("<!DOCTYPE") || text.starts_with("<html")) return "a web page";
  return "a file of an unknown kind";
}

}  // namespace

uint64_t TensorRef::stored_bytes() const {
  uint64_t sum = data.size();
  for (const auto& slice : panels) sum += slice.size();
  return sum;
}

std::string shape_text(const TensorRef& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.shape.begin(), tensor.shape.begin() + tensor.n_dims, ", "));
}

Result<uint64_t> tensor_bytes(const TensorRef& tensor) {
  const TypeInfo& type = info(tensor.type);
  Checked elements(1);
  Checked rows(1);
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 0) {
      return fail(Code::kMalformed, "tensor '{}' of shape {} has a dimension of 0", tensor.name, shape_text(tensor));
    }
    elements = elements * Checked(tensor.shape[i]);
    if (i > 0) rows = rows * Checked(tensor.shape[i]);
  }
  if (!elements.at_most(limits::kTensorElements)) {
    return fail(Code::kLimit, "tensor '{}' of shape {} has more than {} elements", tensor.name, shape_text(tensor),
                limits::kTensorElements);
  }
  const auto row = row_bytes(type, tensor.shape[0]);
  if (!row) {
    return fail(Code::kMalformed, "tensor '{}': rows of {} elements are no multiple of the {} in a {} block",
                tensor.name, tensor.shape[0], type.block, type.name);
  }
  const Checked size = Checked(*row) * rows;
  if (!size.at_most(limits::kFileBytes)) {
    return fail(Code::kLimit, "tensor '{}' of shape {} has more than {} bytes", tensor.name, shape_text(tensor),
                limits::kFileBytes);
  }
  return *size.value();
}

Result<Checkpoint> Checkpoint::create(std::filesystem::path path, Parts parts) {
  Checkpoint out;
  out.path_ = std::move(path);
  out.parts_ = std::move(parts);
  out.by_name_.resize(out.parts_.tensors.size());
  std::iota(out.by_name_.begin(), out.by_name_.end(), 0u);
  const auto name_of = [&](uint32_t index) -> std::string_view { return out.parts_.tensors[index].name; };
  std::ranges::sort(out.by_name_, {}, name_of);
  const auto twice = std::ranges::adjacent_find(out.by_name_, {}, name_of);
  if (twice != out.by_name_.end()) return fail(Code::kMalformed, "tensor '{}' comes twice", name_of(*twice));
  return out;
}

const TensorRef* Checkpoint::find_tensor(std::string_view name) const {
  const auto name_of = [&](uint32_t index) -> std::string_view { return parts_.tensors[index].name; };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found != by_name_.end() && name_of(*found) == name ? &parts_.tensors[*found] : nullptr;
}

Result<std::string> Checkpoint::text_file(std::string_view name) const {
  if (!packed()) return read_file(path_ / name, limits::kJsonFileBytes);
  for (const auto& [file, bytes] : parts_.text_files)
    if (file == name) return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return fail(Code::kNotFound, "the pack has no {}", name);
}

void Checkpoint::release_read() const {
  for (const MappedFile& file : files()) {
    if (!packed()) file.release(0, file.bytes().size());
    for (const auto& [name, bytes] : parts_.text_files)
      file.release(static_cast<size_t>(bytes.data() - file.bytes().data()), bytes.size());
  }
}

uint64_t Checkpoint::file_bytes() const {
  uint64_t sum = 0;
  for (const MappedFile& file : parts_.files) sum += file.bytes().size();
  return sum;
}

Result<Checkpoint> open_checkpoint(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return open_hf_folder(path);
  MappedFile file = TRY(MappedFile::open_in_use(path));
  if (has_pack_magic(file.bytes())) return open_pack(std::move(file));
  if (!has_gguf_magic(file.bytes())) {
    return fail(Code::kUnsupported,
                "{}: is {}; expected a GGUF file, a pack or a folder with config.json and .safetensors files",
                path.string(), file_kind(file.bytes()));
  }
  return open_gguf(std::move(file));
}

}  // namespace hearth
