// The server: takes requests in, sees who asks, finds the route, and tells what became of it.
#pragma once

#include <atomic>
#include <boost/json/object.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/metrics.h"
#include "engine/catalog.h"
#include "engine/chain.h"
#include "engine/memory_keeper.h"
#include "net/http_server.h"
#include "serve/access.h"
#include "serve/batch_runner.h"
#include "serve/doors.h"
#include "serve/route.h"
#include "serve/traces.h"
#include "vault/key.h"

namespace hearth::serve {

enum class LogForm : uint8_t { kOff, kText, kJson };

// How far a model that is fetched for a client is.
struct PullProgress {
  std::string file, sha256;  // the digest is empty where it is not known before
  uint64_t bytes = 0;
  std::optional<uint64_t> total;
};
// Fetches a model, named as `hearth pull` takes names of the hub, into the store; blocks. Setting `cancelled` ends it.
using ModelPuller = std::function<Result<void>(const std::string& name, const std::atomic<bool>& cancelled,
                                               const std::function<void(const PullProgress&)>& progress)>;

// Where conversations are saved, and the key that seals them.
struct SessionPlace {
  std::filesystem::path folder;
  Key key;
};

struct ServerOptions {
  HttpServerOptions http;
  AccessOptions access;
  std::string version;
  std::string default_model;  // for requests that name none; empty: they have to
  MemoryKeeperOptions memory;
  ModelPuller pull;           // for administrators; null: nothing is fetched
  int batch_parallel = 4;     // lines of batches at once
  bool vllm_metrics = false;  // also under vLLM's names
  std::string otlp_endpoint;  // of a collector for traces, as http://host:4318; empty: none are made
  // What the power governor does, as JSON and in figures; empty: there is none.
  std::function<boost::json::object()> power_state;
  std::function<void(Exposition&)> power_metrics;
  // A smaller model that answers while `wants_smaller_model` says so; empty: there is none.
  std::string smaller_model;
  std::function<bool()> wants_smaller_model;
  std::optional<SessionPlace> sessions;  // empty: none are saved
  std::optional<DoorOptions> doors{};    // empty: all is answered here
  // Who is in the site, as `hearth cluster top --json` has it; an empty object, or no function: this server is in none.
  std::function<boost::json::object()> site;
  LogForm log_form = LogForm::kText;
  // Called on a worker for each request that was answered: a line without line end. Empty: none is written.
  std::function<void(std::string_view)> log;
};

class Server {
 public:
  // `journal`: of batches, whose work begins at once; null: there are none.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, std::unique_ptr<Catalog> catalog,
                                               std::unique_ptr<BatchJournal> journal = nullptr);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] Catalog& catalog() { return *catalog_; }
  [[nodiscard]] MemoryKeeper& memory() { return memory_; }
  [[nodiscard]] BatchRunner* batches() { return batches_.get(); }
  [[nodiscard]] Doors* doors() { return doors_.get(); }  // null: there are none
  // By model, what the chains of those tell whose layers are on other machines.
  [[nodiscard]] std::vector<std::pair<std::string, ChainStats>> chains() const;
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] const ServerOptions& options() const { return options_; }
  [[nodiscard]] const std::vector<uint16_t>& ports() const { return http_->ports(); }
  [[nodiscard]] int connections() const { return http_->connections(); }
  [[nodiscard]] bool responds(std::chrono::milliseconds patience) const { return http_->responds(patience); }
  [[nodiscard]] uint64_t dropped_traces() const { return traces_ ? traces_->dropped() : 0; }
  [[nodiscard]] std::chrono::system_clock::time_point started() const { return started_; }

  // The next requests see the keys and certificate as they are now.
  Result<void> reload(std::shared_ptr<TlsContext> tls);
  // No more requests; false if some were still running after this time.
  bool drain(std::chrono::milliseconds patience);
  [[nodiscard]] bool draining() const { return draining_; }

 private:
  Server(ServerOptions options, std::unique_ptr<Catalog> catalog, std::unique_ptr<AccessGuard> access);
  void handle(std::shared_ptr<HttpExchange> exchange);
  void finished(const RouteCall& call, const HttpOutcome& outcome, bool counted);

  ServerOptions options_;
  std::unique_ptr<Catalog> catalog_;
  MemoryKeeper memory_;
  std::unique_ptr<AccessGuard> access_;
  std::unique_ptr<TraceExporter> traces_;  // null: none are wanted
  Metrics metrics_;
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  std::atomic<bool> draining_{false};
  std::unique_ptr<BatchRunner> batches_;
  std::unique_ptr<Doors> doors_;
  std::unique_ptr<HttpServer> http_;  // last: its workers use all of the above
};

}  // namespace hearth::serve
