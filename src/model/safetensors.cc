#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "base/checked.h"
#include "base/json.h"
#include "base/limits.h"

namespace hearth {
namespace {

constexpr uint64_t kLengthBytes = 8;

struct Entry {
  TensorRef tensor;
  bool skipped = false;
  uint64_t begin = 0, end = 0;  // in the data section
};

std::optional<uint64_t> as_size(const boost::json::value& value) {
  if (const uint64_t* number = value.if_uint64()) return *number;
  if (const int64_t* number = value.if_int64(); number != nullptr && *number >= 0)
    return static_cast<uint64_t>(*number);
  return std::nullopt;
}

Result<Type> read_dtype(const boost::json::object& description) {
  const boost::json::value* dtype = description.if_contains("dtype");
  if (dtype == nullptr || !dtype->is_string()) return fail(Code::kMalformed, "has no dtype");
  const std::string_view name = dtype->get_string();
  if (name == "F32") return Type::kF32;
  if (name == "F16") return Type::kF16;
  if (name == "BF16") return Type::kBF16;
  return fail(Code::kUnsupported, "has dtype {}; F32, F16 and BF16 can be read", name.substr(0, 32));
}

// Sizes are listed slowest first, ours fastest first.
Result<void> read_shape(const boost::json::object& description, TensorRef& tensor) {
  const boost::json::value* shape = description.if_contains("shape");
  if (shape == nullptr || !shape->is_array()) return fail(Code::kMalformed, "has no shape");
  const boost::json::array& sizes = shape->get_array();
  if (sizes.size() > limits::kTensorDims) {
    return fail(Code::kUnsupported, "has {} dimensions, at most {} can be read", sizes.size(), limits::kTensorDims);
  }
  tensor.n_dims = static_cast<int>(std::max<size_t>(sizes.size(), 1));  // a lone number is a row of one
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto size = as_size(sizes[sizes.size() - 1 - i]);
    if (!size) return fail(Code::kMalformed, "has a size that is no natural number");
    tensor.shape[i] = *size;
  }
  return {};
}

Result<Entry> read_entry(std::string_view name, const boost::json::value& value) {
  const boost::json::object* description = value.if_object();
  if (description == nullptr) return fail(Code::kMalformed, "is not described by an object");
  Entry entry;
  entry.tensor.name = name;
  // Some encoders' files keep the numbers 0, 1, 2, ... as a tensor of integers, which nothing reads.
  const boost::json::value* dtype = description->if_contains("dtype");
  entry.skipped = name.ends_with(".position_ids") && dtype != nullptr && *dtype == "I64";
  if (!entry.skipped) entry.tensor.type = TRY(read_dtype(*description));
  TRY(read_shape(*description, entry.tensor));
  const boost::json::value* offsets = description->if_contains("data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->get_array().size() != 2) {
    return fail(Code::kMalformed, "has no two data_offsets");
  }
  const auto begin = as_size(offsets->get_array()[0]);
  const auto end = as_size(offsets->get_array()[1]);
  if (!begin || !end || *begin > *end) return fail(Code::kMalformed, "has data_offsets that are no range");
  entry.begin = *begin;
  entry.end = *end;
  // Of a skipped one only that it lies in its place is checked, as of the others, with the whole file.
  if (entry.skipped) return entry;
  const uint64_t size = TRY(tensor_bytes(entry.tensor));
  if (entry.end - entry.begin != size) {
    return fail(Code::kMalformed, "has {} bytes of data, its shape {} needs {}", entry.end - entry.begin,
                shape_text(entry.tensor), size);
  }
  return entry;
}

Result<std::vector<Entry>> read_header(std::string_view text) {
  const boost::json::value header = TRY(parse_json(text));
  const boost::json::object* object = header.if_object();
  if (object == nullptr) return fail(Code::kMalformed, "the header is no JSON object");
  std::vector<Entry> entries;
  for (const auto& [key, value] : *object) {
    if (key == "__metadata__") continue;
    const std::string_view name = key;
    if (name.empty() || name.size() > limits::kTensorNameBytes) {
      return fail(Code::kMalformed, "a tensor name has {} bytes, need 1 to {}", name.size(), limits::kTensorNameBytes);
    }
    auto entry = read_entry(name, value);
    if (!entry) return within(fmt::format("tensor '{}'", name), std::move(entry).error());
    entries.push_back(std::move(*entry));
  }
  if (entries.size() > limits::kTensors) {
    return fail(Code::kLimit, "{} tensors, limit {}", entries.size(), limits::kTensors);
  }
  return entries;
}

}  // namespace

Result<std::vector<TensorRef>> parse_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes)
    return fail(Code::kMalformed, "{} bytes, too short for a safetensors file", bytes.size());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  const uint64_t rest = bytes.size() - kLengthBytes;
  if (header_bytes > rest) {
    return fail(Code::kMalformed, "the header claims {} bytes, {} are left", header_bytes, rest);
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, header_bytes);
  auto read = read_header(text);
  if (!read) return std::unexpected(std::move(read).error());
  std::vector<Entry>& entries = *read;
  std::ranges::sort(entries, {}, [](const Entry& entry) { return std::pair(entry.begin, entry.end); });
  const auto data = bytes.subspan(kLengthBytes + header_bytes);
  uint64_t at = 0;
  std::vector<TensorRef> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    if (entry.begin != at) {
      return fail(Code::kMalformed, "tensor '{}' begins at {}, the data before it ends at {}", entry.tensor.name,
                  entry.begin, at);
    }
    if (entry.end > data.size()) {
      return fail(Code::kMalformed, "tensor '{}' ends at {}, the file has {} bytes of data", entry.tensor.name,
                  entry.end, data.size());
    }
    entry.tensor.data = data.subspan(entry.begin, entry.end - entry.begin);
    at = entry.end;
    if (!entry.skipped) tensors.push_back(std::move(entry.tensor));
  }
  if (at != data.size()) {
    return fail(Code::kMalformed, "{} bytes follow the last tensor", data.size() - at);
  }
  return tensors;
}

}  // namespace hearth
