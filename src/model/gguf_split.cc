// Models that were cut into several GGUF files: "name-00001-of-00003.gguf" and its followers.
#include <charconv>
#include <string>
#include <utility>

#include "base/limits.h"
#include "model/gguf.h"

namespace hearth {
namespace {

constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitNumber = "split.no";
constexpr std::string_view kSplitTensors = "split.tensors.count";
constexpr std::string_view kArchitecture = "general.architecture";

Result<GgufFile> parse_file(const MappedFile& file) {
  auto parsed = parse_gguf(file.bytes());
  if (!parsed) return within(file.path().string(), std::move(parsed).error());
  return parsed;
}

// What a part says about itself against what it should be.
Result<void> check_part(const Metadata& part, const Metadata& first, uint32_t index, uint32_t count) {
  const auto part_count = TRY(part.require<uint32_t>(kSplitCount));
  if (part_count != count) {
    return fail(Code::kMalformed, "{} is {}, the first file's is {}", kSplitCount, part_count, count);
  }
  const auto number = TRY(part.require<uint32_t>(kSplitNumber));
  if (number != index) return fail(Code::kMalformed, "{} is {}, its name says {}", kSplitNumber, number, index);
  const auto architecture = part.find<std::string_view>(kArchitecture);
  if (architecture && architecture != first.find<std::string_view>(kArchitecture)) {
    return fail(Code::kMalformed, "{} '{}' is not the first file's", kArchitecture, *architecture);
  }
  return {};
}

// Adds the tensors of the other files, and the files.
Result<void> add_other_parts(const std::filesystem::path& first, uint32_t count, Checkpoint::Parts& parts) {
  for (uint32_t index = 1; index < count; ++index) {
    const auto path = TRY(gguf_split_path(first, index, count));
    auto opened = MappedFile::open(path);
    if (!opened) {
      return fail(opened.error().code, "part {} of {} of a split model: {}", index + 1, count, opened.error().message);
    }
    GgufFile part = TRY(parse_file(*opened));
    if (auto checked = check_part(part.metadata, parts.metadata, index, count); !checked) {
      return within(path.string(), std::move(checked).error());
    }
    if (parts.tensors.size() + part.tensors.size() > limits::kTensors) {
      return fail(Code::kLimit, "{}: more than {} tensors in all files", path.string(), limits::kTensors);
    }
    std::ranges::move(part.tensors, std::back_inserter(parts.tensors));
    parts.files.push_back(std::move(*opened));
  }
  return {};
}

Result<void> open_parts(const std::filesystem::path& first, Checkpoint::Parts& parts) {
  const auto count = TRY(parts.metadata.value_or<uint32_t>(kSplitCount, 0));
  if (count > limits::kSplitFiles)
    return fail(Code::kLimit, "{} is {}, limit {}", kSplitCount, count, limits::kSplitFiles);
  if (count > 1) {
    const auto number = TRY(parts.metadata.require<uint32_t>(kSplitNumber));
    if (number != 0) {
      return fail(Code::kInvalidArgument, "is part {} of {}; open the one that ends in -00001-of-{:05}.gguf",
                  uint64_t{number} + 1, count, count);
    }
    TRY(add_other_parts(first, count, parts));
  }
  const auto n_tensors = TRY(parts.metadata.value_or<uint64_t>(kSplitTensors, parts.tensors.size()));
  if (n_tensors != parts.tensors.size()) {
    return fail(Code::kMalformed, "{} is {}, the files have {}", kSplitTensors, n_tensors, parts.tensors.size());
  }
  return {};
}

}  // namespace

Result<std::filesystem::path> gguf_split_path(const std::filesystem::path& first, uint32_t index, uint32_t count) {
  const std::string name = first.filename().string();
  const std::string suffix = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(suffix)) {
    return fail(Code::kMalformed, "a model split into {} files, so its first file's name must end in {}", count,
                suffix);
  }
  const std::string stem = name.substr(0, name.size() - suffix.size());
  return first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", stem, index + 1, count);
}

Result<Checkpoint> open_gguf(MappedFile file) {
  const std::filesystem::path path = file.path();
  GgufFile parsed = TRY(parse_file(file));
  Checkpoint::Parts parts;
  parts.kind = Checkpoint::Kind::kGguf;
  parts.metadata = std::move(parsed.metadata);
  parts.tensors = std::move(parsed.tensors);
  parts.files.push_back(std::move(file));
  if (auto opened = open_parts(path, parts); !opened) return within(path.string(), std::move(opened).error());
  auto checkpoint = Checkpoint::create(path, std::move(parts));
  if (!checkpoint) return within(path.string(), std::move(checkpoint).error());
  return checkpoint;
}

}  // namespace hearth
