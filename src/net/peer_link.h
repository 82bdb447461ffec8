// A connection between two machines of a site: TCP with TLS 1.3, both sides with certificates of the site's authority.
//
// Whoever holds it sends and receives bytes; waiting is done apart, so that one thread can hold many. Sending and receiving may
// happen on two threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/tls.h"

struct ssl_st;

namespace hearth {

class PeerLink {
 public:
  // Connects, over the detour if that fails and there is one, and shakes hands; kIo if nothing leads there or it takes longer, with what
  // the other side said.
  static Result<std::unique_ptr<PeerLink>> dial(const SiteTls& tls, const ListenAddress& to,
                                                std::chrono::milliseconds patience);
  ~PeerLink();
  PeerLink(const PeerLink&) = delete;
  PeerLink& operator=(const PeerLink&) = delete;

  // Sends as much as goes without waiting, after what is left of earlier bytes; the rest stays here. kIo: the connection is lost.
  Result<void> send(std::span<const std::byte> bytes);
  [[nodiscard]] bool unsent() const;
  // All of it, waiting for the other side, each time no longer than `patience`.
  Result<void> send_all(std::span<const std::byte> bytes, std::chrono::milliseconds patience);
  // What has arrived: 0 bytes if nothing has. kIo: the connection is lost, or the other side closed it.
  Result<size_t> receive(std::span<std::byte> into);
  // Until something can be received, or sent if something is unsent.
  void wait(std::chrono::milliseconds patience);
  // Ends all waiting and the connection; from any thread.
  void close();

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& peer() const { return peer_; }  // the name in its certificate

 private:
  friend class PeerListener;
  PeerLink(Descriptor fd, ssl_st* ssl) : fd_(std::move(fd)), ssl_(ssl) {}
  static Result<std::unique_ptr<PeerLink>> shake_hands(const SiteTls& tls, Descriptor fd, bool dialled,
                                                       std::chrono::milliseconds patience);
  [[nodiscard]] Result<void> lost(int returned) const;
  Result<void> check_revoked();

  Descriptor fd_;
  mutable std::mutex mutex_;  // OpenSSL's connections are for one thread at a time
  ssl_st* ssl_;
  std::vector<std::byte> unsent_;
  std::string peer_, serial_;
  std::shared_ptr<Revoked> revoked_;
  uint64_t looked_at_ = 0;  // the list of revoked certificates that this one's is not in
};

// Until one of them can be received from, or sent to if something is unsent.
void wait_for_any(std::span<PeerLink* const> links, std::chrono::milliseconds patience);

class PeerListener {
 public:
  static Result<std::unique_ptr<PeerListener>> listen(const ListenAddress& address);
  [[nodiscard]] uint16_t port() const { return port_; }
  // The next connection, before any handshake; an empty one if none comes in that time.
  Result<Descriptor> accept(std::chrono::milliseconds patience);
  // The handshake of an accepted connection.
  static Result<std::unique_ptr<PeerLink>> shake_hands(const SiteTls& tls, Descriptor accepted,
                                                       std::chrono::milliseconds patience);

 private:
  Descriptor fd_;
  uint16_t port_ = 0;
};

}  // namespace hearth
