#include "store/store.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "store/known_models.h"
#include "store/model_name.h"

namespace hearth {
namespace fs = std::filesystem;
namespace {

Result<void> make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return fail(Code::kIo, "{}: cannot make the folder: {}; set HEARTH_HOME to a folder you may write", path.string(),
                error.message());
  }
  return {};
}

// Step by step without following links: a link in the store could point anywhere.
Result<Descriptor> open_folder(const fs::path& models, const std::string& folder) {
  const Descriptor above(::open(models.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!above) return fail(Code::kIo, "{}: {}", models.string(), std::strerror(errno));
  Descriptor opened(::openat(above.get(), folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (opened) return opened;
  if (errno == ENOENT) return fail(Code::kNotFound, "{}/{}: no such folder", models.string(), folder);
  return fail(Code::kCorrupt, "{}/{}: not a folder of the store ({})", models.string(), folder, std::strerror(errno));
}

// The size of a regular file in an open folder; a link, a device or a pipe is refused.
Result<uint64_t> file_bytes(const Descriptor& folder, const std::string& name) {
  struct stat status{};
  if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail(errno == ENOENT ? Code::kNotFound : Code::kIo, "{}: {}", name, std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode))
    return fail(Code::kCorrupt, "{}: not a regular file (a link or a device is refused)", name);
  return static_cast<uint64_t>(status.st_size);
}

Result<Manifest> read_manifest(const fs::path& models, const std::string& folder) {
  const Descriptor opened = TRY(open_folder(models, folder));
  TRY(file_bytes(opened, "manifest.json"));
  const fs::path path = models / folder / "manifest.json";
  const std::string text = TRY(read_file(path, limits::kManifestBytes));
  auto manifest = parse_manifest(text);
  if (!manifest) return within(path.string(), std::move(manifest).error());
  if (model_folder(manifest->name) != folder) {
    return fail(Code::kCorrupt, "{}: it is the manifest of '{}'", path.string(), manifest->name);
  }
  return manifest;
}

Result<void> check_files(const fs::path& models, const Manifest& manifest) {
  const Descriptor opened = TRY(open_folder(models, model_folder(manifest.name)));
  for (const ManifestFile& file : manifest.files) {
    auto bytes = file_bytes(opened, file.name);
    if (!bytes) return within(fmt::format("model {}", manifest.name), std::move(bytes).error());
    if (*bytes != file.bytes) {
      return fail(Code::kCorrupt, "model {}: {} has {} bytes instead of {}; remove it (hearth rm {}) and pull it again",
                  manifest.name, file.name, *bytes, file.bytes, manifest.name);
    }
  }
  return {};
}

// Alias or name in any case -> name.
Result<std::string> name_of(std::string_view name_or_alias) {
  if (const KnownModel* known = find_known_model(name_or_alias)) return std::string(known->name);
  std::string name = lower_case(name_or_alias);
  TRY(check_model_name(name));
  return name;
}

bool looks_like_path(std::string_view model) {
  return model.starts_with('/') || model.starts_with("./") || model.starts_with("../") || model == "." ||
         model.ends_with(".gguf") || model.ends_with(".pack") || model.ends_with('/');
}

bool is_split_part(const std::string& name) { return name.find("-of-") != std::string::npos; }

std::unexpected<Error> unknown_model(const Store& store, std::string_view name) {
  std::vector<std::string> names;
  if (auto models = store.list()) {
    for (const Manifest& model : *models) names.push_back(model.name);
  }
  const std::vector<std::string> near = near_names(name, names);
  if (const KnownModel* known = find_known_model(name)) {
    return fail(Code::kNotFound,
                "model '{}' ({}, {} MB) is not in the store yet; get it with: hearth pull {}  (or ./dev fetch {})",
                known->alias, known->name, known->bytes / 1'000'000, known->alias, known->alias);
  }
  if (!near.empty()) {
    return fail(Code::kNotFound, "no model '{}' in the store; did you mean {}? (all models: hearth list)",
                printable(name), fmt::join(near, " or "));
  }
  return fail(
      Code::kNotFound,
      "no model '{}' in the store and no such file; 'hearth list' shows what is there, 'hearth pull SOURCE' adds one",
      printable(name));
}

}  // namespace

Result<Store> Store::open(const fs::path& root) {
  if (root.empty()) return fail(Code::kInvalidArgument, "no folder for the models; set HEARTH_HOME");
  Store store(fs::absolute(root));
  TRY(make_folder(store.models()));
  TRY(make_folder(store.partial()));
  return store;
}

fs::path Store::folder(std::string_view name) const { return models() / model_folder(name); }

Result<std::vector<Manifest>> Store::list() const {
  std::vector<Manifest> all;
  std::error_code error;
  for (fs::directory_iterator entry(models(), error), end; !error && entry != end; entry.increment(error)) {
    auto manifest = read_manifest(models(), entry->path().filename().string());
    if (manifest) {
      all.push_back(std::move(*manifest));
    } else {
      LOG(kWarning, "{} is left out: {}", entry->path().string(), manifest.error().message);
    }
  }
  if (error) return fail(Code::kIo, "{}: {}", models().string(), error.message());
  std::ranges::sort(all, {}, &Manifest::name);
  return all;
}

Result<Manifest> Store::find(std::string_view name_or_alias) const {
  const auto name = name_of(name_or_alias);
  if (!name) return unknown_model(*this, name_or_alias);
  auto manifest = read_manifest(models(), model_folder(*name));
  if (!manifest && manifest.error().code == Code::kNotFound) return unknown_model(*this, name_or_alias);
  return manifest;
}

Result<fs::path> Store::place(const Manifest& manifest) const {
  TRY(check_files(models(), manifest));
  return model_in_folder(folder(manifest.name));
}

Result<void> Store::remove(std::string_view name_or_alias) const {
  const std::string name = TRY(name_of(name_or_alias));
  const fs::path lock_path = partial() / (model_folder(name) + ".lock");
  const Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!lock) return fail(Code::kIo, "{}: {}", lock_path.string(), std::strerror(errno));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kBusy, "model {} is being pulled by another process; try again when it is done", name);
  }
  std::error_code error;
  const bool in_store = fs::symlink_status(folder(name), error).type() != fs::file_type::not_found;
  const bool unfinished = fs::exists(partial() / model_folder(name), error);
  if (!in_store && !unfinished) return unknown_model(*this, name_or_alias);
  // Renamed first, so that nobody sees half a model; remove_all deletes a link itself, not what it points to.
  const fs::path doomed = partial() / (model_folder(name) + ".removed");
  fs::remove_all(doomed, error);
  if (in_store) fs::rename(folder(name), doomed, error);
  if (!error) fs::remove_all(doomed, error);
  if (!error) fs::remove_all(partial() / model_folder(name), error);
  if (error) return fail(Code::kIo, "cannot remove model {}: {}", name, error.message());
  return {};
}

