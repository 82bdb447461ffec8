// An HTTP/1.1 server: one thread for all connections, a few that run handlers.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_exchange.h"
#include "net/http_reader.h"

namespace hearth {

struct HttpServerOptions {
  struct Listen {
    ListenAddress address;
    bool tls = false;
    // Only for machines of the site: HttpRequest::door. With `site` they have shown a certificate of its authority.
    bool door = false;
    std::shared_ptr<TlsContext> site = nullptr;
  };
  std::vector<Listen> listen;
  std::shared_ptr<TlsContext> tls;  // for those that want it
  HttpReaderLimits reader;
  int n_workers = 2;
  int connections_max = limits::kHttpConnections, connections_per_peer_max = limits::kHttpConnectionsPerPeer;
  uint64_t stream_buffer_bytes = limits::kHttpStreamBufferBytes;  // of a stream, not yet taken by its client
  std::chrono::milliseconds head_time{
      10'000};  // from the first byte of a request (or connecting) to the end of its headers
  std::chrono::milliseconds body_time{60'000};   // for the body
  std::chrono::milliseconds idle_time{75'000};   // between the requests of a connection
  std::chrono::milliseconds write_time{30'000};  // for the client to take each 64 KiB of an answer
};

// Answers that no handler sees (a request that breaks the form, or a limit) are plain text. Thread rule: any thread, but the
// destructor not from a handler.
class HttpServer {
 public:
  // Called on a worker for each complete request. What it throws becomes 500.
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;

  // kIo naming the address that cannot be had.
  static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, Handler handler);
  // Cuts what still runs; calls its on_gone.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The ports in the order of options.listen; 0 for local sockets.
  [[nodiscard]] const std::vector<uint16_t>& ports() const;
  // For connections from now on.
  void set_tls(std::shared_ptr<TlsContext> tls);
  [[nodiscard]] int connections() const;
  // Whether a request of now would reach its handler within this time.
  [[nodiscard]] bool responds(std::chrono::milliseconds patience) const;

  // Takes no more connections and requests; waits until every answer has gone out, at most so long. True if they have.
  bool drain(std::chrono::milliseconds patience);

 private:
  struct Core;
  explicit HttpServer(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace hearth
