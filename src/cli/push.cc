#include "cluster/push.h"

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <memory>

#include "cli/chain_options.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "cluster/site.h"
#include "model/open_cached.h"

namespace hearth::cli {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> to;
  bool json = false;
};

// The model's pack, made if there is none.
Result<std::filesystem::path> pack_of(const ModelOptions& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options));
  const auto cache = open_cache(store);
  if (!cache)
    return fail(Code::kIo, "{}: what is pushed is the model's pack, and none can be kept", store.root().string());
  const PackOptions packs{.cache = &*cache, .n_threads = TRY(thread_count_from_environment())};
  const auto pack = TRY(open_cached(path, *backend, packs, false));
  return pack ? pack->path() : path;
}

Result<void> run(const Options& options) {
  std::vector<ListenAddress> nodes;
  for (const std::string& given : options.to) nodes.push_back(TRY(parse_listen_address(given)));
  const std::shared_ptr<SiteTls> tls = TRY(cluster::open_site(site_folder()));
  const std::filesystem::path pack = TRY(pack_of(options.model));
  cluster::PushStats pushed;
  {
    ProgressLine line(fmt::format("{} to {} machines", short_name(options.model), nodes.size()));
    const auto begun = std::chrono::steady_clock::now();
    const auto progress = [&](uint64_t sent, uint64_t all) {
      const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
      line.update(sent, all, static_cast<double>(sent) / std::max(passed, 1e-3));
    };
    pushed = TRY(cluster::push_pack(pack, *tls, nodes, progress));
  }
  if (options.json)
    fmt::print("{}\n", boost::json::serialize(boost::json::object{{"model", short_name(options.model)},
                                                                  {"machines", options.to.size()},
                                                                  {"pack_bytes", pushed.pack_bytes},
                                                                  {"sent_bytes", pushed.sent_bytes}}));
  fmt::print(stderr, "{} machines have all {} of {}; {} left this one.\n", nodes.size(), human_bytes(pushed.pack_bytes),
             short_name(options.model), human_bytes(pushed.sent_bytes));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model.model, "Name in the store, .gguf file or pack")->required();
  app.add_option("NODE", options->to, "HOST:PORT of machines that run `hearth node`")->required();
  app.add_flag("--json", options->json,
               "Afterwards one object on stdout: bytes of the pack, and bytes that left this machine");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kPush;
const Command kPush{"push", "bring a model to other machines of the site before they need it",
                    "  hearth push default 10.0.0.2:7950 10.0.0.3:7950 10.0.0.4:7950   # each byte leaves once",
                    declare};

}  // namespace hearth::cli
