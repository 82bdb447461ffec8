#include "model/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"

namespace hearth {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr uint64_t kDefaultAlignment = 32;
// The least a file can spend on one of each, which bounds how many it can hold.
constexpr uint64_t kEntryBytesMin = 8 + 1 + 4 + 1;
constexpr uint64_t kTensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

// A place in the file. Every read checks in O(1) that the bytes are there.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] uint64_t offset() const { return offset_; }
  [[nodiscard]] uint64_t left() const { return bytes_.size() - offset_; }

  Result<std::span<const std::byte>> take(uint64_t count, std::string_view what) {
    if (count > left()) {
      return fail(Code::kMalformed, "cut off: {} at byte {} needs {} bytes, {} are left", what, offset_, count, left());
    }
    const auto taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  template <typename T>
  Result<T> number(std::string_view what) {
    const auto bytes = TRY(take(sizeof(T), what));
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  Result<std::string_view> string(std::string_view what, uint64_t bytes_max) {
    const auto size = TRY(number<uint64_t>(what));
    if (size > left()) {
      return fail(Code::kMalformed, "{} at byte {} claims {} bytes, {} are left", what, offset_, size, left());
    }
    if (size > bytes_max)
      return fail(Code::kLimit, "{} at byte {} has {} bytes, limit {}", what, offset_, size, bytes_max);
    const auto bytes = TRY(take(size, what));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t offset_ = 0;
};

Result<void> check_bools(std::span<const std::byte> bytes) {
  const bool fine = std::ranges::all_of(bytes, [](std::byte b) { return b <= std::byte{1}; });
  if (!fine) return fail(Code::kMalformed, "a bool is neither 0 nor 1");
  return {};
}

Result<void> read_array(Cursor& cursor, MetadataValue& value) {
  value.element = ValueType{TRY(cursor.number<uint32_t>("array element type"))};
  value.count = TRY(cursor.number<uint64_t>("array count"));
  if (value.element == ValueType::kArray)
    return fail(Code::kUnsupported, "is an array of arrays, which no model needs");
  const uint64_t element_bytes = value_type_bytes(value.element);
  const bool strings = value.element == ValueType::kString;
  if (element_bytes == 0 && !strings) {
    return fail(Code::kUnsupported, "has array elements of unknown type {}", std::to_underlying(value.element));
  }
  // A string takes at least the 8 bytes of its length.
  if (value.count > cursor.left() / (strings ? 8 : element_bytes)) {
    return fail(Code::kMalformed, "claims {} array elements of {}, {} bytes are left", value.count,
                value_type_name(value.element), cursor.left());
  }
  if (value.count > limits::kArrayElements) {
    return fail(Code::kLimit, "has {} array elements, limit {}", value.count, limits::kArrayElements);
  }
  if (!strings) {
    value.bytes = TRY(cursor.take(value.count * element_bytes, "array"));
    if (value.element == ValueType::kBool) return check_bools(value.bytes);
    return {};
  }
  value.strings.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    value.strings.push_back(TRY(cursor.string("array string", limits::kStringBytes)));
  }
  return {};
}

Result<MetadataValue> read_value(Cursor& cursor) {
  MetadataValue value;
  value.type = ValueType{TRY(cursor.number<uint32_t>("value type"))};
  if (value.type == ValueType::kArray) {
    TRY(read_array(cursor, value));
  } else if (value.type == ValueType::kString) {
    value.bytes = std::as_bytes(std::span(TRY(cursor.string("string", limits::kStringBytes))));
  } else {
    const uint64_t size = value_type_bytes(value.type);
    if (size == 0) return fail(Code::kUnsupported, "has unknown value type {}", std::to_underlying(value.type));
    value.bytes = TRY(cursor.take(size, "value"));
    if (value.type == ValueType::kBool) TRY(check_bools(value.bytes));
  }
  return value;
}

// Names are put into messages and looked up: no control characters, not empty.
bool is_plain_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) { return static_cast<unsigned char>(c) >= 0x20; });
}

