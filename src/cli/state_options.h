// Where the state of conversations goes when memory gets short: options of the commands that answer.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/model_options.h"
#include "engine/engine.h"

namespace hearth::cli {

struct SwapOptions {
  std::string bytes = "0";  // "4G"; 0: none
  std::filesystem::path folder;
};
// Declares --swap and --swap-folder. `bytes` is the default.
void declare_swap_options(CLI::App& app, SwapOptions& options);
// Null if none is wanted.
Result<std::shared_ptr<StateCache>> open_swap(const SwapOptions& options);

// What tells the states of a model from those of others: the digest of its files, of the path where they cannot be read.
std::string state_digest(const ModelOptions& options, const std::filesystem::path& path, std::string otherwise = {});
// Sets what engines have to know of a model for its states: the digest, and the pages that a bound allows.
void set_state_options(EngineOptions& engine, const Model& model, std::string digest);

}  // namespace hearth::cli
