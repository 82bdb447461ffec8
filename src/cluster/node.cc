#include "cluster/node.h"

#include <algorithm>

#include "base/limits.h"
#include "base/log.h"
#include "cluster/frame_link.h"
#include "cluster/node_session.h"

namespace hearth::cluster {
namespace {

constexpr std::chrono::milliseconds kLook{200}, kHandshake{10'000};
// Somebody who was told earlier asks for pieces of a model that this machine is about to be told to fetch.
constexpr std::chrono::seconds kToldSoon{2};

}  // namespace

Result<std::unique_ptr<Node>> Node::start(NodeOptions options) {
  std::unique_ptr<Node> node(new Node(std::move(options)));
  node->listener_ = TRY(PeerListener::listen(node->options_.listen));
  node->thread_ = std::jthread([raw = node.get()](const std::stop_token& stop) { raw->accept(stop); });
  return node;
}

Node::~Node() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    fetched_.notify_all();
    for (const auto& [id, session] : sessions_) session->end();
    for (const auto& weak : links_)
      if (const auto link = weak.lock()) link->close();
  }
  connections_.clear();
}

NodeStats Node::stats() const {
  return {.connections = n_connections_,
          .refused = n_refused_,
          .assignments = n_assignments_,
          .steps = n_steps_,
          .stale_steps = n_stale_,
          .given_bytes = n_given_,
          .stale_owners = n_stale_owners_,
          .head_answers = n_head_answers_};
}

std::vector<MemberStage> Node::stages() const {
  std::vector<MemberStage> all;
  const std::scoped_lock lock(mutex_);
  for (const auto& [id, session] : sessions_)
    if (auto stage = session->stage(); stage.end > 0) all.push_back(std::move(stage));
  return all;
}

// Of a chain that has a name its owner's term is in the upper half of the epoch. Who has an older one than was seen here is told
// whose the chain is, and that is all it gets.
bool Node::check_owner(PeerLink& link, uint64_t epoch, const SessionId& id) {
  const uint64_t term = epoch >> 32;
  if (term == 0 || !options_.terms) return true;
  std::string key;
  for (const std::byte byte : id) key += fmt::format("{:02x}", static_cast<unsigned>(byte));
  const auto raised = options_.terms->raise(key, {.term = term, .owner = link.peer()});
  if (raised) return true;
  ++n_stale_owners_;
  LOG(kWarning, "{}: {}", link.peer(), raised.error().message);
  (void)link.send_all(to_bytes({epoch, 0, Failure{Failure::Of::kOwner, raised.error().message}}), kHandshake);
  return false;
}

void Node::accept(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    auto accepted = listener_->accept(kLook);
    if (!accepted) {
      LOG(kWarning, "{}", accepted.error().message);
      std::this_thread::sleep_for(kLook);  // such as: too many open files
      continue;
    }
    if (*accepted)
      take(std::move(*accepted));
    else
      end_finished();
  }
}

void Node::end_finished() {
  const std::scoped_lock lock(connections_mutex_);
  std::erase_if(connections_, [](const Connection& connection) { return connection.over.load(); });
}

void Node::take(Descriptor accepted) {
  end_finished();
  const std::scoped_lock lock(connections_mutex_);
  if (connections_.size() >= static_cast<size_t>(limits::kNodeConnections)) {
    ++n_refused_;
    return;
  }
  ++n_connections_;
  Connection& connection = connections_.emplace_back();
  connection.thread = std::jthread([this, &connection, fd = std::move(accepted)]() mutable {
    serve(std::move(fd));
    connection.over = true;
  });
}

std::shared_ptr<NodeSession> Node::find(const SessionId& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second;
}

void Node::serve(Descriptor accepted) {
  auto shaken = PeerListener::shake_hands(*options_.tls, std::move(accepted), kHandshake);
  if (!shaken) {
    ++n_refused_;
    LOG(kInfo, "{}", shaken.error().message);
    return;
  }
  const std::shared_ptr<PeerLink> link = std::move(*shaken);
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(links_, [](const auto& weak) { return weak.expired(); });
    if (ending_) return;
    links_.push_back(link);
  }
  FrameReader reader;
  const auto first = next_frame(*link, reader, kHandshake);
  const auto* hello = first ? std::get_if<Hello>(&first->message) : nullptr;
  if (hello && hello->link == LinkClass::kPieces) return serve_pieces(*link, reader);
  const auto session = hello && hello->link != LinkClass::kControl ? find(hello->session) : nullptr;
  if (!hello || (hello->link != LinkClass::kControl && !session)) {
    ++n_refused_;
    LOG(kWarning, "{}: {}", link->peer(), first ? "a connection of no session" : first.error().message);
    return;
  }
  if (hello->link == LinkClass::kControl) {
    if (check_owner(*link, first->epoch, hello->session)) serve_control(link, reader, hello->session);
    return;
  }
  if (hello->link == LinkClass::kSteps) return serve_steps(*link, reader, *session);
  if (hello->link == LinkClass::kCopies) return serve_copies(*link, reader, *session);
  session->answer_on(link);
  (void)next_frame(*link, reader, kForever);  // nothing comes but its end
}

