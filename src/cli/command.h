// What a command of the program is. One file per command; all.cc lists them.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"

namespace CLI {
class App;
}

namespace hearth::cli {

// To add a command: write <name>.cc with a `constexpr`-initialised `extern const Command`, add it to all.cc and
// CMakeLists.txt. Help, shell completion and the man page come from the same array.
struct Command {
  std::string_view name;
  std::string_view summary;   // one line, lower case, no full stop
  std::string_view examples;  // lines "hearth ...", shown under --help and in the man page
  // Declares the options on `app` and returns what to do once they are parsed. The returned function owns the options.
  // It writes the answer to stdout and everything else to stderr; an error becomes "hearth: <message>" and its exit
  // code.
  std::function<Result<void>()> (*declare)(CLI::App& app);
};

std::span<const Command* const> all_commands();

// The whole program: parses the arguments, runs the command, prints errors, gives the exit code. No exception leaves
// it.
int run_program(int argc, const char* const* argv);

// Adds every command to `app`; `chosen` receives the action of the one the user names.
void declare_all(CLI::App& app, std::function<Result<void>()>& chosen);

}  // namespace hearth::cli
