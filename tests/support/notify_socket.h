// What systemd would be told: the messages of a program that gets its path as $NOTIFY_SOCKET.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "base/descriptor.h"
#include "support/test_folder.h"

namespace hearth::test {

// Reads all the time, as systemd does: who tells it something waits while its queue is full.
class NotifySocket {
 public:
  NotifySocket() : socket_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    thread_ = std::jthread([this] { read(); });
  }
  ~NotifySocket() { ::shutdown(socket_.get(), SHUT_RD); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;
  [[nodiscard]] std::string path() const { return folder_.path() / "notify"; }
  // The next message; waits for it.
  std::string next() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return !messages_.empty(); });
    std::string message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

 private:
  void read() {
    std::array<char, 256> text{};
    for (ssize_t bytes = 0; (bytes = ::recv(socket_.get(), text.data(), text.size(), 0)) > 0;) {
      const std::scoped_lock lock(mutex_);
      messages_.emplace_back(text.data(), static_cast<size_t>(bytes));
      arrived_.notify_one();
    }
  }

  TestFolder folder_;
  Descriptor socket_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::string> messages_;
  std::jthread thread_;
};

}  // namespace hearth::test
