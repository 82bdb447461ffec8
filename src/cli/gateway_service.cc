#include "cli/gateway_service.h"

#include "cli/settings.h"

namespace hearth::cli {

std::filesystem::path gateway_folder(const GatewayFlags& flags) {
  return flags.folder.empty() ? home_folder() / "gateway" : std::filesystem::path(flags.folder);
}

Result<std::unique_ptr<GatewayService>> GatewayService::start(const GatewayFlags& flags) {
  std::unique_ptr<GatewayService> service(
      new GatewayService(TRY(gateway::Gateway::start({.profile = flags.config,
                                                      .folder = gateway_folder(flags),
                                                      .server = flags.serve,
                                                      .key = environment("HEARTH_API_KEY")}))));
  gateway::DoorOptions door;
  TRY(secure(flags.security, door.http));
  door.key_file = key_file(flags.security);
  service->door_ = TRY(gateway::Door::open(*service->running_, std::move(door)));
  for (size_t i = 0; i < service->door_->ports().size(); ++i)
    fmt::print(stderr, "Gateway listening on {} (port {})\n", flags.security.listen[i], service->door_->ports()[i]);
  fmt::print(stderr, "{}\n", flags.serve.empty() ? "No model: rules decide alone." : "Asking " + flags.serve);
  return service;
}

void GatewayService::reload() {
  const auto done = running_->reload();
  fmt::print(stderr, "{}\n", done ? "The profile was read again." : "Nothing changed: " + done.error().message);
}

}  // namespace hearth::cli
