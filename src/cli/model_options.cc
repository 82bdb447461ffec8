#include "cli/model_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>

#include "base/process_memory.h"
#include "cli/chain_options.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "cli/state_options.h"
#include "model/kv_gate.h"
#include "model/memory_plan.h"
#include "model/pack.h"

namespace hearth::cli {

void declare_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--threads,-t", options.n_threads, "Threads (default: physical cores, or HEARTH_THREADS)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--context,-c", options.context,
                 "Positions a conversation may have (default: 4096, or the model's maximum if less)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--kv-type", options.kv_type,
                 "How keys and values are kept: f16, i8, i4, or auto: the fewest bits that do this model no harm")
      ->capture_default_str();
  app.add_option("--kv-gate", options.kv_gate,
                 "on: i4 is measured once for each model and refused if it harms it; off: taken as told")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option(
         "--precision", options.precision,
         "Bits of a model with matrices of two planes (I8): 8; 4, which reads half as many bytes; auto, so that "
         "it may be switched while it runs (then answers depend on when)")
      ->check(CLI::IsMember({"8", "4", "auto"}))
      ->capture_default_str();
  app.add_option("--experts", options.experts,
                 "Experts for each token, of a mixture: fewer than it was made for are faster and give another answer")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--backend", options.backend,
                 "What computes: cpu, or reference (slow, the definition of every result)")
      ->capture_default_str();
  app.add_flag("--no-cache", options.no_cache, "Lay the model out in memory; keep no pack of it and use none");
}

void declare_memory_option(CLI::App& app, ModelOptions& options) {
  app.add_option(
      "--memory", options.memory,
      "All memory that may be taken (512MiB, 2G): what does not fit of the weights is read from disk for every token");
}

void declare_adapter_option(CLI::App& app, ModelOptions& options) {
  app.add_option("--adapter", options.adapters,
                 "NAME=FILE: a LoRA adapter (GGUF) that requests may name; several times")
      ->allow_extra_args(false);
}

void declare_speculate_option(CLI::App& app, ModelOptions& options) {
  app.add_option(
         "--speculate", options.speculate,
         fmt::format("Guess tokens from what stood there before and check several in one step; the answer is the "
                     "same: auto (as many as pay), off, or 1 to {} always",
                     kDraftMax))
      ->capture_default_str();
  app.add_option(
      "--draft", options.draft,
      "A smaller model of the same vocabulary that guesses what texts do not tell, where that pays; self: the model "
      "itself after some of its layers (hearth exits)");
}

void declare_exits_option(CLI::App& app, ModelOptions& options) {
  app.add_option("--exits", options.exits,
                 "The file of the model's exit heads (default: beside its pack in the cache)");
}

void declare_exit_kld_option(CLI::App& app, ModelOptions& options) {
  app.add_option("--exit-kld", options.exit_kld,
                 "Tokens may leave the model early, as long as the mean divergence that was measured stays within this "
                 "(0.05; see hearth exits); the answer is another one")
      ->check(CLI::Range(1e-6, 10.0));
}

namespace {

// Exits as they were asked for, or an error.
Result<void> take_exits(const ModelOptions& options, const Model& model, EngineOptions& engine) {
  if (engine.may_switch_precision)
    return fail(Code::kInvalidArgument, "exit heads hold for one precision; they go with --precision 8 or 4, not auto");
  const std::filesystem::path path = TRY(exits_path(options, model));
  engine.exits =
      std::make_shared<const ExitFile>(TRY(read_exits(path, *model.checkpoint, *model.decoder, engine.kv_type)));
  if (options.exit_kld > 0) TRY(engine.exits->choose(options.exit_kld));
  engine.exit_kld = options.exit_kld;
  engine.exit_draft = options.draft == kSelfDraft;
  return {};
}

}  // namespace

