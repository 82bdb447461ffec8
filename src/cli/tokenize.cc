#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "model/model.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string model, text, file;
  bool text_given = false, json = false, special = false, bos = false;
};

// The text to tokenize: the argument, a file, or what comes through a pipe.
Result<std::string> input_text(const Options& options) {
  if (options.text_given && !options.file.empty())
    return fail(Code::kInvalidArgument, "give a text or --file, not both");
  if (options.text_given) return options.text;
  if (!options.file.empty() && options.file != "-") return read_file(options.file, limits::kPromptBytes);
  if (options.file.empty() && ::isatty(STDIN_FILENO) == 1) {
    return fail(Code::kInvalidArgument, "nothing to tokenize: give a text, --file FILE, or a text through a pipe");
  }
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (text.size() <= limits::kPromptBytes) return text;
  return fail(Code::kLimit, "{} bytes of text, at most {} are taken", text.size(), limits::kPromptBytes);
}

// One line per token; what would disturb a terminal is written as \xNN.
std::string visible_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c >= ' ' && c <= '~' && c != '\\') {
      text += c;
    } else {
      text += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

Result<void> tokenize(const Options& options) {
  const std::string text = TRY(input_text(options));
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model));
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  const TextSide side = TRY(load_text(checkpoint));
  const std::vector<Token> tokens =
      side.tokenizer->encode(text, {.parse_special = options.special, .add_bos = options.bos});
  std::string out;
  if (options.json) {
    for (const Token token : tokens) out += fmt::format("{}{}", out.empty() ? "" : ",", token);
    fmt::print("{{\"tokens\":[{}]}}\n", out);
    return {};
  }
  bool first = true;
  for (const Token token : tokens) {
    out += fmt::format("{:>8}  {}\n", token, visible_text(side.tokenizer->bytes(token, true, first)));
    first = false;
  }
  fmt::print("{}", out);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("model", options->model, "Name in the store, .gguf file, or Hugging Face folder")->required();
  CLI::Option* text = app.add_option("text", options->text, "Text to tokenize (or --file, or through a pipe)");
  app.add_option("--file", options->file, "File with the text");
  app.add_flag("--json", options->json, "Print {\"tokens\":[...]}");
  app.add_flag("--special", options->special, "Texts of special tokens in the text become those tokens");
  app.add_flag("--bos", options->bos, "Begin with the token the model wants at the start");
  return [options, text] {
    options->text_given = text->count() > 0;
    return tokenize(*options);
  };
}

}  // namespace

extern const Command kTokenize;
const Command kTokenize{"tokenize", "show the tokens a model makes of a text",
                        "  hearth tokenize tiny \"Hello world\"\n  hearth tokenize default --file book.txt --json",
                        declare};

}  // namespace hearth::cli
