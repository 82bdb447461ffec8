#include "net/relay.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "vault/key.h"

namespace hearth {
namespace {

constexpr std::string_view kSubjects = "hearth.relay.";
constexpr size_t kHeaderBytes = 16 + 1 + 8;
constexpr size_t kBytesMax = kRelayPieceBytes - kHeaderBytes;
static_assert(std::endian::native == std::endian::little);

// A name as one token of a subject: names have no '='.
std::string token(std::string_view name) {
  std::string text(name);
  std::ranges::replace(text, '.', '=');
  return text;
}

std::string name_of(std::string_view token) {
  std::string text(token);
  std::ranges::replace(text, '=', '.');
  return text;
}

}  // namespace

std::string to_bytes(const RelayPiece& piece) {
  std::string text(kHeaderBytes, '\0');
  std::memcpy(text.data(), piece.connection.data(), piece.connection.size());
  text[16] = static_cast<char>(piece.kind);
  std::memcpy(text.data() + 17, &piece.offset, sizeof piece.offset);
  return text.append(piece.bytes);
}

Result<RelayPiece> parse_relay_piece(std::string_view text) {
  if (text.size() < kHeaderBytes || text.size() > kRelayPieceBytes)
    return fail(Code::kMalformed, "a relayed piece of {} bytes; it has {} to {}", text.size(), kHeaderBytes,
                kRelayPieceBytes);
  RelayPiece piece;
  std::memcpy(piece.connection.data(), text.data(), piece.connection.size());
  const auto kind = static_cast<uint8_t>(text[16]);
  if (kind > static_cast<uint8_t>(RelayPiece::Kind::kEnd))
    return fail(Code::kMalformed, "a relayed piece of kind {}", kind);
  piece.kind = static_cast<RelayPiece::Kind>(kind);
  std::memcpy(&piece.offset, text.data() + 17, sizeof piece.offset);
  piece.bytes = text.substr(kHeaderBytes);
  if (piece.bytes.empty() == (piece.kind == RelayPiece::Kind::kBytes))
    return fail(Code::kMalformed, "a relayed piece of kind {} with {} bytes", kind, piece.bytes.size());
  return piece;
}

struct Relay::Tunnel {
  Id id{};
  std::string subject;  // of what is sent
  Descriptor socket, wake;
  uint64_t sent = 0, passed_on = 0, told = 0;  // the thread's

  std::mutex mutex;  // of what follows
  std::condition_variable accepted_or_over;
  std::deque<std::string> arrived;
  uint64_t heard = 0;  // bytes that arrived
  uint64_t taken = 0;  // by the other side
  bool accepted = false, over = false;
  bool done = false;  // no thread has to do with it any more

  std::jthread thread;  // last

  void rouse() const {
    const uint64_t one = 1;
    (void)!::write(wake.get(), &one, sizeof one);
  }
  // With the lock held.
  void end() {
    over = true;
    accepted_or_over.notify_all();
    rouse();
  }
};

Relay::Relay(RelayEnd own, Publish publish) : own_(std::move(own)), publish_(std::move(publish)) {}

Relay::~Relay() {
  std::map<Id, std::shared_ptr<Tunnel>> tunnels;
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    tunnels.swap(tunnels_);
  }
  for (const auto& [id, tunnel] : tunnels) {
    const std::scoped_lock lock(tunnel->mutex);
    tunnel->arrived.clear();
    tunnel->end();
  }
}

std::string Relay::subject(const RelayEnd& from, const RelayEnd& to) const {
  return fmt::format("{}{}.{}.{}.{}", kSubjects, token(from.machine), token(from.process), token(to.machine),
                     token(to.process));
}

std::string Relay::subjects_from(std::string_view machine) { return fmt::format("{}{}.>", kSubjects, token(machine)); }

std::string Relay::subjects() const {
  return fmt::format("{}*.*.{}.{}", kSubjects, token(own_.machine), token(own_.process));
}

void Relay::set_accept(Accept accept) {
  const std::scoped_lock lock(mutex_);
  accept_ = std::move(accept);
}