Result<fs::path> Store::resolve(std::string_view model) const {
  std::error_code error;
  if (!looks_like_path(model)) {
    auto manifest = find(model);
    if (manifest) return place(*manifest);
    if (manifest.error().code != Code::kNotFound || !fs::exists(fs::path(model), error)) {
      return std::unexpected(std::move(manifest).error());
    }
  }
  const fs::path path(model);
  if (fs::is_directory(path, error)) return model_in_folder(path);
  if (fs::is_regular_file(path, error)) return path;
  if (fs::exists(path, error)) return fail(Code::kInvalidArgument, "{}: neither a file nor a folder", printable(model));
  return fail(Code::kNotFound, "{}: no such file; 'hearth list' shows the models in the store", printable(model));
}

Result<fs::path> model_in_folder(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> files;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(".gguf")) files.push_back(name);
  }
  if (error) return fail(Code::kIo, "{}: {}", folder.string(), error.message());
  if (fs::exists(folder / "config.json", error) && files.empty()) return folder;
  std::ranges::sort(files);
  if (files.empty()) {
    return fail(Code::kNotFound, "{}: neither a .gguf file nor a config.json in this folder", folder.string());
  }
  if (files.size() > 1 && !std::ranges::all_of(files, is_split_part)) {
    return fail(Code::kInvalidArgument, "{}: {} .gguf files; name the one to use: {}", folder.string(), files.size(),
                fmt::join(files, ", "));
  }
  return folder / files.front();
}

}  // namespace hearth
