// An HTTP server on a loopback port that serves one file per path, well or badly, so that tests can see what a client
// makes of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace hearth::test {

struct HttpRequest {
  std::string path;                            // with the query
  std::map<std::string, std::string> headers;  // names in lower case
  // First byte of a "Range: bytes=N-".
  [[nodiscard]] std::optional<uint64_t> range() const;
  [[nodiscard]] std::string header(const std::string& name) const;
};

// The open connection of one request; one request per connection.
class Connection {
 public:
  Connection(int fd, const std::atomic<bool>& stop) : fd_(fd), stop_(stop) {}
  // False once the client has gone.
  bool send(std::string_view bytes) const;
  // Sends nothing until the client goes or the server stops.
  void stall() const;
  // A status line, headers ("Name: value\r\n" each) and the empty line.
  bool head(int status, const std::string& headers) const;
  // An answer with a body that is complete and honest.
  void reply(int status, std::string_view body, const std::string& headers = "") const;

 private:
  int fd_;
  const std::atomic<bool>& stop_;
};

// How to serve a file.
struct FileFaults {
  std::string etag = "\"v1\"";        // empty: none
  std::optional<uint64_t> cut_after;  // bytes of body sent, then the connection is closed
  bool stall = false;                 // instead of closing at cut_after, hold it open
  bool ignore_range = false;          // 200 with everything, whatever was asked
  bool ignore_if_range = false;       // 206 even if the file has changed
  int64_t length_lie = 0;             // added to Content-Length
  int64_t range_lie = 0;              // added to the first byte a 206 claims and sends
  bool no_length = false;             // neither Content-Length nor chunks: the end of the connection is the end
};
// Serves `content` as a good server would, ranges included, but for the faults.
void serve_file(const HttpRequest& request, const Connection& connection, std::string_view content,
                const FileFaults& faults);

// Each connection has a thread. The handler may be called from several at once.
class FaultServer {
 public:
  using Handler = std::function<void(const HttpRequest&, const Connection&)>;
  explicit FaultServer(Handler handler);
  ~FaultServer();
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  [[nodiscard]] int port() const { return port_; }
  // "http://127.0.0.1:PORT" + path
  [[nodiscard]] std::string url(std::string_view path) const;
  // What has been asked so far.
  [[nodiscard]] std::vector<HttpRequest> requests() const;

 private:
  void accept_all();
  void serve(int fd);

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::vector<std::jthread> connections_;
  std::jthread acceptor_;
};

// Bytes that look random and are the same on every run.
std::string noise(size_t bytes, uint64_t seed);

}  // namespace hearth::test