size_t Relay::connections() const {
  const std::scoped_lock lock(mutex_);
  return tunnels_.size();
}

// With the lock held.
Result<std::shared_ptr<Relay::Tunnel>> Relay::add(const Id& id, std::string subject, Descriptor& other_end) {
  std::erase_if(tunnels_, [](const auto& entry) {
    const std::scoped_lock lock(entry.second->mutex);
    return entry.second->done;
  });
  if (ending_ || tunnels_.size() >= static_cast<size_t>(limits::kNodeConnections))
    return fail(Code::kLimit, "{} connections are relayed, at most {}", tunnels_.size(), limits::kNodeConnections);
  int pair[2] = {-1, -1};
  auto tunnel = std::make_shared<Tunnel>();
  tunnel->wake = Descriptor(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!tunnel->wake || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
    return fail(Code::kIo, "relaying a connection: {}", std::strerror(errno));
  tunnel->socket = Descriptor(pair[0]);
  other_end = Descriptor(pair[1]);
  tunnel->id = id, tunnel->subject = std::move(subject);
  if (!tunnels_.emplace(id, tunnel).second) return fail(Code::kMalformed, "a relayed connection twice");
  return tunnel;
}

Result<Descriptor> Relay::dial(const RelayEnd& to, std::chrono::milliseconds patience) {
  Id id{};
  fill_random(id);
  Descriptor other_end;
  std::shared_ptr<Tunnel> tunnel;
  {
    const std::scoped_lock lock(mutex_);
    tunnel = TRY(add(id, subject(own_, to), other_end));
  }
  const auto asked = publish_(tunnel->subject, to_bytes(RelayPiece{.connection = id}));
  std::unique_lock lock(tunnel->mutex);
  if (asked) tunnel->accepted_or_over.wait_for(lock, patience, [&] { return tunnel->accepted || tunnel->over; });
  if (!tunnel->accepted || tunnel->over) {
    tunnel->over = tunnel->done = true;
    publish(*tunnel, RelayPiece::Kind::kEnd, 0);
    return fail(Code::kIo, "{}: no answer through the broker either", to.machine);
  }
  tunnel->thread = std::jthread([this, raw = tunnel.get()] { pump(*raw); });
  return other_end;
}

// Somebody dials.
void Relay::open(const RelayPiece& piece, std::string answers) {
  Descriptor other_end;
  Accept accept;
  {
    const std::scoped_lock lock(mutex_);
    if (!accept_) return;
    const auto tunnel = add(piece.connection, std::move(answers), other_end);
    if (!tunnel) return;
    accept = accept_;
    (*tunnel)->accepted = true;
    publish(**tunnel, RelayPiece::Kind::kTaken, 0);
    (*tunnel)->thread = std::jthread([this, raw = tunnel->get()] { pump(*raw); });
  }
  accept(std::move(other_end));
}

void Relay::hear(std::string_view subject, std::string_view data) {
  const auto piece = parse_relay_piece(data);
  if (!piece || !subject.starts_with(kSubjects)) return;
  // From whom, as the broker makes sure.
  const std::string_view names = subject.substr(kSubjects.size());
  const size_t dot = names.find('.'), end = names.find('.', dot == std::string_view::npos ? dot : dot + 1);
  if (end == std::string_view::npos) return;
  const RelayEnd from{name_of(names.substr(0, dot)), name_of(names.substr(dot + 1, end - dot - 1))};
  std::string answers = this->subject(own_, from);
  if (piece->kind == RelayPiece::Kind::kOpen) return open(*piece, std::move(answers));
  std::shared_ptr<Tunnel> tunnel;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = tunnels_.find(piece->connection);
    if (found == tunnels_.end() || found->second->subject != answers) return;
    tunnel = found->second;
  }
  const std::scoped_lock lock(tunnel->mutex);
  switch (piece->kind) {
    case RelayPiece::Kind::kBytes: {
      size_t waiting = piece->bytes.size();
      for (const std::string& bytes : tunnel->arrived) waiting += bytes.size();
      // A piece was lost, or the other side sends more than was agreed.
      if (piece->offset != tunnel->heard || waiting > kRelayWindowBytes) return tunnel->end();
      tunnel->heard += piece->bytes.size();
      tunnel->arrived.emplace_back(piece->bytes);
      return tunnel->rouse();
    }
    case RelayPiece::Kind::kTaken:
      tunnel->accepted = true;
      tunnel->taken = std::max(tunnel->taken, piece->offset);
      tunnel->accepted_or_over.notify_all();
      return tunnel->rouse();
    default:
      return tunnel->end();
  }
}

