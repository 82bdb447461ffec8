// The options of every command that loads a model, and the loading itself.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/core_options.h"
#include "engine/catalog.h"
#include "model/model.h"

namespace CLI {
class App;
}

namespace hearth::cli {

struct ModelOptions {
  std::string model = "default";
  int n_threads = 0;  // 0: HEARTH_THREADS, or one per physical core
  int context = 0;    // 0: 4096, or what the model can if that is less
  std::string kv_type = "f16", kv_gate = "on", precision = "8";
  std::string backend = "cpu";
  std::string memory;         // "512MiB", empty: no bound
  uint64_t memory_bytes = 0;  // the bound, where it does not stand in `memory`
  int parallel = 1;           // contexts that the bound has to hold
  bool no_cache = false;
  std::string speculate = "auto", draft;
  std::vector<std::string> adapters{};          // "NAME=FILE"
  std::vector<std::string> stages{}, spares{};  // chain_options.h
  std::string chain{};
  std::string head{};  // HOST:PORT; empty: here
  int own_layers = 0;
  int row_bits = 32;           // between stages
  std::string exits;           // the file of exit heads; empty: beside the pack in the cache
  double exit_kld = 0;         // 0: no token leaves early
  SettleCores settle_cores{};  // of models that a catalog loads; may be empty
  int experts = 0;             // of a mixture, for each token; 0: as many as the model was made for
};

// Declares --threads, --context, --kv-type, --kv-gate, --precision, --backend and --no-cache; MODEL itself is each command's.
void declare_model_options(CLI::App& app, ModelOptions& options);

// What the model of --draft takes, all of it staying in memory: it guesses only where that is faster than the model. 0: there is none.
Result<uint64_t> draft_memory(const ModelOptions& options);
// Declares --memory, for commands that have one model.
void declare_memory_option(CLI::App& app, ModelOptions& options);

// MODEL without the folders of a path, for people to read.
std::string short_name(const ModelOptions& options);
Result<std::unique_ptr<Backend>> make_backend(const ModelOptions& options);
// Whether an engine's precision may be switched while it runs.
inline bool may_switch_precision(const ModelOptions& options) { return options.precision == "auto"; }
// What keys and values may be kept as, the most exact first.
Result<std::vector<KvType>> kv_types_for(const ModelOptions& options);
// Finds MODEL and loads it, with progress on stderr when it takes long.
Result<Model> load(const ModelOptions& options);
// The KV type to run a loaded model with, measured first if it has to be (kv_gate.h), with progress on stderr.
Result<KvType> kv_type_for(const Model& model, const ModelOptions& options);
// Declares --speculate and --draft, for commands that answer.
void declare_speculate_option(CLI::App& app, ModelOptions& options);
// The model of --draft, on the backend of the one it drafts for and with its context; nothing if there is none. With `skip_others` one
// that does not fit is left out, with a warning in the log.
Result<std::optional<Model>> load_draft(const ModelOptions& options, const Model& model, bool skip_others);
// What it says, as EngineOptions::drafts_max.
Result<int> drafts_max(const ModelOptions& options);
// The value of --draft that means the model itself.
inline constexpr std::string_view kSelfDraft = "self";
// Declares --exit-kld, for commands that answer.
void declare_exit_kld_option(CLI::App& app, ModelOptions& options);
// What options say of exits goes into the engine's, whose KV type is set. Where one may `go_without`, exits are taken also if nobody asked
// for them, and what stands against them is only a warning in the log, if somebody did.
Result<void> set_exits(const ModelOptions& options, const Model& model, bool go_without, EngineOptions& engine);
// Declares --exits.
void declare_exits_option(CLI::App& app, ModelOptions& options);
// Where a loaded model's exit heads are, there or not; kUnsupported if they can be nowhere.
Result<std::filesystem::path> exits_path(const ModelOptions& options, const Model& model);
// Declares --adapter.
void declare_adapter_option(CLI::App& app, ModelOptions& options);
// For which family of models each of --adapter is, by name.
Result<std::map<std::string, std::string>> adapter_families(const ModelOptions& options);
// Those of --adapter, in their order; call it before an engine drives the model. With `skip_others` adapters of other families are left
// out, with a warning in the log.
using Adapters = std::vector<std::pair<std::string, std::shared_ptr<const Adapter>>>;
Result<Adapters> load_adapters(const ModelOptions& options, const Model& model, bool skip_others);
// How a catalog loads models with these options, whose `model` is not used.
Result<ModelLoader> model_loader(const ModelOptions& options, const EngineOptions& engine);

}  // namespace hearth::cli
