#include "cli/settings.h"

#include <charconv>
#include <cstdlib>

#include "base/topology.h"

namespace hearth::cli {
namespace {
constexpr int kThreadsMax = 1024;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::filesystem::path home_folder() {
  if (const std::string home = environment("HEARTH_HOME"); !home.empty()) return home;
  if (const std::string data = environment("XDG_DATA_HOME"); data.starts_with('/'))
    return std::filesystem::path(data) / "hearth";
  if (const std::string user = environment("HOME"); !user.empty())
    return std::filesystem::path(user) / ".local/share/hearth";
  return {};
}

Result<Store> open_store() { return Store::open(home_folder()); }

std::optional<PackCache> open_cache(const Store& store) {
  auto cache = PackCache::open(store.root() / "packs", store.models());
  if (cache) return std::move(*cache);
  LOG(kWarning, "{}; models are laid out in memory each time", cache.error().message);
  return std::nullopt;
}

std::vector<OllamaStore> ollama_stores() {
  if (const std::string folder = environment("OLLAMA_MODELS"); !folder.empty()) return {OllamaStore(folder)};
  std::vector<OllamaStore> stores;
  if (const std::string user = environment("HOME"); !user.empty()) stores.emplace_back(user + "/.ollama/models");
  stores.emplace_back("/usr/share/ollama/.ollama/models");
  return stores;
}

Result<std::filesystem::path> model_path(const Store& store, std::string_view model) {
  auto path = store.resolve(model);
  if (path || path.error().code != Code::kNotFound) return path;
  for (const OllamaStore& ollama : ollama_stores()) {
    auto found = ollama.find(model);
    if (found) return found->path;
    if (found.error().code != Code::kNotFound) return std::unexpected(found.error());
  }
  return path;
}

Result<int> thread_count_from_environment() {
  const std::string text = environment("HEARTH_THREADS");
  if (text.empty()) return fast_cores().count;
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > kThreadsMax) {
    return fail(Code::kInvalidArgument, "HEARTH_THREADS={}: not a number from 1 to {}", text, kThreadsMax);
  }
  return count;
}

std::string isa_from_environment() { return environment("HEARTH_ISA"); }

Result<LogLevel> log_level_from_environment() {
  const std::string text = environment("HEARTH_LOG");
  if (text.empty() || text == "warning") return LogLevel::kWarning;
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "error") return LogLevel::kError;
  return fail(Code::kInvalidArgument, "HEARTH_LOG={}: not one of debug, info, warning, error", text);
}

}  // namespace hearth::cli
