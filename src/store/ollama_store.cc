#include "store/ollama_store.h"

#include <algorithm>
#include <boost/json.hpp>

#include "base/checked.h"
#include "base/file_io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "store/model_name.h"
#include "store/sha256.h"

namespace hearth {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr std::string_view kMediaType = "application/vnd.ollama.image.";

// What lies in a folder that is no link, and is of that type itself.
std::vector<fs::path> inside(const fs::path& folder, fs::file_type type) {
  std::vector<fs::path> found;
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(folder, error))) return found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->symlink_status(error).type() == type && found.size() < limits::kOllamaModels)
      found.push_back(entry->path());
  }
  return found;
}

std::string_view text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

}  // namespace

std::vector<OllamaStore::Entry> OllamaStore::entries() const {
  std::vector<Entry> all;
  for (const fs::path& host : inside(models_ / "manifests", fs::file_type::directory))
    for (const fs::path& owner : inside(host, fs::file_type::directory))
      for (const fs::path& model : inside(owner, fs::file_type::directory))
        for (const fs::path& tag : inside(model, fs::file_type::regular)) {
          std::string name = fmt::format("{}:{}", model.filename().string(), tag.filename().string());
          if (owner.filename() != "library") name = fmt::format("{}/{}", owner.filename().string(), name);
          if (all.size() < limits::kOllamaModels) all.push_back({std::move(name), tag});
        }
  std::ranges::sort(all, {}, [](const Entry& entry) { return std::pair(entry.name, entry.manifest); });
  return all;
}

Result<fs::path> OllamaStore::blob(std::string_view digest, uint64_t bytes) const {
  constexpr std::string_view kPrefix = "sha256:";
  if (!digest.starts_with(kPrefix) || !is_sha256(digest.substr(kPrefix.size())))
    return fail(Code::kMalformed, "the digest '{}' is not sha256: and 64 hex digits", printable(digest));
  fs::path path = models_ / "blobs" / fmt::format("sha256-{}", digest.substr(kPrefix.size()));
  std::error_code error;
  const bool whole = fs::is_regular_file(fs::symlink_status(path, error)) && fs::file_size(path, error) == bytes;
  const bool linked = fs::is_symlink(fs::symlink_status(models_ / "blobs", error));
  if (whole && !linked && !error) return path;
  return fail(Code::kCorrupt, "{}: not a file of {} bytes (a link is refused)", path.string(), bytes);
}

Result<OllamaModel> OllamaStore::read(const Entry& entry) const {
  const std::string text = TRY(read_file(entry.manifest, limits::kManifestBytes));
  const json::value root = TRY(parse_json(text, {.depth = limits::kJsonDepth, .bytes = limits::kManifestBytes}));
  const json::object* manifest = root.if_object();
  const json::value* layers = manifest ? manifest->if_contains("layers") : nullptr;
  if (!layers || !layers->is_array()) return fail(Code::kMalformed, "no list 'layers'");
  OllamaModel model;
  model.name = entry.name;
  model.modified = written_utc(entry.manifest);
  for (const json::value& value : layers->get_array()) {
    const json::object* layer = value.if_object();
    const json::value* size = layer ? layer->if_contains("size") : nullptr;
    if (!size || !size->is_int64() || !Checked(size->get_int64()).at_most(limits::kFileBytes))
      return fail(Code::kMalformed, "a layer without a size of at most {} bytes", limits::kFileBytes);
    std::string_view kind = text_of(*layer, "mediaType");
    if (!kind.starts_with(kMediaType)) continue;
    kind.remove_prefix(kMediaType.size());
    const auto bytes = static_cast<uint64_t>(size->get_int64());
    const std::string_view digest = text_of(*layer, "digest");
    if (kind == "adapter") return fail(Code::kUnsupported, "it is another model with an adapter");
    if (kind == "model") {
      if (!model.path.empty()) return fail(Code::kUnsupported, "it has more than one file of weights");
      model.path = TRY(blob(digest, bytes));
      model.sha256 = digest.substr(digest.find(':') + 1);
      model.bytes = bytes;
    } else if (kind == "system" || kind == "params") {
      const fs::path path = TRY(blob(digest, bytes));
      (kind == "system" ? model.system : model.parameters_json) = TRY(read_file(path, limits::kManifestBytes));
    }
  }
  if (model.path.empty()) return fail(Code::kUnsupported, "it has no weights here");
  return model;
}

std::vector<OllamaModel> OllamaStore::list() const {
  std::vector<OllamaModel> all;
  for (const Entry& entry : entries()) {
    auto model = read(entry);
    if (model)
      all.push_back(std::move(*model));
    else
      LOG(kWarning, "{} is left out: {}", entry.manifest.string(), model.error().message);
  }
  return all;
}

Result<OllamaModel> OllamaStore::find(std::string_view asked) const {
  std::string name = lower_case(asked);
  if (!name.contains(':')) name += ":latest";
  for (const Entry& entry : entries()) {
    if (lower_case(entry.name) != name) continue;
    auto model = read(entry);
    return model ? std::move(model) : within(entry.manifest.string(), model.error());
  }
  return fail(Code::kNotFound, "no model '{}' in {}", printable(name), models_.string());
}

}  // namespace hearth
