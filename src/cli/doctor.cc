#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "base/file_io.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "net/http_transfer.h"

namespace hearth::cli {
namespace json = boost::json;
namespace {

#if defined(__clang__)
constexpr std::string_view kCompiler = "clang " __clang_version__;
#else
constexpr std::string_view kCompiler = "gcc " __VERSION__;
#endif

struct StoreState {
  std::string root;
  size_t models = 0;
  uint64_t bytes = 0, free_bytes = 0;
};

// Everything doctor says, gathered once for both forms of output.
struct Report {
  Machine machine;
  std::vector<std::string> isas;                              // that this machine can run, slowest first
  std::vector<std::pair<std::string, std::string>> backends;  // name, description or error
  int n_threads = 0;
  StoreState store;
  std::vector<std::string> problems;
};

void look_at_store(Report& report) {
  report.store.root = home_folder().string();
  auto store = open_store();
  if (!store) return report.problems.push_back(store.error().message);
  report.store.free_bytes = free_disk_bytes(store->root()).value_or(0);
  auto models = store->list();
  if (!models) return report.problems.push_back(models.error().message);
  report.store.models = models->size();
  for (const Manifest& model : *models) report.store.bytes += model.bytes();
}

Report examine() {
  Report report;
  report.machine = probe_machine();
  for (const cpu::Kernels* kernels : cpu::all_kernels()) {
    if (kernels->supported()) report.isas.emplace_back(kernels->isa);
  }
  const auto threads = thread_count_from_environment();
  if (!threads) report.problems.push_back(threads.error().message);
  report.n_threads = threads.value_or(1);
  for (const BackendInfo& info : all_backends()) {
    auto backend = info.create({.n_threads = report.n_threads, .isa = isa_from_environment()});
    report.backends.emplace_back(info.name, backend ? (*backend)->describe() : backend.error().message);
    if (!backend) report.problems.push_back(fmt::format("backend {}: {}", info.name, backend.error().message));
  }
  look_at_store(report);
  return report;
}

json::array texts(const std::vector<std::string>& from) {
  json::array array;
  for (const std::string& text : from) array.emplace_back(text);
  return array;
}

std::string fmt_version() {
  return fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100);
}

std::string to_json(const Report& report) {
  const Machine& machine = report.machine;
  json::array caches, backends;
  for (const Cache& cache : machine.caches) {
    caches.push_back(json::object{{"level", cache.level}, {"kind", cache.kind}, {"bytes", cache.bytes}});
  }
  for (const auto& [name, text] : report.backends) backends.push_back(json::object{{"name", name}, {"state", text}});
  json::object memory{{"bytes", machine.memory_bytes}, {"available_bytes", machine.memory_available_bytes}};
  memory["limit_bytes"] = machine.memory_limit_bytes ? json::value(*machine.memory_limit_bytes) : json::value(nullptr);
  const json::object object{
      {"version", HEARTH_VERSION},
      {"processor", machine.processor},
      {"cores", machine.cores},
      {"threads", machine.threads},
      {"features", texts(machine.features)},
      {"caches", caches},
      {"memory", memory},
      {"huge_pages", machine.huge_pages},
      {"isas", texts(report.isas)},
      {"backends", backends},
      {"compute_threads", report.n_threads},
      {"compute_cores", machine.compute_cores},
      {"store", json::object{{"path", report.store.root},
                             {"models", report.store.models},
                             {"bytes", report.store.bytes},
                             {"free_bytes", report.store.free_bytes}}},
      {"libraries", json::object{{"compiler", kCompiler}, {"fmt", fmt_version()}, {"http", http_library_version()}}},
      {"problems", texts(report.problems)}};
  return json::serialize(object);
}

std::string cache_text(const Machine& machine) {
  std::vector<std::string> parts;
  for (const Cache& cache : machine.caches) {
    if (cache.kind != "Instruction") parts.push_back(fmt::format("L{} {}", cache.level, human_memory(cache.bytes)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

void print_text(const Report& report) {
  const Machine& machine = report.machine;
  std::vector<std::vector<std::string>> rows{{"hearth", HEARTH_VERSION}};
  rows.push_back(
      {"processor", fmt::format("{}, {} cores, {} threads", machine.processor.empty() ? "unnamed" : machine.processor,
                                machine.cores, machine.threads)});
  rows.push_back({"compute", fmt::format("{} threads on {}", report.n_threads, machine.compute_cores)});
  rows.push_back({"features", fmt::format("{}", fmt::join(machine.features, " "))});
  rows.push_back({"caches", cache_text(machine)});
  rows.push_back({"memory", fmt::format("{}, {} available", human_memory(machine.memory_bytes),
                                        human_memory(machine.memory_available_bytes))});
  rows.push_back({"memory limit", machine.memory_limit_bytes ? human_memory(*machine.memory_limit_bytes) : "none"});
  rows.push_back({"huge pages", machine.huge_pages.empty() ? "none" : machine.huge_pages});
  rows.push_back({"kernels", fmt::format("{}", fmt::join(report.isas, ", "))});
  for (const auto& [name, text] : report.backends) rows.push_back({"backend " + name, text});
  rows.push_back({"models", fmt::format("{} in {}, {}; {} free", report.store.models, report.store.root,
                                        human_bytes(report.store.bytes), human_bytes(report.store.free_bytes))});
  rows.push_back({"libraries", fmt::format("{}, fmt {}, {}", kCompiler, fmt_version(), http_library_version())});
  for (const std::string& problem : report.problems) rows.push_back({"PROBLEM", problem});
  fmt::print("{}", table(rows));
}

Result<void> doctor(bool as_json) {
  const Report report = examine();
  if (as_json) {
    fmt::print("{}\n", to_json(report));
  } else {
    print_text(report);
  }
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto as_json = std::make_shared<bool>(false);
  app.add_flag("--json", *as_json, "Print JSON");
  return [as_json] { return doctor(*as_json); };
}

}  // namespace

extern const Command kDoctor;
const Command kDoctor{"doctor", "show what this machine can do and what is enabled",
                      "  hearth doctor\n  hearth doctor --json", declare};

}  // namespace hearth::cli
