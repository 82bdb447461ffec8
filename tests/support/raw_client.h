// A client that says exactly what a test wants, byte by byte.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <string_view>

#include "base/descriptor.h"

namespace hearth::test {

class RawClient {
 public:
  // Connects to 127.0.0.1.
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer_bytes > 0)
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  // Connects to a local socket.
  explicit RawClient(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << path;
  }
  // False once the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // What comes until it holds `end`, or until the server closes if that is empty. What follows `end` stays.
  std::string read_until(std::string_view end) {
    for (;;) {
      const size_t found = end.empty() ? std::string::npos : received_.find(end);
      if (found != std::string::npos) return take(found + end.size());
      if (!receive()) return take(received_.size());
    }
  }
  // One whole answer with a Content-Length.
  std::string read_answer() {
    std::string answer = read_until("\r\n\r\n");
    const size_t length = answer.find("Content-Length: ");
    if (length == std::string::npos) return answer;
    const size_t bytes = std::stoul(answer.substr(length + 16));
    while (received_.size() < bytes && receive()) {
    }
    return answer + take(std::min(bytes, received_.size()));
  }
  std::string ask(std::string_view request) {
    send(request);
    return read_answer();
  }
  // True when the server has closed and nothing is left to read.
  bool closed() { return read_until("").empty(); }
  void send_no_more() { ::shutdown(socket_.get(), SHUT_WR); }
  void close() { socket_ = Descriptor(); }
  void reset() {  // goes without a word
    const linger hard{1, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    socket_ = Descriptor();
  }

 private:
  bool receive() {
    char buffer[4096];
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    received_.append(buffer, static_cast<size_t>(got));
    return true;
  }
  std::string take(size_t bytes) {
    std::string taken = received_.substr(0, bytes);
    received_.erase(0, bytes);
    return taken;
  }

  Descriptor socket_;
  std::string received_;
};

// The status of an answer; 0 if there is none.
inline int status_of(std::string_view answer) {
  return answer.starts_with("HTTP/1.1 ") && answer.size() > 12 ? std::stoi(std::string(answer.substr(9, 3))) : 0;
}

}  // namespace hearth::test
