#include "support/fault_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace hearth::test {
namespace {

constexpr int kTickMs = 20;
constexpr size_t kRequestBytesMax = 64 << 10;

// True once there is something to read; false when told to stop or the other side is gone.
bool readable(int fd, const std::atomic<bool>& stop) {
  while (!stop) {
    pollfd one{fd, POLLIN, 0};
    if (::poll(&one, 1, kTickMs) > 0) return true;
  }
  return false;
}

HttpRequest parse_request(const std::string& text) {
  HttpRequest request;
  const size_t path = text.find(' ') + 1;
  request.path = text.substr(path, text.find(' ', path) - path);
  for (size_t begin = text.find("\r\n") + 2; begin < text.size();) {
    const size_t end = text.find("\r\n", begin);
    const size_t colon = text.find(": ", begin);
    if (end == std::string::npos || end == begin) break;
    if (colon < end) {
      std::string name = text.substr(begin, colon - begin);
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      request.headers[name] = text.substr(colon + 2, end - colon - 2);
    }
    begin = end + 2;
  }
  return request;
}

}  // namespace

std::optional<uint64_t> HttpRequest::range() const {
  const std::string value = header("range");
  uint64_t first = 0;
  if (!value.starts_with("bytes=")) return std::nullopt;
  if (std::from_chars(value.data() + 6, value.data() + value.size(), first).ec != std::errc()) return std::nullopt;
  return first;
}

std::string HttpRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

bool Connection::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    pollfd one{fd_, POLLOUT, 0};
    if (stop_) return false;
    if (::poll(&one, 1, kTickMs) == 0) continue;
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

void Connection::stall() const {
  char byte = 0;
  while (readable(fd_, stop_) && ::recv(fd_, &byte, 1, 0) > 0) {
  }
}

bool Connection::head(int status, const std::string& headers) const {
  return send(fmt::format("HTTP/1.1 {} -\r\nConnection: close\r\n{}\r\n", status, headers));
}

void Connection::reply(int status, std::string_view body, const std::string& headers) const {
  head(status, fmt::format("{}Content-Length: {}\r\n", headers, body.size()));
  send(body);
}

void serve_file(const HttpRequest& request, const Connection& connection, std::string_view content,
                const FileFaults& faults) {
  const std::string etag = faults.etag.empty() ? "" : "ETag: " + faults.etag + "\r\n";
  const bool changed =
      request.headers.contains("if-range") && request.header("if-range") != faults.etag && !faults.ignore_if_range;
  uint64_t first = 0;
  std::string headers = etag;
  int status = 200;
  if (const auto range = request.range(); range && !faults.ignore_range && !changed) {
    if (*range >= content.size()) {
      return connection.reply(416, "", fmt::format("{}Content-Range: bytes */{}\r\n", etag, content.size()));
    }
    status = 206;
    first = static_cast<uint64_t>(static_cast<int64_t>(*range) + faults.range_lie);
    headers += fmt::format("Content-Range: bytes {}-{}/{}\r\n", first, content.size() - 1, content.size());
  }
  std::string_view body = content.substr(first);
  if (!faults.no_length)
    headers += fmt::format("Content-Length: {}\r\n", static_cast<int64_t>(body.size()) + faults.length_lie);
  connection.head(status, headers);
  connection.send(body.substr(0, faults.cut_after.value_or(body.size())));
  if (faults.stall && faults.cut_after) connection.stall();
}

FaultServer::FaultServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener_ < 0 || ::bind(listener_, generic, size) != 0 || ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, generic, &size) != 0) {
    std::perror("fault server: no loopback port");
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::jthread([this] { accept_all(); });
}

FaultServer::~FaultServer() {
  stop_ = true;
  acceptor_.join();
  connections_.clear();  // joins
  ::close(listener_);
}

void FaultServer::accept_all() {
  while (readable(listener_, stop_)) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) connections_.emplace_back([this, fd] { serve(fd); });
  }
}

void FaultServer::serve(int fd) {
  std::string text;
  char buffer[4096];
  while (text.find("\r\n\r\n") == std::string::npos && text.size() < kRequestBytesMax && readable(fd, stop_)) {
    const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  if (text.find("\r\n\r\n") != std::string::npos) {
    const HttpRequest request = parse_request(text);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    handler_(request, Connection(fd, stop_));
  }
  ::close(fd);
}

std::string FaultServer::url(std::string_view path) const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }

std::vector<HttpRequest> FaultServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::string noise(size_t bytes, uint64_t seed) {
  std::string text(bytes, '\0');
  uint64_t state = seed * 2 + 1;
  for (char& c : text) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(state >> 56);
  }
  return text;
}

}  // namespace hearth::test
