// A machine that runs stages for owners elsewhere: takes connections of its site, loads the layers it is told to, runs steps.
//
// Threads: one that accepts, one for each connection, and one for each assignment while it loads. One computes at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "cluster/lease.h"
#include "cluster/members.h"
#include "cluster/wire.h"
#include "net/peer_link.h"

namespace hearth::cluster {

class NodeSession;

// Where a node gets a pack from.
struct PackSources {
  // Who has all of it: so many bytes, or fewer at the file's end.
  std::function<Result<std::vector<std::byte>>(uint64_t offset, uint32_t bytes)> owner;
  // Another that fetches the same: no bytes if it cannot give them.
  std::function<std::vector<std::byte>(const PartPeer& peer, const Want& want)> peer;
  // To be called after each piece that came and can be read.
  std::function<void()> fetched;
};

struct NodeOptions {
  ListenAddress listen;
  std::shared_ptr<SiteTls> tls;
  std::shared_ptr<Backend> backend;
  // A model's pack with at least what is assigned, from this machine or through `sources`. On any thread.
  std::function<Result<Checkpoint>(const Assign& assignment, const PackSources& sources)> open_model;
  // A piece of what it has or is getting of a pack, for others of the site; kNotFound. On any thread.
  std::function<Result<std::vector<std::byte>>(const Want& want)> read_piece;
  // The highest term of each chain, by session; null: no chain has an owner before.
  std::shared_ptr<TermFile> terms{};
};

struct NodeStats {
  uint64_t connections = 0, refused = 0;  // connections that were none of the site, or said nonsense
  uint64_t assignments = 0, steps = 0;
  uint64_t stale_steps = 0;  // of epochs that are over
  uint64_t given_bytes = 0;  // of packs, to other nodes
  uint64_t stale_owners = 0;
  uint64_t head_answers = 0;
};

class Node {
 public:
  static Result<std::unique_ptr<Node>> start(NodeOptions options);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  [[nodiscard]] uint16_t port() const { return listener_->port(); }
  // A connection; also one that did not come to the port. From any thread.
  void take(Descriptor accepted);
  [[nodiscard]] NodeStats stats() const;
  // What runs here, for whom.
  [[nodiscard]] std::vector<MemberStage> stages() const;
  // Wants no layers for now, or again; owners take them elsewhere if there is anywhere. Any thread.
  void set_away(bool away);
  // Tells all owners that this machine will end, and waits until none has layers here, or for so long.
  void leave(std::chrono::milliseconds patience);

 private:
  friend class NodeSession;
  struct Connection {
    std::atomic<bool> over{false};
    std::jthread thread;
  };

  explicit Node(NodeOptions options) : options_(std::move(options)) {}
  void accept(const std::stop_token& stop);
  void end_finished();
  [[nodiscard]] std::vector<std::shared_ptr<NodeSession>> sessions() const;
  void serve(Descriptor accepted);
  void serve_control(const std::shared_ptr<PeerLink>& link, FrameReader& reader, const SessionId& id);
  bool check_owner(PeerLink& link, uint64_t epoch, const SessionId& id);
  void serve_steps(PeerLink& link, FrameReader& reader, NodeSession& session);
  void serve_pieces(PeerLink& link, FrameReader& reader);
  // A model is being fetched, a piece of it came, or it ended.
  void begin_fetch(const Digest& model);
  void fetched_piece();
  void end_fetch(const Digest& model);
  void serve_copies(PeerLink& link, FrameReader& reader, NodeSession& session);
  std::shared_ptr<NodeSession> find(const SessionId& id) const;

  NodeOptions options_;
  std::unique_ptr<PeerListener> listener_;
  mutable std::mutex mutex_;
  std::map<SessionId, std::shared_ptr<NodeSession>> sessions_;
  std::list<std::weak_ptr<PeerLink>> links_;
  std::condition_variable session_ended_;
  bool ending_ = false;
  std::atomic<bool> away_{false};
  std::mutex compute_;  // the backend is one thread's at a time
  std::atomic<uint64_t> n_connections_{0}, n_refused_{0}, n_assignments_{0}, n_steps_{0}, n_stale_{0}, n_given_{0},
      n_stale_owners_{0}, n_head_answers_{0};
  std::condition_variable fetched_;  // with mutex_
  std::multiset<Digest> fetching_;
  uint64_t n_fetched_ = 0;
  std::mutex connections_mutex_;
  std::list<Connection> connections_;
  std::jthread thread_;  // last: joins before anything above goes
};

}  // namespace hearth::cluster
