#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/serve_security.h"
#include "store/key_ring.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string action, name;
  SecurityOptions security;
  KeyRights rights;
  bool json = false;
};

std::string limit_text(int64_t limit) { return limit > 0 ? std::to_string(limit) : "-"; }

Result<void> list(const KeyRing& keys) {
  std::vector<std::vector<std::string>> rows{
      {"NAME", "CREATED", "MODELS", "REQUESTS/MIN", "TOKENS/MIN", "AT ONCE", "CLASS", "ADMIN"}};
  for (const KeyEntry& key : keys.entries()) {
    std::string models;
    for (const std::string& model : key.rights.models) models += (models.empty() ? "" : ",") + model;
    rows.push_back({key.name, key.created, models.empty() ? "all" : models, limit_text(key.rights.requests_per_minute),
                    limit_text(key.rights.tokens_per_minute), limit_text(key.rights.concurrent), key.rights.class_max,
                    key.rights.admin ? "yes" : "no"});
  }
  fmt::print("{}", table(rows));
  return {};
}

void list_json(const KeyRing& keys) {
  boost::json::array all;
  for (const KeyEntry& key : keys.entries())
    all.push_back({{"name", key.name},
                   {"created", key.created},
                   {"models", boost::json::array(key.rights.models.begin(), key.rights.models.end())},
                   {"requests_per_minute", key.rights.requests_per_minute},
                   {"tokens_per_minute", key.rights.tokens_per_minute},
                   {"concurrent", key.rights.concurrent},
                   {"class", key.rights.class_max},
                   {"admin", key.rights.admin}});
  fmt::print("{}\n", boost::json::serialize(all));
}

Result<void> run(const Options& options) {
  KeyRing keys = TRY(KeyRing::open(key_file(options.security)));
  if (options.action == "list" && options.json) return list_json(keys), Result<void>{};
  if (options.action == "list") return list(keys);
  if (options.name.empty()) return fail(Code::kInvalidArgument, "hearth key {} needs a NAME", options.action);
  if (options.action == "add") {
    const std::string key = TRY(keys.add(options.name, options.rights));
    fmt::print("{}\n",
               options.json ? boost::json::serialize(boost::json::object{{"name", options.name}, {"key", key}}) : key);
    fmt::print(stderr, "This key is shown only now. A running server takes it after: kill -HUP\n");
    return {};
  }
  TRY(keys.revoke(options.name));
  fmt::print(stderr, "Revoked {}. A running server notices after: kill -HUP\n", options.name);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action, "add, list or revoke")
      ->required()
      ->check(CLI::IsMember({"add", "list", "revoke"}));
  app.add_option("NAME", options->name, "Who the key is for; it appears in logs");
  app.add_option("--models", options->rights.models, "The models it may use (default: all)")->delimiter(',');
  app.add_option("--requests-per-minute", options->rights.requests_per_minute, "0: no limit")
      ->check(CLI::Range(0, 1 << 30));
  app.add_option("--tokens-per-minute", options->rights.tokens_per_minute, "Of prompts and answers; 0: no limit")
      ->check(CLI::Range(0, 1 << 30));
  app.add_option("--concurrent", options->rights.concurrent, "Requests at once; 0: no limit")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--class", options->rights.class_max,
                 "The highest class of its requests: realtime, interactive, batch")
      ->capture_default_str();
  app.add_flag("--admin", options->rights.admin, "May also pull and delete models, and read metrics");
  app.add_option("--key-file", options->security.key_file, "Instead of $HEARTH_HOME/serve/keys.json");
  app.add_flag("--json", options->json, "What is listed or added as JSON");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kKey;
const Command kKey{"key", "keys that clients of the server show",
                   "  hearth key add kitchen --models default --requests-per-minute 60\n"
                   "  hearth key add ops --admin\n  hearth key list\n  hearth key revoke kitchen",
                   declare};

}  // namespace hearth::cli
