// A model's files, whatever their format: named tensors as they lie there, and what the files say about the model.
#pragma once

#include <array>
#include <boost/json/object.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/metadata.h"
#include "tensor/type.h"

namespace hearth {

// One tensor of a file. All sizes were checked: `data` has exactly the bytes that type and shape need.
struct TensorRef {
  std::string name;
  Type type = Type::kF32;
  std::array<uint64_t, 4> shape = {1, 1, 1, 1};  // shape[0] is the row length (GGUF's order); unused ones are 1
  int n_dims = 1;
  std::span<const std::byte> data{};  // in the mapped file; its alignment is the file's, so read it byte by byte
  // Of a pack's matrices instead of data: the panels (tensor/panel.h) of each slice shape[2] counts.
  std::vector<std::span<const std::byte>> panels{};

  [[nodiscard]] uint64_t row_length() const { return shape[0]; }
  [[nodiscard]] uint64_t rows() const { return shape[1] * shape[2] * shape[3]; }
  [[nodiscard]] uint64_t elements() const { return row_length() * rows(); }
  [[nodiscard]] uint64_t stored_bytes() const;
};

// "[576, 49152]"
std::string shape_text(const TensorRef& tensor);

// Bytes of a tensor. Every dimension is at least 1, rows are whole blocks, elements are within limits::kTensorElements;
// otherwise kMalformed or kLimit, naming the tensor.
Result<uint64_t> tensor_bytes(const TensorRef& tensor);

// Owns the mappings that tensors and metadata point into. Movable; read-only, so any thread may use it.
class Checkpoint {
 public:
  enum class Kind : uint8_t { kGguf, kHuggingFace };

  struct Parts {
    Kind kind = Kind::kGguf;
    std::vector<MappedFile> files;
    Metadata metadata;
    boost::json::object config;
    std::vector<TensorRef> tensors;
    bool packed = false;
    // A pack's, views into its file: what text_file() gives.
    std::vector<std::pair<std::string, std::span<const std::byte>>> text_files{};
  };
  // kMalformed if two tensors have one name.
  static Result<Checkpoint> create(std::filesystem::path path, Parts parts);

  // What the settings are read from; of a pack: what it was made from.
  [[nodiscard]] Kind kind() const { return parts_.kind; }
  // True for a pack (pack.h). Its tensors go by GGUF's names and are those that the decoder asks for.
  [[nodiscard]] bool packed() const { return parts_.packed; }
  [[nodiscard]] bool has_gguf_names() const { return packed() || kind() == Kind::kGguf; }
  // What was opened: the file (the first of a split one) or the folder.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  // GGUF's keys; empty for a Hugging Face folder.
  [[nodiscard]] const Metadata& metadata() const { return parts_.metadata; }
  // config.json of a Hugging Face folder; empty for GGUF.
  [[nodiscard]] const boost::json::object& config() const { return parts_.config; }
  // In the order of the files; names as the files have them.
  [[nodiscard]] std::span<const TensorRef> tensors() const { return parts_.tensors; }
  // Null if there is none. Cost: a binary search.
  [[nodiscard]] const TensorRef* find_tensor(std::string_view name) const;
  // The mapped files; release() of one gives back pages that were read.
  [[nodiscard]] std::span<const MappedFile> files() const { return parts_.files; }
  // A small file of a Hugging Face folder ("tokenizer.json"), also where a pack was made from one. kNotFound if there is none.
  [[nodiscard]] Result<std::string> text_file(std::string_view name) const;
  // Lets go of pages that were read and are not needed again: all files', of a pack its text's.
  void release_read() const;
  // All files together.
  [[nodiscard]] uint64_t file_bytes() const;

 private:
  std::filesystem::path path_;
  Parts parts_;
  std::vector<uint32_t> by_name_;
};

// Opens a GGUF file or a pack (by its magic, whatever its name; the other parts of a split GGUF are found beside it) or a
// folder with config.json and safetensors. kNotFound, kUnsupported or kMalformed says what was found and what is expected.
// Cost: milliseconds; weights are mapped, not read.
Result<Checkpoint> open_checkpoint(const std::filesystem::path& path);

}  // namespace hearth
