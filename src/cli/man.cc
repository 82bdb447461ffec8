// The man page, made from the list of commands, their options and the table of errors.
#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace hearth::cli {
namespace {

constexpr std::string_view kEnvironment =
    ".SH ENVIRONMENT\n"
    ".TP\nHEARTH_HOME\nFolder of the model store; without it $XDG_DATA_HOME/hearth or ~/.local/share/hearth.\n"
    ".TP\nHEARTH_THREADS\nThreads to compute with; without it the physical cores.\n"
    ".TP\nHEARTH_ISA\nInstruction set to use instead of the best one.\n"
    ".TP\nHEARTH_LOG\ndebug, info, warning or error.\n"
    ".TP\nHF_ENDPOINT, HF_TOKEN\nAddress of the model hub and the token for it.\n"
    ".TP\nSSL_CERT_FILE, CURL_CA_BUNDLE\nCertificates to trust instead of the system's.\n";

// A backslash, and a dot or quote at the start of a line, mean something to troff.
std::string escaped(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') out += '\\';
    if (c == '-') out += '\\';
    out += c;
    line_start = c == '\n';
  }
  return out;
}

std::string options_of(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    const std::string value =
        option->get_type_size() > 0 && !option->get_positional() ? " " + option->get_type_name() : "";
    text += fmt::format(".TP\n.B {}{}\n{}\n", escaped(option->get_name(false, true)), escaped(value),
                        escaped(option->get_description()));
  }
  return text;
}

Result<void> man() {
  CLI::App app("", "hearth");
  std::function<Result<void>()> unused;
  declare_all(app, unused);
  fmt::print(".TH HEARTH 1 \"\" \"hearth {}\"\n.SH NAME\nhearth \\- runs language models on this machine\n",
             HEARTH_VERSION);
  fmt::print(".SH SYNOPSIS\n.B hearth\n.I command\n[options]\n.SH COMMANDS\n");
  for (const Command* command : all_commands()) {
    const CLI::App* sub = app.get_subcommand(std::string(command->name));
    fmt::print(".SS hearth {}\n{}.\n{}", command->name, escaped(command->summary), options_of(*sub));
    if (!command->examples.empty()) fmt::print(".PP\nExamples:\n.nf\n{}\n.fi\n", escaped(command->examples));
  }
  fmt::print("{}.SH \"EXIT STATUS\"\n.TP\n0\nDone.\n", kEnvironment);
  for (int code = 0; code <= static_cast<int>(Code::kInternal); ++code) {
    const CodeInfo& row = info(static_cast<Code>(code));
    fmt::print(".TP\n{}\n{}\n", row.exit_code, row.name);
  }
  return {};
}

std::function<Result<void>()> declare(CLI::App& /*app*/) { return man; }

}  // namespace

extern const Command kMan;
const Command kMan{"man", "print the manual page", "  hearth man | man -l -", declare};

}  // namespace hearth::cli