Result<Metadata> read_metadata(Cursor& cursor, uint64_t count) {
  std::vector<MetadataEntry> entries;
  entries.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = TRY(cursor.string("metadata key", limits::kMetadataKeyBytes));
    if (!is_plain_name(key)) {
      return fail(Code::kMalformed, "metadata key number {} is empty or has control characters", i);
    }
    auto value = read_value(cursor);
    if (!value) return within(fmt::format("metadata key '{}'", key), std::move(value).error());
    entries.push_back({key, std::move(*value)});
  }
  return Metadata::create(std::move(entries));
}

Result<uint64_t> alignment_of(const Metadata& metadata) {
  const MetadataValue* value = metadata.find_value(kAlignmentKey);
  if (value == nullptr) return kDefaultAlignment;
  if (value->type != ValueType::kU32) {
    return fail(Code::kMalformed, "{} is of type {}, need u32", kAlignmentKey, value_type_name(value->type));
  }
  const uint64_t alignment = TRY(metadata.require<uint32_t>(kAlignmentKey));
  if (alignment < 8 || alignment > limits::kAlignment || (alignment & (alignment - 1)) != 0) {
    return fail(Code::kMalformed, "{} is {}, need a power of two from 8 to {}", kAlignmentKey, alignment,
                limits::kAlignment);
  }
  return alignment;
}

struct TableEntry {
  TensorRef tensor;
  uint64_t offset = 0;  // in the data section
  uint64_t size = 0;
};

Result<TableEntry> read_table_entry(Cursor& cursor, uint64_t number) {
  TableEntry entry;
  TensorRef& tensor = entry.tensor;
  tensor.name = TRY(cursor.string("tensor name", limits::kTensorNameBytes));
  if (!is_plain_name(tensor.name)) {
    return fail(Code::kMalformed, "the name of tensor number {} is empty or has control characters", number);
  }
  const auto n_dims = TRY(cursor.number<uint32_t>("number of dimensions"));
  if (n_dims == 0 || n_dims > limits::kTensorDims) {
    return fail(Code::kUnsupported, "tensor '{}' has {} dimensions, need 1 to {}", tensor.name, n_dims,
                limits::kTensorDims);
  }
  tensor.n_dims = static_cast<int>(n_dims);
  for (uint32_t i = 0; i < n_dims; ++i) tensor.shape[i] = TRY(cursor.number<uint64_t>("dimension"));
  const auto type_id = TRY(cursor.number<uint32_t>("tensor type"));
  const TypeInfo* type = find_type(type_id);
  if (type == nullptr || is_own(type->type)) {
    return fail(Code::kUnsupported, "tensor '{}' has type {} ({}), which cannot be read", tensor.name, type_id,
                gguf_type_name(type_id));
  }
  tensor.type = type->type;
  entry.offset = TRY(cursor.number<uint64_t>("tensor offset"));
  entry.size = TRY(tensor_bytes(tensor));
  return entry;
}

Result<void> place_tensors(std::vector<TableEntry>& table, std::span<const std::byte> bytes, Checked data_start,
                           uint64_t alignment) {
  for (TableEntry& entry : table) {
    if (entry.offset % alignment != 0) {
      return fail(Code::kMalformed, "tensor '{}' at offset {} is not aligned to {}", entry.tensor.name, entry.offset,
                  alignment);
    }
    const Checked end = data_start + Checked(entry.offset) + Checked(entry.size);
    if (!end.at_most(bytes.size())) {
      return fail(Code::kMalformed, "tensor '{}' at offset {} with {} bytes ends beyond the file's {} bytes",
                  entry.tensor.name, entry.offset, entry.size, bytes.size());
    }
    entry.tensor.data = bytes.subspan(*(data_start + Checked(entry.offset)).value(), entry.size);
  }
  std::vector<const TableEntry*> sorted(table.size());
  std::ranges::transform(table, sorted.begin(), [](const TableEntry& entry) { return &entry; });
  std::ranges::sort(sorted, {}, &TableEntry::offset);
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->offset < sorted[i - 1]->offset + sorted[i - 1]->size) {
      return fail(Code::kMalformed, "tensors '{}' and '{}' overlap", sorted[i - 1]->tensor.name,
                  sorted[i]->tensor.name);
    }
  }
  return {};
}

