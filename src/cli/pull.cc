#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_pull.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "store/known_models.h"

namespace hearth::cli {
namespace {

// Shows a pull to a person.
class ProgressObserver final : public PullObserver {
 public:
  explicit ProgressObserver(const InterruptFlag& interrupt) : PullObserver(interrupt.flag()) {}
  void begin(const ExpectedFile& file) override { line_.emplace(file.name); }
  void progress(const DownloadProgress& progress) override {
    line_->update(progress.bytes, progress.total, progress.bytes_per_second);
  }
  void note(const std::string& text) override {
    if (line_) return line_->note(text);
    fmt::print(stderr, "{}\n", text);
  }

 private:
  std::optional<ProgressLine> line_;
};

Result<void> pull(const PullOptions& options) {
  const InterruptFlag interrupt;
  Result<Pulled> done;
  {
    ProgressObserver observer(interrupt);
    done = pull_model(options, observer);
  }
  if (done && done->was_there) {
    fmt::print(stderr, "{} is in the store already.\n", done->name);
  } else if (done) {
    fmt::print(stderr, "{} is ready ({}). Try: hearth run {} \"Hello\"\n", done->name, human_bytes(done->bytes),
               done->name);
  }
  if (done) return {};
  if (done.error().code == Code::kCancelled)
    done.error().message = "stopped; what has come is kept, the same command continues";
  const KnownModel* known = find_known_model(options.source);
  if (known && done.error().code == Code::kIo) {
    done.error().message +=
        fmt::format("\nhearth: without internet but with a package mirror: ./dev fetch {}", known->alias);
  }
  return std::unexpected(done.error());
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<PullOptions>();
  app.add_option("source", options->source, "URL, file, folder, owner/name[:quant] of a model hub, or default, tiny")
      ->required();
  app.add_option("--name", options->name, "Name in the store (default: made from the source)");
  app.add_option("--sha256", options->sha256, "Digest the file must have");
  app.add_option("--file", options->pattern, "Which files of a repository, as a shell pattern ('*Q8_0*.gguf')");
  app.add_option("--token-env", options->token_variable, "Variable that holds a token (hubs: HF_TOKEN without this)");
  app.add_option("--endpoint", options->endpoint,
                 "Address of the hub (default: $HF_ENDPOINT or https://huggingface.co)");
  app.add_option("--max-bytes", options->bytes_max, "Refuse a file larger than this");
  app.add_option("--stall-seconds", options->stall_seconds, "Try again when nothing comes for so long (default 30)")
      ->check(CLI::Range(1, 3600));
  app.add_flag("--link", options->link, "Link a local file instead of copying it; it must not change afterwards");
  return [options] { return pull(*options); };
}

}  // namespace

extern const Command kPull;
const Command kPull{"pull", "bring a model into the store, resuming where an earlier pull stopped",
                    "  hearth pull default\n"
                    "  hearth pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0\n"
                    "  hearth pull https://example.org/model.gguf --name mine --sha256 0123...\n"
                    "  hearth pull ./model.gguf --name mine",
                    declare};

}  // namespace hearth::cli
