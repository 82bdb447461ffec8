// A machine that runs stages for owners elsewhere: takes connections of its site, loads the layers it is told to, runs steps.
//
// Threads: one that accepts, one for each connection, and one for each assignment while it loads. One computes at a time.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "cluster/wire.h"
#include "net/peer_link.h"

namespace hearth::cluster {

class NodeSession;

// Reads parts of a pack from an owner that has all of it: so many bytes, or fewer at the file's end.
using FetchPack = std::function<Result<std::vector<std::byte>>(uint64_t offset, uint32_t bytes)>;

struct NodeOptions {
  ListenAddress listen;
  std::shared_ptr<SiteTls> tls;
  std::shared_ptr<Backend> backend;
  // A model's pack with at least the assigned layers, from this machine or through `fetch`. On any thread.
  std::function<Result<Checkpoint>(const Assign& assignment, const FetchPack& fetch)> open_model;
};

struct NodeStats {
  uint64_t connections = 0, refused = 0;  // connections that were none of the site, or said nonsense
  uint64_t assignments = 0, steps = 0;
  uint64_t stale_steps = 0;  // of epochs that are over
};

class Node {
 public:
  static Result<std::unique_ptr<Node>> start(NodeOptions options);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  [[nodiscard]] uint16_t port() const { return listener_->port(); }
  [[nodiscard]] NodeStats stats() const;

 private:
  friend class NodeSession;
  struct Connection {
    std::atomic<bool> over{false};
    std::jthread thread;
  };

  explicit Node(NodeOptions options) : options_(std::move(options)) {}
  void accept(const std::stop_token& stop);
  void serve(Descriptor accepted);
  void serve_control(const std::shared_ptr<PeerLink>& link, FrameReader& reader, const SessionId& id);
  void serve_steps(PeerLink& link, FrameReader& reader, NodeSession& session);
  std::shared_ptr<NodeSession> find(const SessionId& id) const;

  NodeOptions options_;
  std::unique_ptr<PeerListener> listener_;
  mutable std::mutex mutex_;
  std::map<SessionId, std::shared_ptr<NodeSession>> sessions_;
  std::list<std::weak_ptr<PeerLink>> links_;
  bool ending_ = false;
  std::mutex compute_;  // the backend is one thread's at a time
  std::atomic<uint64_t> n_connections_{0}, n_refused_{0}, n_assignments_{0}, n_steps_{0}, n_stale_{0};
  std::list<Connection> connections_;
  std::jthread thread_;  // last: joins before anything above goes
};

}  // namespace hearth::cluster
