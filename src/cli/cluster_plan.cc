#include "cli/cluster_plan.h"

#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "cluster/planner.h"
#include "model/arch/all.h"
#include "model/memory_plan.h"
#include "model/open_cached.h"
#include "model/pack.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;
using cluster::PlannedChain;
using cluster::PlannerMachine;
using cluster::PlannerModel;

// `missing`: what it is where it is not said; without, it has to be.
Result<double> number(const json::object& machine, std::string_view field, std::string_view where,
                      std::optional<double> missing = {}) {
  const json::value* value = machine.if_contains(field);
  if (!value && missing) return *missing;
  const bool is_number = value && value->is_number();
  const double given = is_number ? value->to_number<double>() : -1;
  if (!is_number || !(given >= 0))
    return fail(Code::kMalformed, "{}: \"{}\" has to be a number, not below 0", where, field);
  return given;
}

Result<bool> flag(const json::object& machine, std::string_view field, std::string_view where) {
  const json::value* value = machine.if_contains(field);
  if (value && !value->is_bool()) return fail(Code::kMalformed, "{}: \"{}\" has to be true or false", where, field);
  return value && value->get_bool();
}

Result<PlannerMachine> read_machine(const json::value& value, std::string_view file, size_t index) {
  const std::string where = fmt::format("{}: machine {}", file, index);
  const json::object* machine = value.if_object();
  const json::value* name = machine ? machine->if_contains("name") : nullptr;
  const json::value* memory = machine ? machine->if_contains("memory") : nullptr;
  if (!name || !name->is_string() || !memory || !memory->is_string())
    return fail(Code::kMalformed, "{}: want \"name\": TEXT and \"memory\": \"2GiB\"", where);
  PlannerMachine made{.name = std::string(name->get_string())};
  made.memory_bytes = TRY(parse_size(where, std::string_view(memory->get_string())));
  made.bytes_per_second = 1e9 * TRY(number(*machine, "gigabytes_per_second", where));
  made.prompt_bytes_per_second = 1e9 * TRY(number(*machine, "prompt_gigabytes_per_second", where, 0));
  made.disk_bytes_per_second = 1e9 * TRY(number(*machine, "disk_gigabytes_per_second", where, 0));
  made.link_seconds = 1e-3 * TRY(number(*machine, "latency_ms", where));
  made.link_bytes_per_second = 1e6 / 8 * TRY(number(*machine, "megabits_per_second", where));
  made.battery = TRY(flag(*machine, "battery", where));
  made.cloud = TRY(flag(*machine, "cloud", where));
  return made;
}

// The owner first.
Result<std::vector<PlannerMachine>> read_machines(const std::string& path) {
  const std::string text = TRY(read_file(path, limits::kManifestBytes));
  const auto parsed = parse_json(text);
  if (!parsed) return within(path, parsed.error());
  const json::object* whole = parsed->if_object();
  const json::value* list = whole ? whole->if_contains("machines") : nullptr;
  if (!list || !list->is_array() || list->get_array().empty() || list->get_array().size() > limits::kStages)
    return fail(Code::kMalformed, "{}: want {{\"machines\": [...]}} with 1 to {} machines, the owner first", path,
                limits::kStages);
  std::vector<PlannerMachine> machines;
  for (const json::value& each : list->get_array()) machines.push_back(TRY(read_machine(each, path, machines.size())));
  return machines;
}

Result<PlannerModel> measure_model(const ClusterPlanOptions& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  const Family* family = TRY(find_family(checkpoint));
  const DecoderConfig config = TRY(family->configure(ModelKeys(checkpoint)));
  TRY(check(config));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const KvType kv_type = TRY(parse_kv_type(options.model.kv_type));
  const int context = TRY(plan_memory(checkpoint, *backend, options.model.context, kv_type)).context;
  return planner_model(checkpoint, config, *backend,
                       {.context = context, .kv_type = kv_type, .streams = options.streams});
}

