// What adapters over datagrams share: addresses, and waiting for a socket that another thread can end.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/descriptor.h"
#include "base/result.h"

namespace hearth::gateway {

// The bytes of a sockaddr, the first of those the name has. Asks the system's resolver: kIo with the remedy if it knows none.
Result<std::string> datagram_address(const std::string& host, int port, bool passive);
// A bound socket; not blocking.
Result<Descriptor> listen_for_datagrams(const std::string& host, int port);
Result<> send_datagram(int socket, const std::string& address, std::string_view bytes);
// The next one, at most `into` bytes of it, and the numeric host it came from; -1: none is there.
int64_t take_datagram(int socket, std::span<char> into, std::string& from);
int bound_port(int socket);

class Wake {
 public:
  Wake();
  void ring();  // any thread: the wait under way ends, or the next one
  // True once the descriptor (-1: none) can be read. False: rung, or the time is over.
  bool wait(int descriptor, std::chrono::milliseconds most);

 private:
  Descriptor event_;
};

}  // namespace hearth::gateway