Result<void> set_exits(const ModelOptions& options, const Model& model, bool go_without, EngineOptions& engine) {
  const bool asked = options.exit_kld > 0 || options.draft == kSelfDraft || !options.exits.empty();
  if (!asked && !go_without) return {};
  const auto taken = take_exits(options, model, engine);
  if (taken || !go_without) return taken;
  if (asked) LOG(kWarning, "{} runs whole: {}", model.checkpoint->path().filename().string(), taken.error().message);
  return {};
}

Result<std::filesystem::path> exits_path(const ModelOptions& options, const Model& model) {
  if (!options.exits.empty()) return std::filesystem::path(options.exits);
  const auto cache = options.no_cache ? std::nullopt : open_cache(TRY(open_store()));
  std::filesystem::path path = cache ? cache->exits(model.checkpoint->path()) : std::filesystem::path();
  if (path.empty())
    return fail(Code::kUnsupported,
                "the model has no pack in the cache beside which exit heads could be; name a file: --exits");
  return path;
}

Result<int> drafts_max(const ModelOptions& options) {
  if (options.speculate == "auto") return -1;
  if (options.speculate == "off") return 0;
  int most = 0;
  const char* end = options.speculate.data() + options.speculate.size();
  const auto [rest, error] = std::from_chars(options.speculate.data(), end, most);
  if (error != std::errc() || rest != end || most < 1 || most > kDraftMax)
    return fail(Code::kInvalidArgument, "--speculate {}: want auto, off, or 1 to {}", options.speculate, kDraftMax);
  return most;
}

std::string short_name(const ModelOptions& options) { return std::filesystem::path(options.model).filename().string(); }

Result<std::unique_ptr<Backend>> make_backend(const ModelOptions& options) {
  const int n_threads = options.n_threads > 0 ? options.n_threads : TRY(thread_count_from_environment());
  return create_backend(options.backend, {.n_threads = n_threads, .isa = isa_from_environment()});
}

Result<std::vector<KvType>> kv_types_for(const ModelOptions& options) {
  if (options.kv_type == "auto") return std::vector{KvType::kF16, KvType::kI8};
  return std::vector{TRY(parse_kv_type(options.kv_type))};
}

Result<uint64_t> draft_memory(const ModelOptions& options) {
  if (options.draft.empty() || options.draft == kSelfDraft) return 0;
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.draft));
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options));
  const MemoryPlan plan = TRY(plan_memory(checkpoint, *backend, options.context, KvType::kF16));
  const uint64_t before = resident_bytes();
  const TextSide text = TRY(load_text(checkpoint));
  const uint64_t text_bytes = resident_bytes() - std::min(before, resident_bytes());
  constexpr uint64_t kScratchBytes = 16 << 20;  // of its steps
  return plan.weight_bytes + plan.kv_bytes + text_bytes + kScratchBytes;
}

