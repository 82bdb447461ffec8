// One connection of a server: requests in, answers out, in order. All of it on the loop's thread.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "net/http_reader.h"
#include "net/http_server.h"
#include "net/server_answer.h"

namespace hearth {

// What a connection needs of its server; outlives it.
struct HttpConnectionHost {
  HttpServerOptions options;
  HttpServer::Handler handler;
  std::shared_ptr<EventLoop> loop;
  std::shared_ptr<HttpWorkers> workers;
  bool draining = false;                                               // no request after the one that runs
  std::function<void(const class HttpConnection&)> connection_closed;  // the last thing a connection calls
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // Where it came in, as HttpRequest has it.
  struct Origin {
    bool local = false, door = false;
  };
  HttpConnection(HttpConnectionHost& host, std::shared_ptr<Socket> socket, Origin origin);
  void start();
  // At once; what runs is told that its client has gone.
  void close();
  // If nothing has been asked that is not answered.
  void close_if_idle();
  // Since when it waits for a request; empty while there is one.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> idle_since() const;
  [[nodiscard]] const Socket& socket() const { return *socket_; }

 private:
  enum class Phase { kIdle, kHead, kBody, kBusy, kClosing, kClosed };

  void enter(Phase phase);
  void time_out();
  void read();
  void take_input(size_t bytes);
  void take_end();
  void advance();
  void dispatch();
  void refuse(int status, std::string_view message);
  void flush();
  void write_out();
  void answered();
  void finish();

  HttpConnectionHost& host_;
  std::shared_ptr<Socket> socket_;
  Origin origin_;
  HttpReader reader_;
  Phase phase_ = Phase::kHead;
  std::chrono::steady_clock::time_point since_;
  std::unique_ptr<LoopTimer> read_timer_, write_timer_;
  std::array<char, 16 << 10> chunk_;
  std::string input_;                             // read, not yet taken by the reader
  bool reading_ = false, ended_ = false;          // a read runs; the client sends no more
  std::shared_ptr<ServerAnswer::Output> answer_;  // of the request that runs
  std::string out_;                               // on its way
  size_t out_sent_ = 0;
  bool writing_ = false, complete_ = false, close_after_ = false;
};

}  // namespace hearth
