// The models there are, by the names that requests use: those in the store, those named when the server was
// started, and Ollama's.
#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/model_details.h"
#include "store/ollama_store.h"
#include "store/store.h"

namespace hearth {

// Where a model lies.
struct ModelSource {
  std::string name;
  std::filesystem::path path;  // what load_model opens
  // 64 hex digits that stand for the content: of the files where the store knows their digests, else of path, size and time.
  std::string digest{};
  uint64_t bytes = 0;      // of all files
  std::string modified{};  // UTC, as 2026-01-31T12:00:00Z
  // What Ollama's store says beyond the file: see OllamaModel.
  std::string system{}, parameters_json{};
};

struct ListedModel {
  ModelSource source;
  ModelDetails details;
};

// A model by a path from the command line.
struct GivenModel {
  std::string name;
  std::filesystem::path path;
};

// Any thread.
class ModelLibrary {
 public:
  // `aliases`: other names of models; they are looked at first and may not lead to another alias.
  ModelLibrary(Store store, std::vector<GivenModel> given, std::map<std::string, std::string> aliases,
               std::vector<OllamaStore> ollama = {});

  // A name from outside, which is never taken for a path; any case, with or without ":latest". kNotFound says what is near.
  [[nodiscard]] Result<ModelSource> find(std::string_view name) const;
  [[nodiscard]] Result<ListedModel> details(std::string_view name) const;
  // All, by name; what cannot be read is left out, with a warning in the log.
  [[nodiscard]] std::vector<ListedModel> list() const;
  [[nodiscard]] const std::map<std::string, std::string>& aliases() const { return aliases_; }
  [[nodiscard]] const Store& store() const { return store_; }

 private:
  [[nodiscard]] Result<ModelSource> find_exactly(const std::string& name) const;
  [[nodiscard]] Result<ListedModel> with_details(ModelSource source) const;

  Store store_;
  std::vector<GivenModel> given_;
  std::map<std::string, std::string> aliases_;
  std::vector<OllamaStore> ollama_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, ModelDetails> details_;  // by digest and path
};

}  // namespace hearth
