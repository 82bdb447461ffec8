// What the environment says. Read here and nowhere else; a flag wins over it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "store/ollama_store.h"
#include "store/pack_cache.h"
#include "store/store.h"

namespace hearth::cli {

// HEARTH_HOME, or $XDG_DATA_HOME/hearth, or ~/.local/share/hearth.
std::filesystem::path home_folder();
Result<Store> open_store();
// The cache of packs beside the store; empty, with a warning in the log, if it cannot be made.
std::optional<PackCache> open_cache(const Store& store);

// Ollama's models: those under $OLLAMA_MODELS, or else of this user and of Ollama's service.
std::vector<OllamaStore> ollama_stores();

// MODEL of a command line: what Store::resolve finds, or a name in Ollama's stores.
Result<std::filesystem::path> model_path(const Store& store, std::string_view model);

// HEARTH_THREADS, or the physical cores this process may use.
Result<int> thread_count_from_environment();

// HEARTH_ISA: the instruction set to use instead of the best one; empty if not set.
std::string isa_from_environment();

// HEARTH_LOG: debug, info, warning (the default) or error.
Result<LogLevel> log_level_from_environment();

// The value of a variable; empty if it is not set.
std::string environment(const char* name);

}  // namespace hearth::cli
