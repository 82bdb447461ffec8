#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <memory>

#include "base/process_memory.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "model/memory_budget.h"
#include "model/memory_plan.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;

struct Options {
  ModelOptions model;
  bool json = false;
};

// The model's pack if there is one, so that the plan is exact; else what it will be made of.
Result<Checkpoint> checkpoint_of(const Options& options, const Store& store) {
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  std::error_code error;
  if (const auto cache = options.model.no_cache ? std::nullopt : open_cache(store)) {
    const std::filesystem::path place = TRY(pack_place(path, *cache));
    if (std::filesystem::exists(place, error)) return open_checkpoint(place);
  }
  return open_checkpoint(path);
}

json::object to_json(const MemoryFit& fit) {
  const StreamPlan& weights = fit.weights;
  return {{"context", fit.context},
          {"parallel", fit.parallel},
          {"kv_type", name(fit.kv_type)},
          {"program_bytes", fit.program_bytes},
          {"kv_bytes", fit.kv_bytes},
          {"kv_positions_in_memory", fit.kv_pages * kKvPagePositions},
          {"weights_resident_bytes", weights.resident_bytes},
          {"weights_read_per_token_bytes", weights.read_bytes},
          {"expert_slots", weights.expert_slots},
          {"expert_slot_bytes", weights.expert_slot_bytes},
          {"total_bytes", fit.total_bytes()}};
}

void print(const MemoryFit& fit, uint64_t weight_bytes, uint64_t draft_bytes, uint64_t bytes) {
  const int64_t wanted = int64_t{fit.context} * fit.parallel, in_memory = int64_t{fit.kv_pages} * kKvPagePositions;
  std::vector<std::vector<std::string>> rows{{"what", "bytes", ""}};
  rows.push_back({"program, vocabulary, work", human_bytes(fit.program_bytes - draft_bytes), ""});
  if (draft_bytes > 0) rows.push_back({"draft model", human_bytes(draft_bytes), "all of it stays"});
  rows.push_back(
      {"keys and values", human_bytes(fit.kv_bytes),
       fmt::format("{} x {} positions in {}{}", fit.parallel, fit.context, name(fit.kv_type),
                   wanted > in_memory
                       ? fmt::format(", {} of them in memory at once: others wait, or are on disk", in_memory)
                       : "")});
  rows.push_back({"weights in memory", human_bytes(fit.weights.resident_bytes),
                  fit.weights.read_bytes == 0 ? "all" : fmt::format("of {}", human_bytes(weight_bytes))});
  const bool experts = fit.weights.expert_slot_bytes > 0;
  if (experts)
    rows.push_back({"of them experts", human_bytes(fit.weights.expert_slots * fit.weights.expert_slot_bytes),
                    fmt::format("{} that were used most of late", fit.weights.expert_slots)});
  if (fit.weights.read_bytes > 0)
    rows.push_back(
        {"weights from disk", human_bytes(fit.weights.read_bytes),
         experts ? "read for every token, if all experts are used alike" : "read for every token, or step of several"});
  rows.push_back({"together", human_bytes(fit.total_bytes()), fmt::format("of {}", human_bytes(bytes))});
  fmt::print("{}", table(rows));
}

Result<void> plan(const Options& options) {
  const Store store = TRY(open_store());
  const Checkpoint checkpoint = TRY(checkpoint_of(options, store));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const Machine machine = probe_machine();
  const uint64_t bytes = options.model.memory.empty()
                             ? std::min(machine.memory_available_bytes,
                                        machine.memory_limit_bytes.value_or(machine.memory_available_bytes))
                             : TRY(parse_size("--memory", options.model.memory));
  const TextSide text = TRY(load_text(checkpoint));  // so that what it takes is counted
  const uint64_t draft = TRY(draft_memory(options.model));
  MemoryNeeds needs = TRY(memory_needs(checkpoint, *backend, resident_bytes()));
  needs.program_bytes += draft;
  const MemoryWish wish{.context = TRY(plan_memory(checkpoint, *backend, options.model.context, KvType::kF16)).context,
                        .parallel = options.model.parallel,
                        .kv_types = TRY(kv_types_for(options.model))};
  const auto fit = fit_memory(needs, wish, bytes);
  if (options.json) {
    json::object out{{"memory_bytes", bytes},
                     {"weight_bytes", needs.weight_bytes},
                     {"draft_bytes", draft},
                     {"fits", fit.has_value()}};
    if (fit) out["plan"] = to_json(*fit);
    if (!fit) out["error"] = fit.error().message;
    if (const auto nearest = fit ? std::nullopt : nearest_fit(needs, wish, bytes)) out["nearest"] = to_json(*nearest);
    fmt::print("{}\n", json::serialize(out));
    return {};
  }
  if (fit) {
    print(*fit, needs.weight_bytes, draft, bytes);
    return {};
  }
  if (const auto nearest = nearest_fit(needs, wish, bytes)) print(*nearest, needs.weight_bytes, draft, bytes);
  return std::unexpected(fit.error());
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model.model, "Name in the store, .gguf file, pack, or Hugging Face folder")
      ->required();
  app.add_option("--memory", options->model.memory, "What there is: 512MiB, 2G (default: what the machine has free)");
  app.add_option("--context,-c", options->model.context,
                 "Positions of a conversation (default: 4096, or the model's maximum if less)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--parallel", options->model.parallel, "Conversations at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--kv-type", options->model.kv_type,
                 "How keys and values are kept: f16, i8, i4, or auto: i8 if f16 is too large")
      ->capture_default_str();
  app.add_option("--draft", options->model.draft, "A smaller model that guesses, as of run and serve");
  app.add_flag("--no-cache", options->model.no_cache, "As if no pack was kept");
  app.add_flag("--json", options->json, "Print it as JSON");
  return [options] { return plan(*options); };
}

}  // namespace

extern const Command kPlan;
const Command kPlan{"plan", "say what of a model fits into some memory, and what gives way",
                    "  hearth plan default --memory 512MiB\n"
                    "  hearth plan ./model.gguf --memory 2G --context 8192 --parallel 4 --kv-type auto\n"
                    "  hearth plan default --memory 100MiB --json",
                    declare};

}  // namespace hearth::cli
