// Ollama's models, used where they lie: nothing is copied and nothing is written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

struct OllamaModel {
  std::string name;            // "llama3.2:1b", "owner/model:tag"
  std::filesystem::path path;  // the GGUF file, named by its digest
  std::string sha256;          // of that file, as the manifest has it
  uint64_t bytes = 0;
  std::string modified;         // UTC, as 2026-01-31T12:00:00Z
  std::string system;           // the system prompt it was made with; may be empty
  std::string parameters_json;  // an object ({"stop": [...], "temperature": 0.7}), or empty
};

// Layout under the folder, Ollama's own:
//   manifests/<host>/<owner>/<model>/<tag>   JSON: layers by media type, digest and size
//   blobs/sha256-<digest>
// The owner "library" is not written in a model's name. Symbolic links below the folder are never followed, and a digest is 64 hex
// digits and nothing else, so no manifest reaches a file outside blobs/ (CVE-2024-37032). Any thread.
class OllamaStore {
 public:
  explicit OllamaStore(std::filesystem::path models) : models_(std::move(models)) {}
  [[nodiscard]] const std::filesystem::path& folder() const { return models_; }
  // All models, by name; one that is not whole is left out, with a warning in the log. Empty if there is no such folder.
  [[nodiscard]] std::vector<OllamaModel> list() const;
  // In any case; without a tag "latest". kNotFound; kMalformed, kCorrupt or kUnsupported says what is wrong with its files.
  [[nodiscard]] Result<OllamaModel> find(std::string_view name) const;

 private:
  struct Entry {
    std::string name;
    std::filesystem::path manifest;
  };
  [[nodiscard]] std::vector<Entry> entries() const;
  [[nodiscard]] Result<OllamaModel> read(const Entry& entry) const;
  [[nodiscard]] Result<std::filesystem::path> blob(std::string_view digest, uint64_t bytes) const;

  std::filesystem::path models_;
};

}  // namespace hearth
