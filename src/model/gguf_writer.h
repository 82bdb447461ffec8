// Writes GGUF files, version 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/metadata.h"
#include "tensor/type.h"

namespace hearth {

// Collects keys and tensors, then writes them in the order they came. Names and shapes are the caller's own and are not
// checked again. One thread at a time.
class GgufWriter {
 public:
  void set(std::string_view key, bool value);
  void set(std::string_view key, uint16_t value);
  void set(std::string_view key, uint32_t value);
  void set(std::string_view key, int32_t value);
  void set(std::string_view key, uint64_t value);
  void set(std::string_view key, int64_t value);
  void set(std::string_view key, float value);
  void set(std::string_view key, double value);
  void set(std::string_view key, std::string_view value);
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  void set(std::string_view key, std::span<const uint8_t> values);
  void set(std::string_view key, std::span<const uint32_t> values);
  void set(std::string_view key, std::span<const int32_t> values);
  void set(std::string_view key, std::span<const float> values);
  void set(std::string_view key, std::span<const std::string> values);
  // A value read from another file, as it is.
  void set(std::string_view key, const MetadataValue& value);

  // shape[0] is the row length. `data` is not copied and must live until the file is written.
  void add_tensor(std::string_view name, Type type, std::span<const uint64_t> shape, std::span<const std::byte> data);

  // The whole file in memory, tensors aligned to 32 bytes.
  [[nodiscard]] std::vector<std::byte> bytes() const;
  [[nodiscard]] uint64_t file_bytes() const;
  // The same into a file, which appears whole or not at all.
  Result<void> write(const std::filesystem::path& path) const;

 private:
  struct Tensor {
    std::string name;
    Type type;
    std::vector<uint64_t> shape;
    std::span<const std::byte> data;
  };
  // Up to the first tensor.
  [[nodiscard]] std::string head() const;

  std::string entries_;  // encoded
  uint64_t n_entries_ = 0;
  std::vector<Tensor> tensors_;
};

}  // namespace hearth
