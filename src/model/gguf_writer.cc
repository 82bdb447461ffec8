#include "model/gguf_writer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "base/file_io.h"
#include "base/mapped_file.h"

namespace hearth {
namespace {

constexpr uint64_t kAlignment = 32;

void append(std::string& out, std::span<const std::byte> bytes) {
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}
template <typename T>
void append_number(std::string& out, T value) {
  append(out, std::as_bytes(std::span(&value, 1)));
}
void append_type(std::string& out, ValueType type) { append_number(out, std::to_underlying(type)); }
void append_string(std::string& out, std::string_view text) {
  append_number<uint64_t>(out, text.size());
  out.append(text);
}

template <typename T>
void append_scalar(std::string& out, std::string_view key, ValueType type, T value) {
  append_string(out, key);
  append_type(out, type);
  append_number(out, value);
}

void append_array_head(std::string& out, std::string_view key, ValueType element, uint64_t count) {
  append_string(out, key);
  append_type(out, ValueType::kArray);
  append_type(out, element);
  append_number(out, count);
}

uint64_t aligned(uint64_t size) { return Checked(size).aligned(kAlignment).value_or(0); }

}  // namespace

void GgufWriter::set(std::string_view key, bool value) {
  append_scalar(entries_, key, ValueType::kBool, static_cast<uint8_t>(value));
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, uint16_t value) {
  append_scalar(entries_, key, ValueType::kU16, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, uint32_t value) {
  append_scalar(entries_, key, ValueType::kU32, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, int32_t value) {
  append_scalar(entries_, key, ValueType::kI32, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, uint64_t value) {
  append_scalar(entries_, key, ValueType::kU64, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, int64_t value) {
  append_scalar(entries_, key, ValueType::kI64, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, float value) {
  append_scalar(entries_, key, ValueType::kF32, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, double value) {
  append_scalar(entries_, key, ValueType::kF64, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::string_view value) {
  append_string(entries_, key);
  append_type(entries_, ValueType::kString);
  append_string(entries_, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::span<const uint8_t> values) {
  append_array_head(entries_, key, ValueType::kU8, values.size());
  append(entries_, std::as_bytes(values));
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::span<const uint32_t> values) {
  append_array_head(entries_, key, ValueType::kU32, values.size());
  append(entries_, std::as_bytes(values));
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::span<const int32_t> values) {
  append_array_head(entries_, key, ValueType::kI32, values.size());
  append(entries_, std::as_bytes(values));
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::span<const float> values) {
  append_array_head(entries_, key, ValueType::kF32, values.size());
  append(entries_, std::as_bytes(values));
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, std::span<const std::string> values) {
  append_array_head(entries_, key, ValueType::kString, values.size());
  for (const std::string& value : values) append_string(entries_, value);
  ++n_entries_;
}
void GgufWriter::set(std::string_view key, const MetadataValue& value) {
  if (value.type == ValueType::kArray) {
    append_array_head(entries_, key, value.element, value.count);
    for (const std::string_view text : value.strings) append_string(entries_, text);
  } else {
    append_string(entries_, key);
    append_type(entries_, value.type);
    if (value.type == ValueType::kString) append_number<uint64_t>(entries_, value.bytes.size());
  }
  append(entries_, value.bytes);
  ++n_entries_;
}

void GgufWriter::add_tensor(std::string_view name, Type type, std::span<const uint64_t> shape,
                            std::span<const std::byte> data) {
  tensors_.push_back({std::string(name), type, {shape.begin(), shape.end()}, data});
}

std::string GgufWriter::head() const {
  std::string head = "GGUF";
  append_number<uint32_t>(head, 3);
  append_number<uint64_t>(head, tensors_.size());
  append_number<uint64_t>(head, n_entries_);
  head += entries_;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(head, tensor.name);
    append_number(head, static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) append_number(head, size);
    append_number(head, std::to_underlying(tensor.type));
    append_number(head, offset);
    offset += aligned(tensor.data.size());
  }
  head.resize(aligned(head.size()));
  return head;
}

std::vector<std::byte> GgufWriter::bytes() const {
  CHECK(std::ranges::none_of(tensors_, is_own, &Tensor::type));
  const std::string first = head();
  const auto bytes = std::as_bytes(std::span(first));
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  for (const Tensor& tensor : tensors_) {
    out.insert(out.end(), tensor.data.begin(), tensor.data.end());
    out.resize(aligned(out.size()));
  }
  return out;
}

uint64_t GgufWriter::file_bytes() const {
  uint64_t bytes = head().size();
  for (const Tensor& tensor : tensors_) bytes += aligned(tensor.data.size());
  return bytes;
}

Result<void> GgufWriter::write(const std::filesystem::path& path) const {
  for (const Tensor& tensor : tensors_)
    if (is_own(tensor.type))
      return fail(Code::kUnsupported, "tensor '{}' is {}, which only packs hold; a GGUF file needs one of GGUF's types",
                  tensor.name, info(tensor.type).name);
  return write_file_atomically(path, [&](int fd) -> Result<void> {
    const std::string first = head();
    TRY(write_at(fd, 0, std::as_bytes(std::span(first)), path));
    uint64_t at = first.size();
    for (const Tensor& tensor : tensors_) {
      static constexpr std::array<std::byte, kAlignment> kZeros{};
      TRY(write_at(fd, at, tensor.data, path));
      const uint64_t end = at + tensor.data.size();
      at = aligned(end);
      TRY(write_at(fd, end, std::span(kZeros).first(at - end), path));
    }
    return {};
  });
}

}  // namespace hearth