void print(const PlannedChain& planned, const std::vector<PlannerMachine>& machines, int n_layers,
           uint64_t head_bytes) {
  std::vector<std::vector<std::string>> rows{{"machine", "layers", "memory", "of"}};
  rows.push_back(
      {machines[0].name + " (owner)",
       fmt::format("{}embedding{}", planned.plan.own_end > 0 ? fmt::format("0-{}, ", planned.plan.own_end) : "",
                   planned.head == 0 ? ", head" : ""),
       human_memory(planned.bytes[0]), human_memory(machines[0].memory_bytes)});
  for (size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const auto& [node, layers] = planned.plan.stages[i];
    const PlannerMachine& machine = machines[static_cast<size_t>(node)];
    rows.push_back({machine.name, fmt::format("{}-{}", layers.first, layers.end), human_memory(planned.bytes[i + 1]),
                    human_memory(machine.memory_bytes)});
  }
  if (planned.head > 0) {
    const PlannerMachine& machine = machines[static_cast<size_t>(planned.head)];
    rows.push_back({machine.name, "head", human_memory(head_bytes), human_memory(machine.memory_bytes)});
  }
  fmt::print("{}", table(rows));
  fmt::print("{:.1f} ms a token, {:.0f} ms the prompt, {:.1f} tokens/s together, of {} layers\n",
             1e3 * planned.token_seconds, 1e3 * planned.prompt_seconds, planned.tokens_per_second, n_layers);
  if (planned.streamed_bytes > 0)
    fmt::print("{} of the weights are read from the disk for every token (hearth run --memory {}MiB)\n",
               human_memory(planned.streamed_bytes), planned.bytes[0] >> 20);
  if (planned.replicas.size() > 1) {
    std::string names;
    for (const int i : planned.replicas)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", machines[static_cast<size_t>(i)].name);
    fmt::print("{} have room for all of it: with a server on each (docs/doors.md) {:.1f} tokens/s{}\n", names,
               planned.replicas_tokens_per_second,
               planned.replicas_tokens_per_second > planned.tokens_per_second ? ", which is better" : "");
  }
  if (planned.alone_fits)
    fmt::print(
        "{} alone: {:.1f} tokens/s{}\n", machines[0].name, planned.alone_tokens_per_second,
        planned.plan.stages.empty() && planned.head == 0 ? ", and no chain is enough better to be worth it" : "");
  else
    fmt::print("{} alone has too little memory{}\n", machines[0].name,
               planned.alone_tokens_per_second > 0 && planned.streamed_bytes == 0
                   ? fmt::format("; from its disk it would do {:.2f} tokens/s", planned.alone_tokens_per_second)
                   : "");
}

}  // namespace

PlannerModel planner_model(const Checkpoint& checkpoint, const DecoderConfig& config, const Backend& backend,
                           const PlannerUse& use) {
  const auto pages = static_cast<uint64_t>((use.context + kKvPagePositions - 1) / kKvPagePositions);
  PlannerModel model{.layers = std::vector<cluster::PlannerLayer>(config.layers.size()),
                     .row_bytes = static_cast<uint64_t>(config.d_model) * sizeof(float)};
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const int index = layer_of(tensor.name);
    const bool in_layer = index >= 0 && index < config.n_layers();
    cluster::PlannerLayer& place = in_layer ? model.layers[static_cast<size_t>(index)] : model.ends;
    const uint64_t bytes = tensor.stored_bytes();
    const bool experts = in_layer && tensor.name.contains("_exps.");
    const int n_experts = experts ? config.layers[static_cast<size_t>(index)].n_experts : 0;
    place.bytes += bytes;
    place.token_bytes +=
        n_experts > 0 ? bytes / static_cast<uint64_t>(n_experts) * static_cast<uint64_t>(config.n_experts_used) : bytes;
  }
  const auto bytes_of = [&](std::string_view name, std::string_view other) {
    const TensorRef* tensor = checkpoint.find_tensor(name);
    if (!tensor) tensor = checkpoint.find_tensor(other);
    return tensor ? tensor->stored_bytes() : 0;
  };
  const uint64_t embedding = bytes_of("token_embd.weight", "model.embed_tokens.weight"),
                 head = bytes_of("output.weight", "lm_head.weight");
  // The embedding is the head where there is no other; else a token reads a row of it.
  model.head.bytes = model.head.token_bytes = head > 0 ? head : embedding;
  if (head > 0) model.ends.token_bytes -= embedding;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    DecoderConfig one = config;
    one.layers = {config.layers[i]};
    model.layers[i].bytes += static_cast<uint64_t>(use.streams) * pages *
                             static_cast<uint64_t>(SequenceStore::page_bytes(backend, one, use.kv_type));
  }
  return model;
}

Result<void> plan_cluster(const ClusterPlanOptions& options) {
  const std::vector<PlannerMachine> machines = TRY(read_machines(options.machines));
  const PlannerModel model = TRY(measure_model(options));
  const PlannedChain planned = TRY(cluster::plan_chain(model, machines,
                                                       {.streams = options.streams,
                                                        .prompt_rows = options.prompt_rows,
                                                        .answer_tokens = options.answer_tokens,
                                                        .cloud = options.cloud}));
  if (!options.json) {
    print(planned, machines, static_cast<int>(model.layers.size()), model.head.bytes);
    return {};
  }
  json::array stages;
  for (const auto& [node, layers] : planned.plan.stages)
    stages.push_back({{"machine", machines[static_cast<size_t>(node)].name},
                      {"first_layer", layers.first},
                      {"end_layer", layers.end}});
  json::array replicas;
  for (const int i : planned.replicas) replicas.emplace_back(machines[static_cast<size_t>(i)].name);
  json::object out{{"own_layers", planned.plan.own_end},
                   {"stages", std::move(stages)},
                   {"head", machines[static_cast<size_t>(planned.head)].name},
                   {"token_seconds", planned.token_seconds},
                   {"prompt_seconds", planned.prompt_seconds},
                   {"streamed_bytes", planned.streamed_bytes},
                   {"replicas", std::move(replicas)},
                   {"replicas_tokens_per_second", planned.replicas_tokens_per_second},
                   {"tokens_per_second", planned.tokens_per_second},
                   {"alone_fits", planned.alone_fits}};
  if (planned.alone_tokens_per_second > 0) out["alone_tokens_per_second"] = planned.alone_tokens_per_second;
  fmt::print("{}\n", json::serialize(out));
  return {};
}

}  // namespace hearth::cli