void Node::serve_control(const std::shared_ptr<PeerLink>& link, FrameReader& reader, const SessionId& id) {
  const auto session = std::make_shared<NodeSession>(*this, id, link);
  {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<NodeSession>& place = sessions_[id];
    if (place) place->end();  // its owner gave that connection up
    place = session;
  }
  if (away_) session->tell_leaving();
  for (;;) {
    auto frame = next_frame(*link, reader, kForever);
    if (!frame) {
      LOG(kInfo, "{}", frame.error().message);
      break;
    }
    if (std::holds_alternative<Ping>(frame->message)) {
      if (!link->send_all(to_bytes(session->pong(frame->epoch)), kHandshake)) break;
    } else if (auto* assign = std::get_if<Assign>(&frame->message)) {
      session->assign(frame->epoch, std::move(*assign));
    } else if (const auto* rows = std::get_if<HeadRows>(&frame->message)) {
      session->head(frame->epoch, frame->step, *rows);
    } else if (auto* copy = std::get_if<CopyTo>(&frame->message)) {
      session->copy_to(frame->epoch, std::move(*copy));
    } else if (auto* piece = std::get_if<PackPiece>(&frame->message)) {
      session->take_piece(std::move(*piece));
    } else {
      ++n_refused_;
      break;
    }
  }
  session->end();
  const std::scoped_lock lock(mutex_);
  if (const auto found = sessions_.find(id); found != sessions_.end() && found->second == session)
    sessions_.erase(found);
  session_ended_.notify_all();
}

std::vector<std::shared_ptr<NodeSession>> Node::sessions() const {
  std::vector<std::shared_ptr<NodeSession>> all;
  const std::scoped_lock lock(mutex_);
  for (const auto& [id, session] : sessions_) all.push_back(session);
  return all;
}

void Node::set_away(bool away) {
  if (away_.exchange(away) == away || !away) return;  // owners look by themselves who is back
  for (const auto& session : sessions()) session->tell_leaving();
}

void Node::leave(std::chrono::milliseconds patience) {
  for (const auto& session : sessions()) session->tell_leaving();
  std::unique_lock lock(mutex_);
  session_ended_.wait_for(lock, patience, [&] {
    // Nobody loses anything with a head.
    return std::ranges::all_of(sessions_, [](const auto& each) { return each.second->has_head_alone(); });
  });
}

void Node::serve_copies(PeerLink& link, FrameReader& reader, NodeSession& session) {
  for (;;) {
    auto frame = next_frame(link, reader, kForever);
    if (!frame) return;
    const auto* part = std::get_if<CopyPart>(&frame->message);
    if (!part) ++n_refused_;
    if (!part || !session.take_copy(frame->epoch, frame->step, *part)) return;
  }
}

void Node::serve_steps(PeerLink& link, FrameReader& reader, NodeSession& session) {
  for (;;) {
    auto frame = next_frame(link, reader, kForever);
    if (!frame) return;
    auto* step = std::get_if<Step>(&frame->message);
    if (!step) {
      ++n_refused_;
      return;
    }
    session.step(frame->epoch, frame->step, std::move(*step));
  }
}

// What is still to come is waited for: who asks takes it from the owner if it gets nothing.
void Node::serve_pieces(PeerLink& link, FrameReader& reader) {
  for (;;) {
    auto frame = next_frame(link, reader, kForever);
    if (!frame) return;
    const auto* want = std::get_if<Want>(&frame->message);
    if (!want) {
      ++n_refused_;
      return;
    }
    PackPiece piece{want->offset, {}};
    for (uint64_t seen = ~0ull;;) {
      {
        std::unique_lock lock(mutex_);
        if (seen == n_fetched_)
          fetched_.wait(lock, [&] { return ending_ || seen != n_fetched_ || !fetching_.contains(want->model); });
        if (ending_) return;
        seen = n_fetched_;
      }
      if (auto bytes = options_.read_piece(*want)) piece.bytes = std::move(*bytes);
      if (!piece.bytes.empty()) break;
      std::unique_lock lock(mutex_);
      if (!fetched_.wait_for(lock, kToldSoon, [&] { return ending_ || fetching_.contains(want->model); })) break;
    }
    n_given_ += piece.bytes.size();
    if (!link.send_all(to_bytes({0, 0, std::move(piece)}), kHandshake)) return;
  }
}

void Node::begin_fetch(const Digest& model) {
  const std::scoped_lock lock(mutex_);
  fetching_.insert(model);
  fetched_.notify_all();
}
void Node::fetched_piece() {
  const std::scoped_lock lock(mutex_);
  ++n_fetched_;
  fetched_.notify_all();
}
void Node::end_fetch(const Digest& model) {
  const std::scoped_lock lock(mutex_);
  fetching_.erase(fetching_.find(model));
  fetched_.notify_all();
}

}  // namespace hearth::cluster
