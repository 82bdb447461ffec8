#include "cluster/node_session.h"

#include <algorithm>
#include <map>

#include "base/log.h"
#include "cluster/frame_link.h"

namespace hearth::cluster {
namespace {

constexpr std::chrono::milliseconds kDialPatience{1000}, kSendPatience{30'000};
constexpr std::chrono::seconds kPathPatience{5}, kPiecePatience{60};

// A connection to another node for pieces of a pack, made when it is first needed. Once it has failed nothing more comes from it.
class PieceLink {
 public:
  Result<std::vector<std::byte>> ask(const SiteTls& tls, const std::string& address, const SessionId& id,
                                     const Want& want) {
    if (failed_) return std::vector<std::byte>();
    auto piece = try_to_ask(tls, address, id, want);
    failed_ = !piece;
    return piece;
  }

 private:
  Result<std::vector<std::byte>> try_to_ask(const SiteTls& tls, const std::string& address, const SessionId& id,
                                            const Want& want) {
    if (!link_) {
      const ListenAddress to = TRY(parse_listen_address(address));
      link_ = TRY(PeerLink::dial(tls, to, kDialPatience));
      TRY(link_->send_all(to_bytes({0, 0, Hello{LinkClass::kPieces, id}}), kSendPatience));
    }
    TRY(link_->send_all(to_bytes({0, 0, want}), kSendPatience));
    Frame frame = TRY(next_frame(*link_, reader_, kPiecePatience));
    auto* piece = std::get_if<PackPiece>(&frame.message);
    if (!piece || piece->offset != want.offset) return fail(Code::kMalformed, "something else than a piece");
    return std::move(piece->bytes);
  }

  std::unique_ptr<PeerLink> link_;
  FrameReader reader_;
  bool failed_ = false;
};

}  // namespace

void NodeSession::assign(uint64_t epoch, Assign assignment) {
  {
    const std::scoped_lock lock(mutex_);
    // Whoever still sends a step of the old epoch on is not waited for.
    if (next_link_) next_link_->close();
    if (answers_) answers_->close();
    next_link_ = answers_ = nullptr;
    next_ = assignment.next;
    pieces_.clear();
    assigned_ = epoch;
    changed_.notify_all();
  }
  // Pings are answered meanwhile: not even the end of an earlier assignment is waited for here.
  loader_ = std::jthread([this, epoch, assignment = std::move(assignment), before = std::move(loader_)]() mutable {
    if (before.joinable()) before.join();
    load(epoch, assignment);
  });
}

void NodeSession::load(uint64_t epoch, const Assign& assignment) {
  const std::scoped_lock lock(steps_mutex_);
  if (!steps_.begin(epoch)) return;  // an older one
  ++node_.n_assignments_;
  auto made = make_stage(assignment);
  if (!made) {
    stage_.reset();
    return fail_with(epoch, made.error().message, false);
  }
  {
    const std::scoped_lock state(mutex_);
    told_ = {.owner = control_->peer(),
             .model = to_hex(assignment.model),
             .first = assignment.layers.first,
             .end = assignment.layers.end,
             .epoch = epoch};
  }
  (void)control_->send_all(to_bytes({epoch, 0, Ready{}}), kSendPatience);
  LOG(kInfo, "epoch {}: layers {} to {} for {}", epoch, assignment.layers.first, assignment.layers.end,
      control_->peer());
}

Result<void> NodeSession::make_stage(const Assign& assignment) {
  const StageOptions options{.layers = assignment.layers,
                             .context = static_cast<int>(assignment.context),
                             .rows_max = static_cast<int>(assignment.rows_max),
                             .sequences = {.kv_type = assignment.kv_type,
                                           .positions_max = static_cast<int>(assignment.positions_max),
                                           .sequences_max = static_cast<int>(assignment.sequences_max)}};
  if (stage_ && model_ == assignment.model && same(stage_->options(), options)) return stage_->reset();
  stage_.reset();
  checkpoint_.reset();
  const uint64_t epoch = steps_.epoch();
  checkpoint_ = TRY(open_model(epoch, assignment));
  if (assignment.keep) return {};
  model_ = assignment.model;
  const std::scoped_lock compute(node_.compute_);
  stage_ = TRY(Stage::create(*checkpoint_, *node_.options_.backend, options));
  return {};
}

// From this machine, the owner, or others that fetch the same.
Result<Checkpoint> NodeSession::open_model(uint64_t epoch, const Assign& assignment) {
  std::map<std::string, PieceLink> links;
  PackSources sources;
  sources.owner = [&](uint64_t offset, uint32_t bytes) { return fetch(epoch, offset, bytes); };
  sources.fetched = [&] { node_.fetched_piece(); };
  sources.peer = [&](const PartPeer& peer, const Want& want) {
    PieceLink& link = links[peer.address];
    auto piece = link.ask(*node_.options_.tls, peer.address, id_, want);
    if (!piece) LOG(kInfo, "{}: no pieces from there: {}", peer.address, piece.error().message);
    return piece ? std::move(*piece) : std::vector<std::byte>();
  };
  node_.begin_fetch(assignment.model);
  auto opened = node_.options_.open_model(assignment, sources);
  node_.end_fetch(assignment.model);
  return opened;
}

Result<std::vector<std::byte>> NodeSession::fetch(uint64_t epoch, uint64_t offset, uint32_t bytes) {
  TRY(control_->send_all(to_bytes({epoch, 0, Fetch{offset, bytes}}), kSendPatience));
  std::unique_lock lock(mutex_);
  const bool came =
      changed_.wait_for(lock, kPiecePatience, [&] { return over_ || assigned_ != epoch || !pieces_.empty(); });
  if (over_ || assigned_ != epoch) return fail(Code::kCancelled, "the assignment is over");
  if (!came) return fail(Code::kIo, "the owner sends no piece of the model");
  PackPiece piece = std::move(pieces_.front());
  pieces_.pop_front();
  if (piece.offset != offset || piece.bytes.size() > bytes)
    return fail(Code::kMalformed, "a piece of {} bytes at {} instead of {} at {}", piece.bytes.size(), piece.offset,
                bytes, offset);
  return std::move(piece.bytes);
}

void NodeSession::take_piece(PackPiece piece) {
  const std::scoped_lock lock(mutex_);
  if (!pieces_.empty()) return;  // one is asked for at a time
  pieces_.push_back(std::move(piece));
  changed_.notify_all();
}

void NodeSession::step(uint64_t epoch, uint64_t number, Step step) {
  const std::scoped_lock lock(steps_mutex_);
  switch (steps_.on_step(epoch, number)) {
    case StageSteps::Do::kIgnore:
      if (epoch != steps_.epoch()) ++node_.n_stale_;
      return;
    case StageSteps::Do::kRepeat:
      return send_on(epoch, steps_.answer(number));
    case StageSteps::Do::kRun:
      break;
  }
  if (!stage_) return;
  Result<void> ran;
  {
    const std::scoped_lock compute(node_.compute_);
    ran = stage_->run(step.ops, step.rows, step.hidden);
  }
  if (!ran) return fail_with(epoch, ran.error().message, false);
  ++node_.n_steps_;
  LOG(kDebug, "epoch {} step {}", epoch, number);
  bool last;
  {
    const std::scoped_lock state(mutex_);
    last = next_.empty();
    ++told_.steps;
  }
  auto bytes = last ? to_bytes({epoch, number, StepAnswer{std::move(step.hidden)}})
                    : step_bytes(epoch, number, step.ops, step.rows, step.hidden);
  send_on(epoch, bytes);
  steps_.ran(number, std::move(bytes));
}

// With the lock on steps held.
void NodeSession::send_on(uint64_t epoch, std::span<const std::byte> bytes) {
  const auto way = way_on(epoch);
  if (!way) return fail_with(epoch, way.error().message, true);
  if (auto sent = (*way)->send_all(bytes, kSendPatience); !sent) fail_with(epoch, sent.error().message, true);
}

Result<std::shared_ptr<PeerLink>> NodeSession::way_on(uint64_t epoch) {
  std::string next;
  {
    std::unique_lock lock(mutex_);
    if (next_.empty()) {
      if (!changed_.wait_for(lock, kPathPatience, [&] { return over_ || assigned_ != epoch || answers_; }) || !answers_)
        return fail(Code::kIo, "no connection for answers");
      return answers_;
    }
    if (next_link_) return next_link_;
    next = next_;
  }
  auto dialled = PeerLink::dial(*node_.options_.tls, TRY(parse_listen_address(next)), kDialPatience);
  if (!dialled) return std::unexpected(dialled.error());
  std::shared_ptr<PeerLink> link = std::move(*dialled);
  TRY(link->send_all(to_bytes({epoch, 0, Hello{LinkClass::kSteps, id_}}), kSendPatience));
  const std::scoped_lock lock(mutex_);
  if (next != next_) return fail(Code::kCancelled, "another stage is next by now");
  return next_link_ = std::move(link);
}

MemberStage NodeSession::stage() const {
  const std::scoped_lock lock(mutex_);
  return told_;
}

void NodeSession::answer_on(std::shared_ptr<PeerLink> link) {
  const std::scoped_lock lock(mutex_);
  answers_ = std::move(link);
  changed_.notify_all();
}

void NodeSession::fail_with(uint64_t epoch, const std::string& message, bool of_next) {
  LOG(kWarning, "epoch {} for {}: {}", epoch, control_->peer(), message);
  (void)control_->send_all(to_bytes({epoch, 0, Failure{of_next, message}}), kSendPatience);
}

void NodeSession::end() {
  {
    const std::scoped_lock lock(mutex_);
    over_ = true;
    if (next_link_) next_link_->close();
    if (answers_) answers_->close();
    changed_.notify_all();
  }
  control_->close();
}

}  // namespace hearth::cluster
