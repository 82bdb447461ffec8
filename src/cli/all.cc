#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <memory>

#include "base/log.h"
#include "base/mapped_guard.h"
#include "base/process_memory.h"
#include "cli/command.h"
#include "cli/settings.h"
#include "store/model_name.h"

namespace hearth::cli {

extern const Command kRun, kEmbed, kBench, kEval, kPull, kPush, kList, kShow, kRm, kInspect, kTokenize, kDoctor,
    kCompletion, kMan, kVerify, kCache, kServe, kKey, kBatch, kQuantize, kPlan, kPower, kSession, kNode, kCluster,
    kExits, kSparsity, kGateway;

namespace {

// In the order --help shows them.
constexpr std::array kCommands{&kRun,      &kEmbed,    &kServe, &kBatch,    &kSession, &kKey,        &kPull,
                               &kList,     &kShow,     &kRm,    &kVerify,   &kCache,   &kInspect,    &kPlan,
                               &kTokenize, &kQuantize, &kExits, &kSparsity, &kBench,   &kPower,      &kNode,
                               &kCluster,  &kPush,     &kEval,  &kGateway,  &kDoctor,  &kCompletion, &kMan};

constexpr int kUsageExitCode = 2;

int print_error(const Error& error) {
  std::fflush(stdout);
  fmt::print(stderr, "hearth: {}\n", error.message);
  return info(error.code).exit_code;
}

// --help and --version are answers and go to stdout; wrong usage goes to stderr with the way to the help.
int print_parse_result(CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);
  std::string command = "hearth";
  for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
  fmt::print(stderr, "hearth: {}\n'{} --help' shows what is possible.\n", error.what(), command);
  return kUsageExitCode;
}

Result<void> check_command(std::string_view word) {
  std::vector<std::string> names;
  for (const Command* command : kCommands) names.emplace_back(command->name);
  if (word.starts_with('-') || std::ranges::find(names, word) != names.end()) return {};
  const std::vector<std::string> near = near_names(word, names);
  return fail(Code::kInvalidArgument, "no command '{}'{}; 'hearth --help' lists them", printable(word),
              near.empty() ? "" : ", did you mean '" + near.front() + "'");
}

}  // namespace

std::span<const Command* const> all_commands() { return kCommands; }

void declare_all(CLI::App& app, std::function<Result<void>()>& chosen) {
  for (const Command* command : kCommands) {
    CLI::App* sub = app.add_subcommand(std::string(command->name), std::string(command->summary));
    if (!command->examples.empty()) sub->footer("Examples:\n" + std::string(command->examples));
    auto action = std::make_shared<std::function<Result<void>()>>(command->declare(*sub));
    sub->callback([&chosen, action] { chosen = *action; });
  }
}

int run_program(int argc, const char* const* argv) {
  try {
    CLI::App app("Hearth runs language models on this machine.", "hearth");
    app.set_version_flag("--version", "hearth " HEARTH_VERSION);
    app.set_help_all_flag("--help-all", "Help for every command");
    app.require_subcommand(1);
    app.footer(
        "Start here:\n  hearth run default \"What is the capital of France?\"\nExit codes and files: hearth man");
    guard_mapped_files();
    keep_large_blocks_apart();
    std::function<Result<void>()> chosen;
    declare_all(app, chosen);
    if (argc > 1) {
      if (auto known = check_command(argv[1]); !known) return print_error(known.error());
    }
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return print_parse_result(app, error);
    }
    if (auto level = log_level_from_environment(); level) {
      set_log_level(*level);
    } else {
      return print_error(level.error());
    }
    const Result<void> done = chosen();
    if (!done) return print_error(done.error());
    // An answer that did not reach its reader is a failure (a full disk behind a redirection).
    if (std::fflush(stdout) != 0) return print_error({Code::kIo, "cannot write the answer to stdout"});
    return 0;
  } catch (const std::exception& error) {
    return print_error({Code::kInternal, fmt::format("unexpected: {}; please report this", error.what())});
  }
}

}  // namespace hearth::cli
