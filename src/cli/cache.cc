#include <fmt/chrono.h>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <memory>

#include "base/limits.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "model/pack.h"
#include "text/utf8.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string action = "list", limit;
  bool json = false;
};

// What a pack was made from, for people.
std::string model_of(const CachedPack& cached) {
  const auto file = MappedFile::open(cached.path);
  const auto pack = file ? parse_pack(file->bytes()) : std::unexpected(file.error());
  return pack ? with_replacement(pack->manifest.model) : "(unreadable)";
}

void print(const PackCache& cache, bool json) {
  const std::vector<CachedPack> packs = cache.list();
  uint64_t total = 0;
  boost::json::array list;
  std::vector<std::vector<std::string>> rows{{"MODEL", "SIZE", "LAST USED", "SOURCE SHA-256"}};
  for (const CachedPack& pack : packs) {
    const std::string model = model_of(pack), used = fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(pack.last_use));
    total += pack.bytes;
    rows.push_back({model, human_bytes(pack.bytes), pack.in_use ? "now" : used, pack.source_sha256.substr(0, 12)});
    list.push_back({{"model", model},
                    {"path", pack.path.string()},
                    {"bytes", pack.bytes},
                    {"last_use", pack.last_use},
                    {"in_use", pack.in_use},
                    {"source_sha256", pack.source_sha256}});
  }
  if (json) {
    const boost::json::object out{{"folder", cache.folder().string()},
                                  {"limit_bytes", cache.limit_bytes()},
                                  {"bytes", total},
                                  {"packs", std::move(list)}};
    fmt::print("{}\n", boost::json::serialize(out));
    return;
  }
  if (!packs.empty()) fmt::print("{}", table(rows));
  fmt::print(stderr, "{} of at most {} in {}\n", human_bytes(total), human_bytes(cache.limit_bytes()),
             cache.folder().string());
}

Result<void> cache(const Options& options) {
  const Store store = TRY(open_store());
  const PackCache packs = TRY(PackCache::open(store.root() / "packs", store.models()));
  if (!options.limit.empty()) {
    const uint64_t limit = TRY(parse_size("--limit", options.limit));
    TRY(packs.set_limit(limit));
  }
  const uint64_t deleted = options.action == "clear" ? packs.shrink_to(0) : packs.keep_limit();
  if (deleted > 0) fmt::print(stderr, "Deleted {} of packs; they are made again when needed.\n", human_bytes(deleted));
  print(packs, options.json);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action, "list, or clear: delete all packs that are not in use")
      ->check(CLI::IsMember({"list", "clear"}))
      ->capture_default_str();
  app.add_option("--limit", options->limit,
                 "Bytes that packs may take from now on, for instance 10G (default: a quarter of the disk)");
  app.add_flag(
      "--json", options->json,
      "Print JSON: {folder, limit_bytes, bytes, packs: [{model, path, bytes, last_use, in_use, source_sha256}]}");
  return [options] { return cache(*options); };
}

}  // namespace

extern const Command kCache;
const Command kCache{"cache", "list, limit or clear the packs that models are mapped from",
                     "  hearth cache\n  hearth cache --limit 10G\n  hearth cache clear", declare};

}  // namespace hearth::cli
