// A gateway with its door, as `hearth gateway` runs it and `hearth serve --gateway` beside its models.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/serve_security.h"
#include "gateway/door.h"
#include "gateway/gateway.h"

namespace hearth::cli {

struct GatewayFlags {
  std::string config, folder;  // the profile; queue and audit, empty: gateway/ in Hearth's folder
  std::string serve;           // URL of the server whose model is asked; empty: rules alone
  SecurityOptions security{.listen = {"127.0.0.1:8090"}};
};

std::filesystem::path gateway_folder(const GatewayFlags& flags);

class GatewayService {
 public:
  // Says on stderr where it listens and whom it asks.
  static Result<std::unique_ptr<GatewayService>> start(const GatewayFlags& flags);
  // Reads the profile again, and says on stderr what came of it.
  void reload();

 private:
  explicit GatewayService(std::unique_ptr<gateway::Gateway> running) : running_(std::move(running)) {}
  std::unique_ptr<gateway::Gateway> running_;
  std::unique_ptr<gateway::Door> door_;
};

}  // namespace hearth::cli