namespace {

// A progress line, made when its work begins, for it tells speed and time from then on.
std::function<void(uint64_t, uint64_t)> progress(std::string label) {
  return [label, line = std::make_shared<std::optional<ProgressLine>>(),
          begun = std::chrono::steady_clock::time_point()](uint64_t done, uint64_t total) mutable {
    if (!*line) {
      begun = std::chrono::steady_clock::now();
      line->emplace(label);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    (*line)->update(done, total, static_cast<double>(done) / std::max(seconds, 1e-3));
    if (done >= total) line->reset();
  };
}

// Room is made for adapters up to this rank where there are any; usual ones have 8 to 64.
constexpr int kAdapterRankMax = 256;

// The bound of a model's own memory: what the draft model takes is set aside.
Result<uint64_t> bound_bytes(const ModelOptions& options) {
  uint64_t bytes = options.memory_bytes;
  if (!options.memory.empty()) bytes = TRY(parse_size("--memory", options.memory));
  if (bytes == 0) return 0;
  const uint64_t draft = TRY(draft_memory(options));
  if (bytes > draft) return bytes - draft;
  return fail(Code::kLimit, "{} of memory are too few: the draft model alone takes {}; leave --draft out",
              human_bytes(bytes), human_bytes(draft));
}

Result<Model> load_path(const ModelOptions& options, const Store& store, const std::filesystem::path& path,
                        const std::string& label, std::shared_ptr<Backend> backend = nullptr) {
  const int n_threads = options.n_threads > 0 ? options.n_threads : TRY(thread_count_from_environment());
  if (!backend) backend = TRY(make_backend(options));
  const auto cache = options.no_cache ? std::nullopt : open_cache(store);
  TRY(check_chain(options));
  MemoryBound bound{.bytes = has_chain(options) ? 0 : TRY(bound_bytes(options)),
                    .wish = {.context = 0, .parallel = options.parallel, .kv_types = TRY(kv_types_for(options))}};
  // With stages there is only embedding and head here.
  const auto layers = has_chain(options) ? std::optional(LayerRange{0, 0}) : std::nullopt;
  Model model = TRY(load_model(path, std::move(backend),
                               {.layers = layers,
                                .context = options.context,
                                .rows_max = 0,
                                .progress = progress("loading " + label),
                                .bits = options.precision == "4" ? 4 : 8,
                                .adapter_rank_max = options.adapters.empty() ? 0 : kAdapterRankMax,
                                .experts = options.experts},
                               {.cache = cache ? &*cache : nullptr,
                                .n_threads = n_threads,
                                .progress = progress("importing " + label + " (once)")},
                               bound));
  if (model.weights && model.weights->plan().read_bytes > 0)
    fmt::print(stderr, "hearth: {} of memory: of {} of weights {} are read from disk for every token\n",
               human_bytes(bound.bytes), human_bytes(static_cast<uint64_t>(model.decoder->weight_bytes())),
               human_bytes(model.weights->plan().read_bytes));
  return model;
}

}  // namespace

Result<Model> load(const ModelOptions& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model));
  return load_path(options, store, path, short_name(options));
}

Result<std::optional<Model>> load_draft(const ModelOptions& options, const Model& model, bool skip_others) {
  if (options.draft.empty() || options.draft == kSelfDraft) return std::nullopt;
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.draft));
  ModelOptions own = options;
  own.context = model.decoder->context();
  own.adapters.clear();
  own.stages.clear(), own.spares.clear(), own.head.clear();
  own.own_layers = 0;
  own.precision = "8";
  own.memory.clear(), own.memory_bytes = 0;  // it was set aside
  own.draft.clear();
  auto draft = load_path(own, store, path, path.filename().string(), model.backend);
  if (!draft) return within("--draft", draft.error());
  const auto fits = DraftModel::check_fits(*draft, model);
  if (fits) return std::optional(std::move(*draft));
  if (!skip_others) return within("--draft", fits.error());
  LOG(kWarning, "{} is run without --draft: {}", model.checkpoint->path().filename().string(), fits.error().message);
  return std::nullopt;
}

namespace {

// NAME and FILE.
Result<std::pair<std::string, std::string>> read_adapter_option(const std::string& given) {
  const size_t equals = given.find('=');
  if (equals == 0 || equals == std::string::npos)
    return fail(Code::kInvalidArgument, "--adapter {}: want NAME=FILE", given);
  return std::pair(given.substr(0, equals), given.substr(equals + 1));
}

}  // namespace

Result<std::map<std::string, std::string>> adapter_families(const ModelOptions& options) {
  std::map<std::string, std::string> families;
  for (const std::string& given : options.adapters) {
    const auto [name, file] = TRY(read_adapter_option(given));
    const Checkpoint checkpoint = TRY(open_checkpoint(file));
    if (!families.emplace(name, checkpoint.metadata().find<std::string>("general.architecture").value_or("")).second)
      return fail(Code::kInvalidArgument, "--adapter {}: there is another one of this name", given);
  }
  return families;
}

Result<KvType> kv_type_for(const Model& model, const ModelOptions& options) {
  if (model.fit && model.fit->kv_type != KvType::kF16) return model.fit->kv_type;
  const auto cache = options.no_cache ? std::nullopt : open_cache(TRY(open_store()));
  const KvGateOptions gate{
      .open = options.kv_gate == "off",
      .memory = cache ? cache->notes(model.checkpoint->path()) : std::filesystem::path(),
      .tell = [](const std::string& what) { fmt::print(stderr, "hearth: {}\n", what); },
  };
  return choose_kv_type(model, options.kv_type, gate);
}

