#include "engine/model_library.h"

#include <algorithm>

#include "base/file_io.h"
#include "base/log.h"
#include "model/model.h"
#include "store/model_name.h"
#include "store/sha256.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kLatest = ":latest";

std::string digest_of(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.hex();
}

// The digest of one file, or of what sha256sum prints for several: as the cache of packs has it.
ModelSource from_manifest(const Manifest& manifest, fs::path path) {
  std::string lines;
  for (const ManifestFile& file : manifest.files) lines += fmt::format("{}  {}\n", file.sha256, file.name);
  return {.name = manifest.name,
          .path = std::move(path),
          .digest = manifest.files.size() == 1 ? manifest.files.front().sha256 : digest_of(lines),
          .bytes = manifest.bytes(),
          .modified = manifest.added};
}

ModelSource from_ollama(OllamaModel model) {
  return {.name = std::move(model.name),
          .path = std::move(model.path),
          .digest = std::move(model.sha256),
          .bytes = model.bytes,
          .modified = std::move(model.modified),
          .system = std::move(model.system),
          .parameters_json = std::move(model.parameters_json)};
}

Result<ModelSource> from_path(const GivenModel& given) {
  std::error_code error;
  const fs::path path = fs::is_directory(given.path, error) ? TRY(model_in_folder(given.path)) : given.path;
  ModelSource source{.name = given.name, .path = path};
  std::string identity = fs::absolute(path, error).string();
  for (const fs::path& file : TRY(source_files(path))) {
    const uint64_t bytes = fs::file_size(file, error);
    const auto written = error ? fs::file_time_type() : fs::last_write_time(file, error);
    if (error) return fail(Code::kNotFound, "model '{}': {}: {}", given.name, file.string(), error.message());
    source.bytes += bytes;
    identity += fmt::format("\n{} {} {}", file.string(), bytes, written.time_since_epoch().count());
    source.modified = std::max(source.modified, written_utc(file));
  }
  source.digest = digest_of(identity);
  return source;
}

}  // namespace

ModelLibrary::ModelLibrary(Store store, std::vector<GivenModel> given, std::map<std::string, std::string> aliases,
                           std::vector<OllamaStore> ollama)
    : store_(std::move(store)), given_(std::move(given)), aliases_(std::move(aliases)), ollama_(std::move(ollama)) {}

Result<ModelSource> ModelLibrary::find_exactly(const std::string& name) const {
  for (const GivenModel& given : given_)
    if (lower_case(given.name) == name) return from_path(given);
  const auto manifest = store_.find(name);
  if (manifest) {
    fs::path path = TRY(store_.place(*manifest));
    return from_manifest(*manifest, std::move(path));
  }
  if (manifest.error().code == Code::kNotFound) {
    for (const OllamaStore& ollama : ollama_) {
      auto found = ollama.find(name);
      if (found) return from_ollama(std::move(*found));
      if (found.error().code != Code::kNotFound) return std::unexpected(found.error());
    }
  }
  return std::unexpected(manifest.error());
}

Result<ModelSource> ModelLibrary::find(std::string_view asked) const {
  const auto alias = aliases_.find(std::string(asked));
  const std::string name = lower_case(alias == aliases_.end() ? asked : std::string_view(alias->second));
  auto found = find_exactly(name);
  if (found || found.error().code != Code::kNotFound || !name.ends_with(kLatest)) return found;
  auto untagged = find_exactly(name.substr(0, name.size() - kLatest.size()));
  return untagged ? untagged : found;
}

Result<ListedModel> ModelLibrary::with_details(ModelSource source) const {
  const std::string key = source.digest + source.path.string();
  {
    const std::scoped_lock lock(mutex_);
    if (const auto known = details_.find(key); known != details_.end())
      return ListedModel{std::move(source), known->second};
  }
  ModelDetails details = TRY(model_details(source.path));
  const std::scoped_lock lock(mutex_);
  details_[key] = details;
  return ListedModel{std::move(source), std::move(details)};
}

Result<ListedModel> ModelLibrary::details(std::string_view name) const {
  ModelSource source = TRY(find(name));
  return with_details(std::move(source));
}

std::vector<ListedModel> ModelLibrary::list() const {
  std::vector<ListedModel> all;
  auto add = [&](Result<ModelSource> source) {
    auto listed = source ? with_details(std::move(*source)) : std::unexpected(std::move(source).error());
    if (!listed) {
      LOG(kWarning, "left out of the list of models: {}", listed.error().message);
      return;
    }
    const bool there =
        std::ranges::any_of(all, [&](const ListedModel& m) { return m.source.name == listed->source.name; });
    if (!there) all.push_back(std::move(*listed));
  };
  for (const GivenModel& given : given_) add(from_path(given));
  if (const auto stored = store_.list()) {
    for (const Manifest& manifest : *stored) add(find_exactly(manifest.name));
  } else {
    LOG(kWarning, "{}", stored.error().message);
  }
  for (const OllamaStore& ollama : ollama_)
    for (OllamaModel& model : ollama.list()) add(from_ollama(std::move(model)));
  std::ranges::sort(all, {}, [](const ListedModel& model) { return model.source.name; });
  return all;
}

}  // namespace hearth
