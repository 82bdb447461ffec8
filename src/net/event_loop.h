// One thread that waits for many connections. Behind it is Asio; nothing of that shows here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/tls.h"

namespace hearth {

// Where to listen: "HOST:PORT", "[V6]:PORT", ":PORT" (every address) or "unix:/path". Port 0 takes a free one.
struct ListenAddress {
  std::string text, host, unix_path;
  uint16_t port = 0;
  // Only this machine can connect.
  [[nodiscard]] bool loopback() const;
};
// kInvalidArgument if it is none of these.
Result<ListenAddress> parse_listen_address(std::string_view text);

// A connection. All of it on the loop's thread; callbacks come on it, too, never from within the call. After close() what
// was asked for ends with failure. Owned by shared_ptr; an operation under way keeps it alive.
class Socket {
 public:
  virtual ~Socket() = default;
  // At least one byte, or 0 when the other side has closed or something failed. One at a time.
  virtual void read_some(std::span<char> into, std::function<void(size_t)> done) = 0;
  // All of the bytes, which stay until `done`. One at a time; reading goes on meanwhile.
  virtual void write(std::string_view bytes, std::function<void(bool)> done) = 0;
  // After read_some gave 0: calls once the other side is gone for good. One that only sends no more is not, as far as can be
  // seen: an end shows when something sent to it is refused.
  virtual void when_lost(std::function<void()> lost) = 0;
  // The polite end: tells the other side that nothing more comes and drops what it still sends (a connection that is closed
  // with unread bytes takes the last answer with it). `done` when it has closed, too; may take for ever.
  virtual void finish(std::function<void()> done) = 0;
  virtual void close() = 0;
  [[nodiscard]] virtual std::string peer() const = 0;  // the address without port, "unix" for a local socket
  [[nodiscard]] virtual bool tls() const = 0;
};

// Calls back once after a time unless it is set anew or cancelled. On the loop's thread only.
class LoopTimer {
 public:
  virtual ~LoopTimer() = default;
  virtual void set(std::chrono::milliseconds after, std::function<void()> then) = 0;
  virtual void cancel() = 0;
};

// Takes connections in until it is dropped or closed (on the loop's thread, or when the loop does not run).
class Listener {
 public:
  virtual ~Listener() = default;
  [[nodiscard]] virtual uint16_t port() const = 0;  // 0 for a local socket
  virtual void close() = 0;
};

class EventLoop {
 public:
  static Result<std::shared_ptr<EventLoop>> create();
  virtual ~EventLoop() = default;
  // Runs until close() was called and everything that was begun has ended.
  virtual void run() = 0;
  // From any thread; dropped after close().
  virtual void post(std::function<void()> job) = 0;
  virtual void close() = 0;
  virtual std::unique_ptr<LoopTimer> timer() = 0;
  // `accepted` gets each connection, after the handshake where there is one (which may take `handshake_ms`); `admit` says
  // before that whether a peer may have one more. `tls`: called for each connection, so that a certificate can change.
  // kIo if the address cannot be had.
  struct Accepting {
    std::function<std::shared_ptr<TlsContext>()> tls;  // null: plain
    std::function<bool(const std::string& peer)> admit;
    std::function<void(const std::string& peer)> failed;  // admitted, but came to nothing
    std::function<void(std::shared_ptr<Socket>)> accepted;
    std::chrono::milliseconds handshake_time{10'000};
  };
  virtual Result<std::unique_ptr<Listener>> listen(const ListenAddress& address, Accepting accepting) = 0;
};

}  // namespace hearth
