// What the environment says. Read here and nowhere else; a flag wins over it.
#pragma once

#include <filesystem>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "store/store.h"

namespace hearth::cli {

// HEARTH_HOME, or $XDG_DATA_HOME/hearth, or ~/.local/share/hearth.
std::filesystem::path home_folder();
Result<Store> open_store();

// HEARTH_THREADS, or the physical cores this process may use.
Result<int> thread_count_from_environment();

// HEARTH_ISA: the instruction set to use instead of the best one; empty if not set.
std::string isa_from_environment();

// HEARTH_LOG: debug, info, warning (the default) or error.
Result<LogLevel> log_level_from_environment();

// The value of a variable; empty if it is not set.
std::string environment(const char* name);

}  // namespace hearth::cli
