// Connections between machines that do not reach each other directly, through the site's broker: the last resort.
//
// What is carried are the bytes of an ordinary connection, with its TLS from end to end: the broker reads nothing. They go in pieces of
// at most kRelayPieceBytes, at most kRelayWindowBytes of them on the way. A broker promises nothing about a piece: one that is missing
// shows in the offsets, and ends the connection, which is then a lost one like any other.
//
// A thread for each connection; everything may be called from any.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/descriptor.h"
#include "base/result.h"

namespace hearth {

inline constexpr size_t kRelayPieceBytes = 256u << 10, kRelayWindowBytes = 1u << 20;

struct RelayPiece {
  enum class Kind : uint8_t {
    kOpen,   // by who dials
    kBytes,  // from `offset` on
    kTaken,  // `offset` bytes arrived and are passed on; the first one says that the connection is accepted
    kEnd,
  };
  std::array<std::byte, 16> connection{};  // random
  Kind kind = Kind::kOpen;
  uint64_t offset = 0;
  std::string_view bytes{};
};
std::string to_bytes(const RelayPiece& piece);
// kMalformed. The bytes are those of `text`.
Result<RelayPiece> parse_relay_piece(std::string_view text);

// A process of a machine of the site.
struct RelayEnd {
  std::string machine, process;
  bool operator==(const RelayEnd&) const = default;
};

class Relay {
 public:
  using Publish = std::function<Result<void>(std::string_view subject, std::string_view data)>;
  // Connections come to `accept`; without it they are refused.
  using Accept = std::function<void(Descriptor)>;

  Relay(RelayEnd own, Publish publish);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // What is to be subscribed, and what to do with what comes.
  [[nodiscard]] std::string subjects() const;
  void hear(std::string_view subject, std::string_view data);
  void set_accept(Accept accept);
  // A socket to that process; kIo if it does not answer in time.
  Result<Descriptor> dial(const RelayEnd& to, std::chrono::milliseconds patience);
  [[nodiscard]] size_t connections() const;

  // The subjects of whatever that machine sends, for the broker's permissions.
  static std::string subjects_from(std::string_view machine);

 private:
  struct Tunnel;
  using Id = std::array<std::byte, 16>;
  Result<std::shared_ptr<Tunnel>> add(const Id& id, std::string subject, Descriptor& other_end);
  void open(const RelayPiece& piece, std::string answers);
  void pump(Tunnel& tunnel);
  bool pass_on(Tunnel& tunnel);
  bool send_some(Tunnel& tunnel);
  void publish(const Tunnel& tunnel, RelayPiece::Kind kind, uint64_t offset);
  [[nodiscard]] std::string subject(const RelayEnd& from, const RelayEnd& to) const;

  const RelayEnd own_;
  const Publish publish_;
  mutable std::mutex mutex_;
  Accept accept_;
  bool ending_ = false;
  std::map<Id, std::shared_ptr<Tunnel>> tunnels_;
};

}  // namespace hearth
