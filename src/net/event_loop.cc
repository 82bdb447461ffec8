#include "net/event_loop.h"

#include <openssl/ssl.h>

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <filesystem>
#include <mutex>
#include <set>

#include "base/log.h"

namespace hearth {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Stream = asio::generic::stream_protocol::socket;

bool ListenAddress::loopback() const {
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  return !unix_path.empty() || host == "localhost" || (!error && address.is_loopback());
}

Result<ListenAddress> parse_listen_address(std::string_view text) {
  ListenAddress address;
  address.text = text;
  if (text.starts_with("unix:")) {
    address.unix_path = text.substr(5);
    if (!address.unix_path.starts_with('/') || address.unix_path.size() > 100)
      return fail(Code::kInvalidArgument, "listen address {}: unix: takes an absolute path of at most 100 bytes", text);
    return address;
  }
  const size_t colon = text.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.contains(':')) {
    host = " ";  // an IPv6 address needs its brackets
  }
  if (port.empty() || error != std::errc() || end != port.data() + port.size() || host.contains(' '))
    return fail(Code::kInvalidArgument, "listen address {}: want HOST:PORT, [IPV6]:PORT, :PORT or unix:/path", text);
  address.host = host;
  return address;
}

namespace {

// The address alone.
std::string name_of(const tcp::endpoint& endpoint) {
  asio::ip::address address = endpoint.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  return address.to_string();
}

// Reads and writes through `stream`, which is the connection itself or TLS on it.
template <typename Layer>
class LayerSocket : public Socket, public std::enable_shared_from_this<LayerSocket<Layer>> {
 public:
  LayerSocket(Layer stream, std::string peer) : stream_(std::move(stream)), peer_(std::move(peer)) {}

  void read_some(std::span<char> into, std::function<void(size_t)> done) override {
    stream_.async_read_some(asio::buffer(into.data(), into.size()),
                            [self = this->shared_from_this(), done = std::move(done)](
                                const error_code& error, size_t bytes) { done(error ? 0 : bytes); });
  }
  void write(std::string_view bytes, std::function<void(bool)> done) override {
    asio::async_write(
        stream_, asio::buffer(bytes.data(), bytes.size()),
        [self = this->shared_from_this(), done = std::move(done)](const error_code& error, size_t) { done(!error); });
  }
  void when_lost(std::function<void()> lost) override {
    if constexpr (std::is_same_v<Layer, Stream>) {
      stream_.async_wait(Stream::wait_error,
                         [self = this->shared_from_this(), lost = std::move(lost)](const error_code&) { lost(); });
    } else {  // TLS has a word for the end of a connection, and no use for half of one
      asio::post(stream_.get_executor(), std::move(lost));
    }
  }
  void finish(std::function<void()> done) override {
    if constexpr (std::is_same_v<Layer, Stream>) {
      error_code ignored;
      stream_.shutdown(Stream::shutdown_send, ignored);
      drop_input(std::move(done));
    } else {
      stream_.async_shutdown([self = this->shared_from_this(), done = std::move(done)](const error_code&) { done(); });
    }
  }
  void close() override {
    error_code ignored;
    bottom().close(ignored);
  }
  [[nodiscard]] std::string peer() const override { return peer_; }
  [[nodiscard]] bool tls() const override { return !std::is_same_v<Layer, Stream>; }
  Layer& layer() { return stream_; }

 private:
  auto& bottom() {
    if constexpr (std::is_same_v<Layer, Stream>)
      return stream_;
    else
      return stream_.next_layer();
  }

  void drop_input(std::function<void()> done) {
    stream_.async_read_some(asio::buffer(dropped_), [self = this->shared_from_this(), done = std::move(done)](
                                                        const error_code& error, size_t) mutable {
      if (error) return done();
      self->drop_input(std::move(done));
    });
  }

  Layer stream_;
  std::string peer_;
  std::array<char, 4096> dropped_{};
};
using PlainSocket = LayerSocket<Stream>;

using TlsSocket = LayerSocket<asio::ssl::stream<Stream>>;

class AsioTimer final : public LoopTimer {
 public:
  explicit AsioTimer(asio::io_context& io) : timer_(io) {}
  void set(std::chrono::milliseconds after, std::function<void()> then) override {
    timer_.expires_after(after);
    timer_.async_wait([then = std::move(then)](const error_code& error) {
      if (!error) then();
    });
  }
  void cancel() override { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
};

class AsioLoop final : public EventLoop {
 public:
  AsioLoop() : guard_(io_.get_executor()) {}
  void run() override { io_.run(); }
  void post(std::function<void()> job) override {
    const std::scoped_lock lock(mutex_);
    if (!closed_) asio::post(io_, std::move(job));
  }
  void close() override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    guard_.reset();
  }
  std::unique_ptr<LoopTimer> timer() override { return std::make_unique<AsioTimer>(io_); }
  Result<std::unique_ptr<Listener>> listen(const ListenAddress& address, Accepting accepting) override;

 private:
  asio::io_context io_{1};
  std::mutex mutex_;
  bool closed_ = false;
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
};

template <typename Protocol>
class AsioListener final : public Listener {
 public:
  using Acceptor = asio::basic_socket_acceptor<Protocol>;

