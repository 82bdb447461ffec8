// Completion scripts for shells, made from the list of commands and their options.
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"

namespace hearth::cli {
namespace {

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command* command : all_commands()) names.emplace_back(command->name);
  return names;
}

// MODEL is completed from `hearth list`; files are always offered too.
std::string bash(const CLI::App& app) {
  std::string text = fmt::format(
      "_hearth() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} words\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words='{}'\n  else\n    case ${{COMP_WORDS[1]}} in\n",
      fmt::join(command_names(), " "));
  for (const CLI::App* sub : app.get_subcommands({})) {
    text += fmt::format("      {}) words='{}' ;;\n", sub->get_name(), fmt::join(option_names(*sub), " "));
  }
  return text +
         "    esac\n    [[ $word == -* ]] || words=$(hearth list 2>/dev/null | tail -n +2 | cut -d' ' -f1)\n  fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _hearth hearth\n";
}

std::string zsh(const CLI::App& app) {
  return "#compdef hearth\nautoload -U +X bashcompinit && bashcompinit\n" + bash(app);
}

std::string fish(const CLI::App& app) {
  std::string text = "function __hearth_models\n  hearth list 2>/dev/null | tail -n +2 | string split -f1 ' '\nend\n";
  for (const CLI::App* sub : app.get_subcommands({})) {
    text += fmt::format("complete -c hearth -n __fish_use_subcommand -a {} -d '{}'\n", sub->get_name(),
                        sub->get_description());
    for (const std::string& name : option_names(*sub)) {
      text += fmt::format("complete -c hearth -n '__fish_seen_subcommand_from {}' -l {}\n", sub->get_name(),
                          name.substr(2));
    }
  }
  return text + fmt::format("complete -c hearth -n '__fish_seen_subcommand_from {}' -a '(__hearth_models)'\n",
                            fmt::join(command_names(), " "));
}

Result<void> completion(const std::string& shell) {
  CLI::App app("", "hearth");
  std::function<Result<void>()> unused;
  declare_all(app, unused);
  if (shell == "bash") fmt::print("{}", bash(app));
  if (shell == "zsh") fmt::print("{}", zsh(app));
  if (shell == "fish") fmt::print("{}", fish(app));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return [shell] { return completion(*shell); };
}

}  // namespace

extern const Command kCompletion;
const Command kCompletion{"completion", "print a completion script for a shell",
                          "  hearth completion bash > ~/.local/share/bash-completion/completions/hearth\n"
                          "  hearth completion fish > ~/.config/fish/completions/hearth.fish",
                          declare};

}  // namespace hearth::cli
