#include "gateway/datagrams.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace hearth::gateway {

Result<std::string> datagram_address(const std::string& host, int port, bool passive) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC, hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) return fail(Code::kIo, "{}: {}: correct the host or the resolver", host, ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  return std::string(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen);
}

Result<Descriptor> listen_for_datagrams(const std::string& host, int port) {
  const std::string address = TRY(datagram_address(host, port, true));
  const auto* where = reinterpret_cast<const sockaddr*>(address.data());
  Descriptor fd(::socket(where->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || ::bind(fd.get(), where, static_cast<socklen_t>(address.size())) != 0)
    return fail(Code::kIo, "{}:{}: {}: choose another address or end the program that has it", host, port,
                std::strerror(errno));
  return fd;
}

Result<> send_datagram(int socket, const std::string& address, std::string_view bytes) {
  const auto* where = reinterpret_cast<const sockaddr*>(address.data());
  const auto sent = ::sendto(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, where,
                             static_cast<socklen_t>(address.size()));
  if (sent == static_cast<ssize_t>(bytes.size())) return {};
  return fail(Code::kIo, "a datagram of {} bytes was not sent: {}", bytes.size(), std::strerror(errno));
}

int64_t take_datagram(int socket, std::span<char> into, std::string& from) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* where = reinterpret_cast<sockaddr*>(&address);
  const auto n = ::recvfrom(socket, into.data(), into.size(), MSG_DONTWAIT, where, &size);
  std::array<char, NI_MAXHOST> host{};
  if (n >= 0 && ::getnameinfo(where, size, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) == 0)
    from = host.data();
  return n;
}

int bound_port(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

Wake::Wake() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void Wake::ring() { (void)::eventfd_write(event_.get(), 1); }

bool Wake::wait(int descriptor, std::chrono::milliseconds most) {
  std::array<pollfd, 2> both = {pollfd{event_.get(), POLLIN, 0}, pollfd{descriptor, POLLIN, 0}};
  const auto ms = std::clamp<int64_t>(most.count(), 0, 3'600'000);
  if (::poll(both.data(), both.size(), static_cast<int>(ms)) <= 0) return false;
  eventfd_t rung = 0;
  if (both[0].revents != 0) (void)::eventfd_read(event_.get(), &rung);
  return both[1].revents != 0;
}

}  // namespace hearth::gateway
