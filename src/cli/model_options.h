// The options of every command that loads a model, and the loading itself.
#pragma once

#include <string>

#include "base/result.h"
#include "model/model.h"

namespace CLI {
class App;
}

namespace hearth::cli {

struct ModelOptions {
  std::string model = "default";
  int n_threads = 0;  // 0: HEARTH_THREADS, or one per physical core
  int context = 0;    // 0: 4096, or what the model can if that is less
  std::string kv_type = "f16";
  std::string backend = "cpu";
};

// Declares --threads, --context, --kv-type and --backend; MODEL itself is each command's.
void declare_model_options(CLI::App& app, ModelOptions& options);

// MODEL without the folders of a path, for people to read.
std::string short_name(const ModelOptions& options);
Result<std::unique_ptr<Backend>> make_backend(const ModelOptions& options);
// Finds MODEL and loads it, with progress on stderr when it takes long.
Result<Model> load(const ModelOptions& options);

}  // namespace hearth::cli