  AsioListener(Acceptor acceptor, EventLoop::Accepting accepting)
      : shared_(std::make_shared<Shared>(std::move(acceptor), std::move(accepting))) {
    shared_->accept();
  }
  ~AsioListener() override { AsioListener::close(); }
  [[nodiscard]] uint16_t port() const override {
    error_code error;
    const auto endpoint = shared_->acceptor.local_endpoint(error);
    if constexpr (std::is_same_v<Protocol, tcp>) return error ? uint16_t{0} : endpoint.port();
    return 0;
  }
  void close() override {
    error_code ignored;
    shared_->acceptor.close(ignored);
    shared_->pause.cancel();
    for (const auto& socket : shared_->shaking) socket->close();
  }

 private:
  struct Shared : std::enable_shared_from_this<Shared> {
    Shared(Acceptor opened, EventLoop::Accepting how)
        : acceptor(std::move(opened)), pause(acceptor.get_executor()), accepting(std::move(how)) {}

    void accept() {
      acceptor.async_accept([self = this->shared_from_this()](const error_code& error, auto socket) {
        if (!self->acceptor.is_open()) return;
        if (!error) {
          self->take(std::move(socket));
        } else if (error != asio::error::connection_aborted) {
          LOG(kWarning, "accepting a connection: {}",
              error.message());  // no descriptor is left: wait for some to close
          self->pause.expires_after(std::chrono::milliseconds(100));
          self->pause.async_wait([self](const error_code& cancelled) {
            if (!cancelled && self->acceptor.is_open()) self->accept();
          });
          return;
        }
        self->accept();
      });
    }

    void take(typename Protocol::socket socket) {
      std::string peer = "unix";
      error_code error;
      if constexpr (std::is_same_v<Protocol, tcp>) {
        peer = name_of(socket.remote_endpoint(error));
        socket.set_option(tcp::no_delay(true), error);
      }
      if (error || !accepting.admit(peer)) return;
      const std::shared_ptr<TlsContext> tls = accepting.tls ? accepting.tls() : nullptr;
      if (!tls) return accepting.accepted(std::make_shared<PlainSocket>(Stream(std::move(socket)), peer));
      SSL_CTX_up_ref(tls->handle());
      asio::ssl::context context(tls->handle());
      shake_hands(std::make_shared<TlsSocket>(asio::ssl::stream<Stream>(Stream(std::move(socket)), context), peer));
    }

    void shake_hands(const std::shared_ptr<TlsSocket>& socket) {
      shaking.insert(socket);
      const auto patience = std::make_shared<asio::steady_timer>(acceptor.get_executor(), accepting.handshake_time);
      patience->async_wait([socket](const error_code& cancelled) {
        if (!cancelled) socket->close();
      });
      const auto self = this->shared_from_this();
      socket->layer().async_handshake(asio::ssl::stream_base::server,
                                      [self, socket, patience](const error_code& error) {
                                        patience->cancel();
                                        self->shaking.erase(socket);
                                        if (!error && self->acceptor.is_open()) return self->accepting.accepted(socket);
                                        socket->close();
                                        self->accepting.failed(socket->peer());
                                      });
    }

    Acceptor acceptor;
    asio::steady_timer pause;
    std::set<std::shared_ptr<TlsSocket>> shaking;
    EventLoop::Accepting accepting;
  };
  std::shared_ptr<Shared> shared_;
};

template <typename Protocol>
Result<std::unique_ptr<Listener>> open_listener(asio::io_context& io, const typename Protocol::endpoint& endpoint,
                                                const std::string& shown, EventLoop::Accepting accepting) {
  asio::basic_socket_acceptor<Protocol> acceptor(io);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(Code::kIo, "cannot listen on {}: {}", shown, error.message());
  return std::make_unique<AsioListener<Protocol>>(std::move(acceptor), std::move(accepting));
}

Result<std::unique_ptr<Listener>> AsioLoop::listen(const ListenAddress& address, Accepting accepting) {
  try {
    if (!address.unix_path.empty()) {
      using Local = asio::local::stream_protocol;
      // Left behind by a process that was killed: nobody answers there.
      error_code error;
      Local::socket probe(io_);
      probe.connect(Local::endpoint(address.unix_path), error);
      std::error_code ignored;
      if (error == asio::error::connection_refused && std::filesystem::is_socket(address.unix_path, ignored))
        std::filesystem::remove(address.unix_path, ignored);
      return open_listener<Local>(io_, Local::endpoint(address.unix_path), address.text, std::move(accepting));
    }
    if (address.host.empty()) {
      auto both = open_listener<tcp>(io_, {tcp::v6(), address.port}, address.text, accepting);
      if (both) return both;
      return open_listener<tcp>(io_, {tcp::v4(), address.port}, address.text, std::move(accepting));
    }
    error_code error;
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(address.host, std::to_string(address.port), tcp::resolver::passive, error);
    if (error || found.empty()) return fail(Code::kIo, "cannot listen on {}: {}", address.text, error.message());
    return open_listener<tcp>(io_, found.begin()->endpoint(), address.text, std::move(accepting));
  } catch (const std::exception& exception) {
    return fail(Code::kIo, "cannot listen on {}: {}", address.text, exception.what());
  }
}

}  // namespace

Result<std::shared_ptr<EventLoop>> EventLoop::create() {
  try {
    return std::make_shared<AsioLoop>();
  } catch (const std::exception& exception) {
    return fail(Code::kIo, "cannot wait for connections: {}", exception.what());
  }
}

}  // namespace hearth