void Relay::publish(const Tunnel& tunnel, RelayPiece::Kind kind, uint64_t offset) {
  (void)publish_(tunnel.subject, to_bytes(RelayPiece{.connection = tunnel.id, .kind = kind, .offset = offset}));
}

// What arrived goes into the socket. False: nobody reads it any more.
bool Relay::pass_on(Tunnel& tunnel) {
  for (;;) {
    std::string bytes;
    {
      const std::scoped_lock lock(tunnel.mutex);
      if (tunnel.arrived.empty()) break;
      bytes = std::move(tunnel.arrived.front());
      tunnel.arrived.pop_front();
    }
    const ssize_t wrote = ::send(tunnel.socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (wrote < 0 && errno != EAGAIN && errno != EINTR) return false;
    const auto n = static_cast<size_t>(std::max<ssize_t>(wrote, 0));
    tunnel.passed_on += n;
    if (n == bytes.size()) continue;
    const std::scoped_lock lock(tunnel.mutex);
    tunnel.arrived.push_front(bytes.substr(n));
    break;
  }
  if (tunnel.passed_on - tunnel.told >= kRelayWindowBytes / 4) {
    tunnel.told = tunnel.passed_on;
    publish(tunnel, RelayPiece::Kind::kTaken, tunnel.told);
  }
  return true;
}

// What is in the socket goes to the broker, as much as the window has room for. False: that is its end.
bool Relay::send_some(Tunnel& tunnel) {
  uint64_t taken = 0;
  {
    const std::scoped_lock lock(tunnel.mutex);
    taken = std::min(tunnel.taken, tunnel.sent);
  }
  std::string bytes(std::min<uint64_t>(kBytesMax, kRelayWindowBytes - (tunnel.sent - taken)), '\0');
  if (bytes.empty()) return true;
  const ssize_t got = ::recv(tunnel.socket.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  bytes.resize(static_cast<size_t>(got));
  const RelayPiece piece{
      .connection = tunnel.id, .kind = RelayPiece::Kind::kBytes, .offset = tunnel.sent, .bytes = bytes};
  if (!publish_(tunnel.subject, to_bytes(piece))) return false;
  tunnel.sent += bytes.size();
  return true;
}

void Relay::pump(Tunnel& tunnel) {
  for (;;) {
    short wanted = 0;
    {
      const std::scoped_lock lock(tunnel.mutex);
      if (tunnel.over && tunnel.arrived.empty()) break;
      if (!tunnel.arrived.empty()) wanted |= POLLOUT;
      if (!tunnel.over && tunnel.sent - std::min(tunnel.taken, tunnel.sent) < kRelayWindowBytes) wanted |= POLLIN;
    }
    std::array<pollfd, 2> waited{pollfd{.fd = wanted != 0 ? tunnel.socket.get() : -1, .events = wanted, .revents = 0},
                                 pollfd{.fd = tunnel.wake.get(), .events = POLLIN, .revents = 0}};
    ::poll(waited.data(), waited.size(), -1);
    uint64_t roused = 0;
    (void)!::read(tunnel.wake.get(), &roused, sizeof roused);
    if (!pass_on(tunnel)) break;
    const short hung_up = POLLHUP | POLLERR;
    if ((waited[0].revents & (POLLIN | hung_up)) != 0 && !send_some(tunnel)) break;
  }
  publish(tunnel, RelayPiece::Kind::kEnd, 0);
  const std::scoped_lock lock(tunnel.mutex);
  tunnel.over = tunnel.done = true;
  ::shutdown(tunnel.socket.get(), SHUT_RDWR);
}

}  // namespace hearth
