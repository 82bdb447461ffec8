#include "net/http_server.h"

#include <arpa/inet.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/check.h"
#include "net/http_connection.h"
#include "net/http_workers.h"

namespace hearth {
namespace {

// Whom connections are counted for: an address, or of IPv6 the network of 64 bits that a single client usually has whole.
std::string network_of(const std::string& peer) {
  in6_addr address{};
  if (::inet_pton(AF_INET6, peer.c_str(), &address) != 1) return peer;
  return {reinterpret_cast<const char*>(&address), 8};
}

}  // namespace

struct HttpServer::Core {
  HttpConnectionHost host;
  std::vector<uint16_t> ports;
  std::mutex mutex;  // of the next three
  std::condition_variable changed;
  std::shared_ptr<TlsContext> tls;
  int n_connections = 0;

  // The loop's thread alone.
  std::vector<std::unique_ptr<Listener>> listeners;
  std::set<std::shared_ptr<HttpConnection>> connections;
  std::map<std::string, int> peers;
  std::jthread thread;

  Result<void> listen();
  bool admit(const std::string& peer);
  void release(const std::string& peer);
  void make_room();
  int count(int more) {
    const std::scoped_lock lock(mutex);
    n_connections += more;
    changed.notify_all();
    return n_connections;
  }
};

bool HttpServer::Core::admit(const std::string& peer) {
  if (count(0) >= host.options.connections_max) make_room();
  const auto of_peer = peers.try_emplace(network_of(peer), 0).first;
  if (count(0) >= host.options.connections_max || of_peer->second >= host.options.connections_per_peer_max) {
    if (of_peer->second == 0) peers.erase(of_peer);
    return false;
  }
  ++of_peer->second;
  count(1);
  return true;
}

void HttpServer::Core::release(const std::string& peer) {
  if (const auto found = peers.find(network_of(peer)); found != peers.end() && --found->second == 0) peers.erase(found);
  count(-1);
}

// A connection that only waits gives way to one that wants something.
void HttpServer::Core::make_room() {
  std::shared_ptr<HttpConnection> longest;
  for (const auto& connection : connections) {
    if (connection->idle_since() && (!longest || *connection->idle_since() < *longest->idle_since()))
      longest = connection;
  }
  if (longest) longest->close();
}

Result<void> HttpServer::Core::listen() {
  for (const HttpServerOptions::Listen& wanted : host.options.listen) {
    CHECK(!wanted.tls || tls != nullptr);
    EventLoop::Accepting accepting;
    accepting.handshake_time = host.options.head_time;
    accepting.admit = [this](const std::string& peer) { return admit(peer); };
    accepting.failed = [this](const std::string& peer) { release(peer); };
    const HttpConnection::Origin origin{.local = wanted.address.loopback(), .door = wanted.door};
    accepting.accepted = [this, origin](std::shared_ptr<Socket> socket) {
      auto connection = std::make_shared<HttpConnection>(host, std::move(socket), origin);
      connections.insert(connection);
      connection->start();
    };
    if (wanted.site) accepting.tls = [site = wanted.site] { return site; };
    if (wanted.tls) {
      accepting.tls = [this] {
        const std::scoped_lock lock(mutex);
        return tls;
      };
    }
    listeners.push_back(TRY(host.loop->listen(wanted.address, std::move(accepting))));
    ports.push_back(listeners.back()->port());
  }
  return {};
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options, Handler handler) {
  auto core = std::make_shared<Core>();
  core->tls = options.tls;
  core->host.options = std::move(options);
  core->host.handler = std::move(handler);
  core->host.loop = TRY(EventLoop::create());
  core->host.connection_closed = [core = core.get()](const HttpConnection& connection) {
    core->release(connection.socket().peer());
    std::erase_if(core->connections, [&](const auto& each) { return each.get() == &connection; });
  };
  TRY(core->listen());
  core->host.workers = std::make_shared<HttpWorkers>(core->host.options.n_workers);
  core->thread = std::jthread([loop = core->host.loop] { loop->run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

HttpServer::HttpServer(std::shared_ptr<Core> core) : core_(std::move(core)) {}

HttpServer::~HttpServer() {
  core_->host.loop->post([core = core_.get()] {
    core->listeners.clear();
    for (const auto& connection : std::set(core->connections)) connection->close();
  });
  core_->host.loop->close();
  core_->thread.join();
  core_->host.workers->close();
}

const std::vector<uint16_t>& HttpServer::ports() const { return core_->ports; }

void HttpServer::set_tls(std::shared_ptr<TlsContext> tls) {
  const std::scoped_lock lock(core_->mutex);
  core_->tls = std::move(tls);
}

int HttpServer::connections() const { return core_->count(0); }

bool HttpServer::responds(std::chrono::milliseconds patience) const {
  const auto there = std::make_shared<std::promise<void>>();
  core_->host.loop->post([workers = core_->host.workers, there] {
    workers->post(std::make_shared<HttpWorkers::Lane>(), [there] { there->set_value(); });
  });
  return there->get_future().wait_for(patience) == std::future_status::ready;
}

bool HttpServer::drain(std::chrono::milliseconds patience) {
  core_->host.loop->post([core = core_.get()] {
    core->host.draining = true;
    for (const auto& listener : core->listeners) listener->close();
    for (const auto& connection : std::set(core->connections)) connection->close_if_idle();
  });
  std::unique_lock lock(core_->mutex);
  return core_->changed.wait_for(lock, patience, [&] { return core_->n_connections == 0; });
}

}  // namespace hearth
