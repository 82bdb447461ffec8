// The gateway's HTTP door: a page for people, what it shows as JSON, metrics, and the two things that a person may do: confirm an action
// and say something.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/result.h"
#include "gateway/gateway.h"
#include "net/http_server.h"

namespace hearth::gateway {

struct DoorOptions {
  HttpServerOptions http;
  // Needed from everyone who does not come over an address that only this machine can reach; confirming takes the key of an
  // administrator then. Read once.
  std::filesystem::path key_file;
};

class Door {
 public:
  // `gateway` outlives it.
  static Result<std::unique_ptr<Door>> open(Gateway& gateway, DoorOptions options);
  [[nodiscard]] const std::vector<uint16_t>& ports() const { return server_->ports(); }

 private:
  Door() = default;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace hearth::gateway
