// A Hugging Face folder: config.json, and one safetensors file or an index of several.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "model/safetensors.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

Result<boost::json::object> read_object(const fs::path& path) {
  const std::string text = TRY(read_file(path, limits::kJsonFileBytes));
  auto value = parse_json(text);
  if (!value) return within(path.string(), std::move(value).error());
  boost::json::object* object = value->if_object();
  if (object == nullptr) return fail(Code::kMalformed, "{}: is no JSON object", path.string());
  return std::move(*object);
}

// What lies in a folder that cannot be opened, for the error message.
std::string found_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end && names.size() < 1000; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (names.empty()) return "it is empty";
  std::ranges::sort(names);
  const size_t shown = std::min<size_t>(names.size(), 6);
  return fmt::format("it has {}{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "),
                     names.size() > shown ? ", ..." : "");
}

// A name from an index must stay in the folder.
bool is_plain_file_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.size() <= 255 && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// file name -> names of the tensors that the index puts there
using Shards = std::map<std::string, std::set<std::string, std::less<>>>;

Result<Shards> read_index(const fs::path& path) {
  const boost::json::object index = TRY(read_object(path));
  const boost::json::value* map = index.if_contains("weight_map");
  if (map == nullptr || !map->is_object() || map->get_object().empty()) {
    return fail(Code::kMalformed, "{}: has no weight_map", path.string());
  }
  Shards shards;
  for (const auto& [tensor, file] : map->get_object()) {
    if (!file.is_string() || !is_plain_file_name(file.get_string())) {
      return fail(Code::kMalformed, "{}: tensor '{}' lies in no plain .safetensors file name", path.string(),
                  std::string_view(tensor));
    }
    shards[std::string(file.get_string())].emplace(tensor);
    if (shards.size() > limits::kSplitFiles) {
      return fail(Code::kLimit, "{}: more than {} files", path.string(), limits::kSplitFiles);
    }
  }
  return shards;
}

// Adds a file's tensors; with an index only those it lists there, and each of these must be there.
Result<void> add_file(const fs::path& path, const std::set<std::string, std::less<>>* listed,
                      Checkpoint::Parts& parts) {
  MappedFile file = TRY(MappedFile::open(path));
  auto parsed = parse_safetensors(file.bytes());
  if (!parsed) return within(path.string(), std::move(parsed).error());
  size_t taken = 0;
  for (TensorRef& tensor : *parsed) {
    if (listed != nullptr && !listed->contains(tensor.name)) continue;
    ++taken;
    parts.tensors.push_back(std::move(tensor));
  }
  if (listed != nullptr && taken != listed->size()) {
    return fail(Code::kMalformed, "{}: has {} of the {} tensors that {} puts there", path.string(), taken,
                listed->size(), kIndex);
  }
  if (parts.tensors.size() > limits::kTensors) {
    return fail(Code::kLimit, "{}: more than {} tensors in all files", path.string(), limits::kTensors);
  }
  parts.files.push_back(std::move(file));
  return {};
}

}  // namespace

Result<Checkpoint> open_hf_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder / kConfig, error)) {
    return fail(Code::kUnsupported, "{}: no {} in this folder, {}; expected a Hugging Face folder or a GGUF file",
                folder.string(), kConfig, found_in(folder));
  }
  Checkpoint::Parts parts;
  parts.kind = Checkpoint::Kind::kHuggingFace;
  parts.config = TRY(read_object(folder / kConfig));
  if (fs::exists(folder / kIndex, error)) {
    for (const auto& [file, tensors] : TRY(read_index(folder / kIndex))) TRY(add_file(folder / file, &tensors, parts));
  } else if (fs::exists(folder / kSingle, error)) {
    TRY(add_file(folder / kSingle, nullptr, parts));
  } else {
    return fail(Code::kUnsupported,
                "{}: neither {} nor {} in this folder, {}; weights in other forms (pickles) are not read",
                folder.string(), kSingle, kIndex, found_in(folder));
  }
  auto checkpoint = Checkpoint::create(folder, std::move(parts));
  if (!checkpoint) return within(folder.string(), std::move(checkpoint).error());
  return checkpoint;
}

}  // namespace hearth