Result<Adapters> load_adapters(const ModelOptions& options, const Model& model, bool skip_others) {
  Adapters adapters;
  for (const std::string& given : options.adapters) {
    const auto [name, file] = TRY(read_adapter_option(given));
    auto adapter = Adapter::load(file, *model.checkpoint, *model.decoder, *model.backend);
    if (adapter)
      adapters.emplace_back(name, std::move(*adapter));
    else if (skip_others && adapter.error().code == Code::kUnsupported)
      LOG(kWarning, "{}", adapter.error().message);
    else
      return std::unexpected(adapter.error());
  }
  return adapters;
}

namespace {

// What of a model is here when its layers are elsewhere.
int64_t ends_bytes(const Checkpoint& checkpoint) {
  uint64_t bytes = 0;
  for (const TensorRef& tensor : checkpoint.tensors())
    if (layer_of(tensor.name) < 0 && !tensor.name.starts_with("model.layers.")) bytes += tensor.stored_bytes();
  return static_cast<int64_t>(bytes);
}

}  // namespace

Result<ModelLoader> model_loader(const ModelOptions& options, const EngineOptions& engine) {
  TRY(drafts_max(options));  // before a model is loaded for nothing
  const Store store = TRY(open_store());
  auto planned = [options, engine](const ModelSource& source) -> Result<int64_t> {
    const Checkpoint checkpoint = TRY(open_checkpoint(source.path));
    const std::unique_ptr<Backend> backend = TRY(make_backend(options));
    const MemoryPlan plan = TRY(plan_memory(checkpoint, *backend, options.context, engine.kv_type, engine.parallel));
    if (has_chain(options)) return ends_bytes(checkpoint);
    return static_cast<int64_t>(plan.weight_bytes + plan.kv_bytes);
  };
  auto load = [options, engine, store](const ModelSource& source,
                                       uint64_t process_bytes) -> Result<std::unique_ptr<LoadedModel>> {
    ModelOptions bounded = options;
    bounded.memory_bytes = process_bytes;
    auto loaded = std::make_unique<LoadedModel>();
    if (TRY(model_details(source.path)).embedding) {
      std::unique_ptr<Backend> backend = TRY(make_backend(options));
      loaded->encoder = TRY(Encoder::load(source.path, std::move(backend)));
      return loaded;
    }
    Model model = TRY(load_path(bounded, store, source.path, source.name));
    loaded->adapters = TRY(load_adapters(options, model, true));
    loaded->memory_bytes = model.decoder->scratch_bytes();
    for (const auto& [name, adapter] : loaded->adapters) loaded->memory_bytes += adapter->memory_bytes();
    EngineOptions own = engine;
    set_state_options(own, model, state_digest(options, source.path, source.digest));
    own.may_switch_precision = may_switch_precision(options);
    own.drafts_max = TRY(drafts_max(options));
    own.kv_type = TRY(kv_type_for(model, options));
    TRY(use_machines(options, model, own));
    if (!own.chain && !own.head) TRY(set_exits(options, model, true, own));
    if (options.settle_cores && !own.chain) TRY(options.settle_cores(model, own.kv_type));
    std::optional<Model> draft = TRY(load_draft(bounded, model, true));
    loaded->engine = TRY(Engine::create(std::move(model), own, std::move(draft)));
    loaded->memory_bytes += loaded->engine->draft_bytes();
    const EngineStats stats = loaded->engine->stats();
    loaded->memory_bytes += loaded->engine->model().decoder->weight_bytes();
    if (!has_chain(options)) loaded->memory_bytes += stats.kv_positions_max * stats.kv_position_bytes;
    return loaded;
  };
  return ModelLoader{.planned_bytes = std::move(planned), .load = std::move(load)};
}

}  // namespace hearth::cli
