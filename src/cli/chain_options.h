// A model's layers on other machines of the site, as the command line says it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/model_options.h"
#include "engine/engine.h"

namespace hearth::cli {

// Where this machine's certificates are: $HEARTH_HOME/site.
std::filesystem::path site_folder();
// Its name for others: what the system calls it, without what certificates do not allow.
std::string machine_name();

// Declares --stages, what goes with it, and --head.
void declare_chain_options(CLI::App& app, ModelOptions& options);
inline bool has_chain(const ModelOptions& options) { return !options.stages.empty(); }
inline bool auto_stages(const ModelOptions& options) { return options.stages == std::vector<std::string>{"auto"}; }
// kInvalidArgument for what does not go together with stages.
Result<void> check_chain(const ModelOptions& options);
// The chain for a model that was loaded without layers, if the options name stages, and the head that they or a plan have elsewhere.
Result<void> use_machines(const ModelOptions& options, const Model& model, EngineOptions& engine);

}  // namespace hearth::cli
