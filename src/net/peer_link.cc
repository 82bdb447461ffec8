#include "net/peer_link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <system_error>

#include "base/log.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

std::string system_text(int error) { return std::generic_category().message(error); }

// OpenSSL's own sockets would raise SIGPIPE where the other side is gone.
int socket_of(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int bio_write(BIO* bio, const char* data, int bytes) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = ::send(socket_of(bio), data, static_cast<size_t>(bytes), MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* data, int bytes) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = ::recv(socket_of(bio), data, static_cast<size_t>(bytes), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO* make_bio(int fd) {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hearth");
    if (made && BIO_meth_set_write(made, bio_write) == 1 && BIO_meth_set_read(made, bio_read) == 1 &&
        BIO_meth_set_ctrl(made, bio_control) == 1)
      return made;
    return static_cast<BIO_METHOD*>(nullptr);
  }();
  BIO* bio = method ? BIO_new(method) : nullptr;
  if (!bio) return nullptr;
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

// True if it happened in time.
bool wait_on(int fd, short events, milliseconds patience) {
  pollfd waited{.fd = fd, .events = events, .revents = 0};
  return ::poll(&waited, 1, static_cast<int>(std::clamp<int64_t>(patience.count(), 0, 1 << 30))) > 0;
}

milliseconds until(Clock::time_point end) {
  return std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(end - Clock::now()) + milliseconds(1));
}

void set_options(int fd) {
  const int on = 1, idle = 20, interval = 5, count = 3;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // A machine that lost its power says nothing.
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Addresses> resolve(const ListenAddress& address, bool passive) {
  if (!address.unix_path.empty())
    return fail(Code::kInvalidArgument, "{}: machines of a site need HOST:PORT", address.text);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC, hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int error = ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) return fail(Code::kIo, "{}: {}", address.text, ::gai_strerror(error));
  return Addresses(found, &::freeaddrinfo);
}

Descriptor connect_to(const addrinfo& address, milliseconds patience, int& error) {
  Descriptor fd(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS)) {
    error = errno;
    return {};
  }
  if (!wait_on(fd.get(), POLLOUT, patience)) {
    error = ETIMEDOUT;
    return {};
  }
  socklen_t size = sizeof error;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  return error == 0 ? std::move(fd) : Descriptor();
}

std::string name_in_certificate(const SSL* ssl) {
  const X509* certificate = SSL_get0_peer_certificate(ssl);
  char name[256] = "";
  if (certificate) X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  return name;
}

std::string serial_of_certificate(const SSL* ssl) {
  const X509* certificate = SSL_get0_peer_certificate(ssl);
  BIGNUM* number = certificate ? ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr) : nullptr;
  char* hex = number ? BN_bn2hex(number) : nullptr;
  std::string text = hex ? hex : "";
  OPENSSL_free(hex);
  BN_free(number);
  return text;
}

}  // namespace

Result<std::unique_ptr<PeerLink>> PeerLink::dial(const SiteTls& tls, const ListenAddress& to, milliseconds patience) {
  const auto end = Clock::now() + patience;
  const auto direct_end = tls.has_detour() ? Clock::now() + patience / 2 : end;
  const Addresses addresses = TRY(resolve(to, false));
  int error = 0;
  Descriptor fd;
  for (const addrinfo* address = addresses.get(); address && !fd; address = address->ai_next)
    fd = connect_to(*address, until(direct_end), error);
  if (!fd) {
    auto other_way = tls.detour(to.text, until(end));
    if (!other_way) return fail(Code::kIo, "{}: {}", to.text, system_text(error));
    LOG(kInfo, "{} is not to be reached directly ({}): over the site's broker", to.text, system_text(error));
    fd = std::move(*other_way);
  }
  auto link = shake_hands(tls, std::move(fd), true, until(end));
  if (!link) return within(to.text, link.error());
  return link;
}

Result<std::unique_ptr<PeerLink>> PeerLink::shake_hands(const SiteTls& tls, Descriptor fd, bool dialled,
                                                        milliseconds patience) {
  const auto end = Clock::now() + patience;
  set_options(fd.get());
  ERR_clear_error();
  SSL* ssl = SSL_new(tls.handle());
  BIO* bio = ssl ? make_bio(fd.get()) : nullptr;
  std::unique_ptr<PeerLink> link(new PeerLink(std::move(fd), ssl));
  if (!bio) return fail(Code::kInternal, "TLS: out of memory");
  SSL_set_bio(ssl, bio, bio);
  for (;;) {
    ERR_clear_error();
    const int done = dialled ? SSL_connect(ssl) : SSL_accept(ssl);
    if (done == 1) break;
    const int error = SSL_get_error(ssl, done);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      const char* reason = ERR_reason_error_string(ERR_peek_last_error());
      return fail(Code::kIo, "no connection of this site: {}", reason ? reason : "the other side ended it");
    }
    const short events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    if (!wait_on(link->fd(), events, until(end))) return fail(Code::kIo, "the handshake takes too long");
  }
  link->peer_ = name_in_certificate(ssl);
  link->serial_ = serial_of_certificate(ssl);
  link->revoked_ = tls.revoked();
  TRY(link->check_revoked());
  return link;
}

