// One request of a client and the way to answer it, as a handler sees it. Whole answers or streams.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hearth {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// What a client asked. Names of headers are in lower case; path and query are as sent (percent-encoded).
struct HttpRequest {
  std::string method, path, query, body;
  HttpHeaders headers;
  std::string peer;  // the client's address without port, "unix" for a local socket
  std::string host;  // the Host header, or the authority of an absolute target
  bool tls = false;
  bool local = false;  // it came in on an address that only this machine can reach
  bool door = false;   // on one that is for machines of the site

  // The first header of that name (lower case); empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

// What became of an exchange.
struct HttpOutcome {
  int status = 0;            // 0: nothing was answered
  uint64_t bytes = 0;        // of the answer, headers included
  bool client_gone = false;  // before the last byte had gone out
};

// Any thread may call any of it; calls after the end, or after the client has gone, do nothing. If the last reference goes
// before an answer was begun, the client gets 500; if it goes before end(), the connection is cut, so that the client
// sees that something is missing.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  [[nodiscard]] virtual const HttpRequest& request() const = 0;

  // A header of whatever answer is given.
  virtual void add_header(std::string name, std::string value) = 0;
  // A whole answer. Header values with control characters are left out.
  virtual void reply(int status, std::string_view content_type, std::string body, HttpHeaders headers) = 0;
  void reply(int status, std::string_view content_type, std::string body) {
    reply(status, content_type, std::move(body), {});
  }

  // A stream: begin, any number of writes, end. write() never waits: it is false when the client has gone, or reads so
  // slowly that its buffer (HttpServerOptions::stream_buffer_bytes) is full, which cuts the connection.
  virtual void begin(int status, std::string_view content_type, HttpHeaders headers) = 0;
  void begin(int status, std::string_view content_type) { begin(status, content_type, {}); }
  virtual bool write(std::string bytes) = 0;
  virtual void end() = 0;

  // Called at most once, from any thread, if the client goes before the answer is complete; at once if it has gone already.
  // May only enqueue.
  virtual void on_gone(std::function<void()> gone) = 0;
  // Called once on a worker after the last byte has gone out or the client has gone. May not hold the exchange itself.
  virtual void on_done(std::function<void(const HttpOutcome&)> done) = 0;
  // Runs on a worker, in order with what else was posted to this exchange. Dropped when the server is closed.
  virtual void post(std::function<void()> job) = 0;
  // For a handler or job that has to wait (for a model to load, say): runs `wait` at once, on the calling worker, while other
  // workers keep the server answering.
  virtual void run_waiting(const std::function<void()>& wait) { wait(); }
};

}  // namespace hearth