// Magic, version and the two counts.
struct Header {
  uint32_t version = 0;
  uint64_t n_tensors = 0, n_entries = 0;
};

Result<Header> read_header(Cursor& cursor) {
  TRY(cursor.take(kMagic.size(), "magic"));
  Header header;
  header.version = TRY(cursor.number<uint32_t>("version"));
  if (header.version != 2 && header.version != 3) {
    const bool big_endian = header.version != 0 && (header.version & 0xffff) == 0;
    return fail(Code::kUnsupported, "GGUF version {}{}; versions 2 and 3 can be read",
                big_endian ? header.version >> 24 : header.version, big_endian ? " in big-endian order" : "");
  }
  header.n_tensors = TRY(cursor.number<uint64_t>("number of tensors"));
  header.n_entries = TRY(cursor.number<uint64_t>("number of metadata keys"));
  if (header.n_tensors > limits::kTensors) {
    return fail(Code::kLimit, "{} tensors, limit {}", header.n_tensors, limits::kTensors);
  }
  if (header.n_entries > limits::kMetadataKeys) {
    return fail(Code::kLimit, "{} metadata keys, limit {}", header.n_entries, limits::kMetadataKeys);
  }
  if (header.n_entries > cursor.left() / kEntryBytesMin || header.n_tensors > cursor.left() / kTensorBytesMin) {
    return fail(Code::kMalformed, "claims {} tensors and {} metadata keys in {} bytes", header.n_tensors,
                header.n_entries, cursor.left());
  }
  return header;
}

}  // namespace

bool has_gguf_magic(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

Result<GgufFile> parse_gguf(std::span<const std::byte> bytes) {
  if (!has_gguf_magic(bytes)) return fail(Code::kMalformed, "does not begin with '{}'", kMagic);
  if (bytes.size() > limits::kFileBytes) {
    return fail(Code::kLimit, "{} bytes, limit {}", bytes.size(), limits::kFileBytes);
  }
  Cursor cursor(bytes);
  const Header header = TRY(read_header(cursor));
  GgufFile file;
  file.version = header.version;
  file.metadata = TRY(read_metadata(cursor, header.n_entries));
  const uint64_t alignment = TRY(alignment_of(file.metadata));
  std::vector<TableEntry> table;
  table.reserve(std::min(header.n_tensors, cursor.left() / kTensorBytesMin));
  for (uint64_t i = 0; i < header.n_tensors; ++i) table.push_back(TRY(read_table_entry(cursor, i)));
  TRY(place_tensors(table, bytes, Checked(cursor.offset()).aligned(alignment), alignment));
  file.tensors.reserve(table.size());
  for (TableEntry& entry : table) file.tensors.push_back(std::move(entry.tensor));
  return file;
}

std::string_view gguf_type_name(uint32_t id) {
  if (const TypeInfo* type = find_type(id); type && !is_own(type->type)) return type->name;
  static constexpr std::array<std::pair<uint32_t, std::string_view>, 20> kOthers = {{
      {4, "Q4_2, removed"}, {5, "Q4_3, removed"}, {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"},
      {17, "IQ2_XS"},       {18, "IQ3_XXS"},      {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},
      {24, "I8"},           {25, "I16"},          {26, "I32"},   {27, "I64"},   {28, "F64"},
      {29, "IQ1_M"},        {31, "Q4_0_4_4"},     {34, "TQ1_0"}, {35, "TQ2_0"}, {40, "NVFP4"},
  }};
  const auto found = std::ranges::find(kOthers, id, [](const auto& other) { return other.first; });
  return found == kOthers.end() ? "unknown" : found->second;
}

}  // namespace hearth
