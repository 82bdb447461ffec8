// The tiny models of tests/data/families, for tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/decoder.h"

namespace hearth {

inline const std::filesystem::path kGoldenFolder = std::filesystem::path(HEARTH_TEST_DATA) / "families";

inline std::string golden_text(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Message of an error, "" for success: so that a failed assertion shows it.
template <typename T>
std::string message(const Result<T>& result) {
  return result ? "" : result.error().message;
}

struct LoadedModel {
  Checkpoint checkpoint;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
};

inline Result<LoadedModel> load_golden(const std::filesystem::path& path, std::string_view backend_name, int context,
                                       int n_threads = 1) {
  LoadedModel loaded;
  loaded.checkpoint = TRY(open_checkpoint(path));
  loaded.backend = TRY(create_backend(backend_name, {.n_threads = n_threads, .isa = ""}));
  loaded.decoder =
      TRY(Decoder::load(loaded.checkpoint, *loaded.backend, {.context = context, .rows_max = 0, .progress = {}}));
  return loaded;
}

}  // namespace hearth