// A certificate that is taken back ends its connections too.
Result<void> PeerLink::check_revoked() {
  const uint64_t newest = revoked_->number();
  if (newest == looked_at_) return {};
  if (revoked_->has(serial_)) return fail(Code::kIo, "the certificate of {} is revoked", peer_);
  looked_at_ = newest;
  return {};
}

PeerLink::~PeerLink() { SSL_free(ssl_); }

// With the lock held, after a call that returned no success. Success: it only has to wait.
Result<void> PeerLink::lost(int returned) const {
  const int error = SSL_get_error(ssl_, returned);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return {};
  if (error == SSL_ERROR_ZERO_RETURN) return fail(Code::kIo, "{} ended the connection", peer_);
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return fail(Code::kIo, "the connection to {} is lost{}{}", peer_, reason ? ": " : "", reason ? reason : "");
}

Result<void> PeerLink::send(std::span<const std::byte> bytes) {
  const std::scoped_lock lock(mutex_);
  unsent_.insert(unsent_.end(), bytes.begin(), bytes.end());
  size_t sent = 0;
  Result<void> done{};
  while (sent < unsent_.size()) {
    ERR_clear_error();
    const auto some = std::min<size_t>(unsent_.size() - sent, 1 << 30);
    const int wrote = SSL_write(ssl_, unsent_.data() + sent, static_cast<int>(some));
    if (wrote <= 0) {
      done = lost(wrote);
      break;
    }
    sent += static_cast<size_t>(wrote);
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<ptrdiff_t>(sent));
  return done;
}

bool PeerLink::unsent() const {
  const std::scoped_lock lock(mutex_);
  return !unsent_.empty();
}

Result<void> PeerLink::send_all(std::span<const std::byte> bytes, milliseconds patience) {
  TRY(send(bytes));
  while (unsent()) {
    if (!wait_on(fd(), POLLOUT, patience)) return fail(Code::kIo, "{} takes nothing any more", peer_);
    TRY(send({}));
  }
  return {};
}

Result<size_t> PeerLink::receive(std::span<std::byte> into) {
  const std::scoped_lock lock(mutex_);
  TRY(check_revoked());
  ERR_clear_error();
  const int got = SSL_read(ssl_, into.data(), static_cast<int>(std::min<size_t>(into.size(), 1 << 30)));
  if (got > 0) return static_cast<size_t>(got);
  TRY(lost(got));
  return size_t{0};
}

void PeerLink::wait(milliseconds patience) {
  PeerLink* const self = this;
  wait_for_any({&self, 1}, patience);
}

void PeerLink::close() { ::shutdown(fd(), SHUT_RDWR); }

void wait_for_any(std::span<PeerLink* const> links, milliseconds patience) {
  std::vector<pollfd> waited;
  waited.reserve(links.size());
  for (const PeerLink* link : links)
    waited.push_back(
        {.fd = link->fd(), .events = static_cast<short>(POLLIN | (link->unsent() ? POLLOUT : 0)), .revents = 0});
  ::poll(waited.data(), waited.size(), static_cast<int>(std::clamp<int64_t>(patience.count(), 0, 1 << 30)));
}

Result<std::unique_ptr<PeerListener>> PeerListener::listen(const ListenAddress& address) {
  const Addresses addresses = TRY(resolve(address, true));
  auto listener = std::make_unique<PeerListener>();
  const addrinfo& first = *addresses;
  listener->fd_ = Descriptor(::socket(first.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = listener->fd_.get(), on = 1;
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd, first.ai_addr, first.ai_addrlen) != 0 || ::listen(fd, SOMAXCONN) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return fail(Code::kIo, "listening on {}: {}", address.text, system_text(errno));
  listener->port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                                      : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return listener;
}

Result<Descriptor> PeerListener::accept(milliseconds patience) {
  if (!wait_on(fd_.get(), POLLIN, patience)) return Descriptor();
  Descriptor accepted(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
    return fail(Code::kIo, "taking a connection: {}", system_text(errno));
  return accepted;
}

Result<std::unique_ptr<PeerLink>> PeerListener::shake_hands(const SiteTls& tls, Descriptor accepted,
                                                            milliseconds patience) {
  return PeerLink::shake_hands(tls, std::move(accepted), false, patience);
}

}  // namespace hearth
