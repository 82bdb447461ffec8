// A server among those of a site: which others there are, how requests may travel, and the cloud, as the command line says it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/model_catalog.h"
#include "cli/serve_security.h"
#include "power/governor.h"
#include "serve/server.h"

namespace CLI {
class App;
}

namespace hearth::cli {

struct DoorFlags {
  std::string listen;              // where other doors reach this one; empty: nowhere
  std::vector<std::string> peers;  // other doors
  bool insecure = false;
  std::string policy = "site";
  std::vector<std::string> limits;  // "key:NAME=POLICY"
  std::string cloud_url, cloud_model;
  std::filesystem::path cloud_key_file;
  int64_t cloud_budget = 0;
  double cloud_timeout = 30;
};

void declare_door_options(CLI::App& app, DoorFlags& flags);
// Sets what the flags say: ServerOptions::doors, and the address for other doors. Nothing without flags. After secure(). `found`: doors
// that the site's bus knows; those that the flags name come before.
Result<void> open_doors(const DoorFlags& flags, const ModelCatalogOptions& catalog,
                        const std::shared_ptr<power::Governor>& governor,
                        std::function<std::vector<std::string>()> found, serve::ServerOptions& server);

}  // namespace hearth::cli
