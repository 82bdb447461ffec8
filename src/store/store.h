// The models on this machine: one folder per model under $HEARTH_HOME/models with its files and a manifest.json.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/manifest.h"

namespace hearth {

// Layout under the root:
//   models/<folder>/manifest.json and the files   complete and verified, never changed in place
//   partial/<folder>/                             a pull on its way (store/import.h)
//   partial/<folder>.lock                         held by the process that pulls or removes that model
// <folder> is model_folder(name). Several processes may use one store; within a process, any thread.
// Symbolic links below the root are never followed: a model folder or file that is one is refused.
class Store {
 public:
  // Makes the root and its folders if they are missing.
  static Result<Store> open(const std::filesystem::path& root);

  [[nodiscard]] const std::filesystem::path& root() const { return root_; }
  [[nodiscard]] std::filesystem::path models() const { return root_ / "models"; }
  [[nodiscard]] std::filesystem::path partial() const { return root_ / "partial"; }
  // The folder of a model, there or not. `name` must be valid.
  [[nodiscard]] std::filesystem::path folder(std::string_view name) const;

  // All models, by name. A folder without a readable manifest is left out and logged.
  [[nodiscard]] Result<std::vector<Manifest>> list() const;

  // By name or alias (known_models.h), upper case accepted. kNotFound lists near names and says how to pull.
  [[nodiscard]] Result<Manifest> find(std::string_view name_or_alias) const;

  // The path to open for a model of list() or find(), as resolve() gives it: never anything outside the store.
  [[nodiscard]] Result<std::filesystem::path> place(const Manifest& manifest) const;

  // Deletes a model's folder and what is left of an unfinished pull of it. kBusy while another process pulls it.
  Result<void> remove(std::string_view name_or_alias) const;

  // What a user calls MODEL, as the path to open: a name in the store or alias; a .gguf file; a folder as Hugging Face
  // lays it out, or one with GGUF files. Gives a .gguf file (of a split model the first part) or a folder with
  // config.json. Checks that every file of a stored model is there with its size; digests were checked when it came in.
  [[nodiscard]] Result<std::filesystem::path> resolve(std::string_view model) const;

 private:
  explicit Store(std::filesystem::path root) : root_(std::move(root)) {}

  std::filesystem::path root_;
};

// The file or folder inside `folder` that a loader opens: a single .gguf, the first part of a split one, or the folder
// itself if it has config.json. kNotFound or kInvalidArgument says what is there instead.
Result<std::filesystem::path> model_in_folder(const std::filesystem::path& folder);

}  // namespace hearth
