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

StageOptions options_of(const Assign& assignment, LayerRange layers) {
  return {.layers = layers,
          .context = static_cast<int>(assignment.context),
          .rows_max = static_cast<int>(assignment.rows_max),
          .sequences = {.kv_type = assignment.kv_type,
                        .positions_max = static_cast<int>(assignment.positions_max),
                        .sequences_max = static_cast<int>(assignment.sequences_max)}};
}

Ready ready_after(std::chrono::microseconds warm_up) {
  return {.warm_up_us = static_cast<uint32_t>(std::min<int64_t>(warm_up.count(), UINT32_MAX))};
}

}  // namespace

void NodeSession::assign(uint64_t epoch, Assign assignment) {
  {
    const std::scoped_lock lock(mutex_);
    if (epoch < assigned_) return;
    if (assignment.kind != Assign::Kind::kCopy) {
      // Whoever still sends a step of the old epoch on, or a copy, is not waited for.
      if (next_link_) next_link_->close();
      if (answers_) answers_->close();
      for (const auto& [piece, link] : copy_links_) link->close();
      next_link_ = answers_ = nullptr;
      next_ = assignment.next;
      rows_as_ = assignment.rows;
      pieces_of_pack_.clear();
    }
    assigned_ = epoch;
    changed_.notify_all();
  }
  has_head_alone_ = assignment.kind == Assign::Kind::kHead;
  // Pings are answered meanwhile: not even the end of an earlier assignment is waited for here.
  loader_ = std::jthread([this, epoch, assignment = std::move(assignment), before = std::move(loader_)]() mutable {
    if (before.joinable()) before.join();
    if (assignment.kind == Assign::Kind::kFresh) return load(epoch, assignment);
    if (assignment.kind == Assign::Kind::kHead) return load_head(epoch, assignment);
    assignment.kind == Assign::Kind::kCopy ? load_copy(epoch, assignment) : resume(epoch, assignment);
  });
}

void NodeSession::load(uint64_t epoch, const Assign& assignment) {
  const std::scoped_lock lock(steps_mutex_);
  auto had = pieces_.take_pieces();
  if (!pieces_.begin(epoch)) return pieces_.set_pieces(std::move(had));  // an older one
  ++node_.n_assignments_;
  if (assignment.keep) {
    if (const auto opened = open_model(epoch, assignment); !opened)
      return fail_with(epoch, opened.error().message, Failure::Of::kMachine);
    return say(epoch, Ready{});
  }
  std::vector<Pieces::Piece> made;
  for (int first = assignment.layers.first; first < assignment.layers.end; first = made.back().range.end) {
    const auto cut = std::ranges::find_if(assignment.cuts, [&](uint32_t at) { return std::cmp_greater(at, first); });
    const LayerRange range{first, cut == assignment.cuts.end() ? assignment.layers.end : static_cast<int>(*cut)};
    const auto same_place = std::ranges::find_if(had, [&](const Pieces::Piece& piece) {
      return piece.layers.model == assignment.model &&
             same(piece.layers.stage->options(), options_of(assignment, range));
    });
    if (same_place != had.end() && same_place->layers.stage->reset()) {
      same_place->steps.set_done(0);
      made.push_back(std::move(*same_place));
      had.erase(same_place);
      continue;
    }
    auto piece = make_piece(epoch, assignment, range);
    if (!piece) return fail_with(epoch, piece.error().message, Failure::Of::kMachine);
    if (static_cast<uint32_t>(epoch) == 1) {  // later ones are waited for
      const std::scoped_lock compute(node_.compute_);
      const auto warm_up = piece->layers.stage->warm_up();
      if (!warm_up) return fail_with(epoch, warm_up.error().message, Failure::Of::kMachine);
      piece->layers.warm_up = *warm_up;
    }
    made.push_back(std::move(*piece));
  }
  std::chrono::microseconds warm_up{};
  for (const Pieces::Piece& piece : made) warm_up += piece.layers.warm_up;
  pieces_.set_pieces(std::move(made));
  tell(epoch, assignment.layers, assignment.model);
  say(epoch, ready_after(warm_up));
  LOG(kInfo, "epoch {}: layers {} to {} for {}", epoch, assignment.layers.first, assignment.layers.end,
      control_->peer());
}

// For people: what runs here from now on.
void NodeSession::tell(uint64_t epoch, LayerRange layers, const Digest& model) {
  const std::scoped_lock lock(mutex_);
  told_ = {.owner = control_->peer(),
           .model = to_hex(model),
           .first = layers.first,
           .end = layers.end,
           .epoch = epoch,
           .steps = told_.steps};
}

void NodeSession::resume(uint64_t epoch, const Assign& assignment) {
  const std::scoped_lock lock(steps_mutex_);
  const auto state = pieces_.resume(epoch, assignment.layers);
  if (!state) return;
  ++node_.n_assignments_;
  tell(epoch, state->there ? assignment.layers : LayerRange{}, assignment.model);
  say(epoch, Ready{state->there, state->done, state->oldest});
  LOG(kInfo, "epoch {}: layers {} to {} for {} {}", epoch, assignment.layers.first, assignment.layers.end,
      control_->peer(), state->there ? "with their state" : "are not here");
}

// Beside the steps, which it must not hold up.
void NodeSession::load_copy(uint64_t epoch, const Assign& assignment) {
  auto piece = make_piece(epoch, assignment, assignment.layers);
  if (!piece) {
    LOG(kWarning, "epoch {} for {}: no copy of layers {} to {}: {}", epoch, control_->peer(), assignment.layers.first,
        assignment.layers.end, piece.error().message);
    return;
  }
  {
    const std::scoped_lock lock(steps_mutex_);
    (void)pieces_.begin(epoch);  // if it has copies only
    if (pieces_.epoch() != epoch) return;
    pieces_.add_copy(std::move(*piece));
  }
  say(epoch, Copied{assignment.layers, false, 0});
}

void NodeSession::load_head(uint64_t epoch, const Assign& assignment) {
  std::chrono::microseconds warm_up{};
  auto made = make_head(epoch, assignment, warm_up);
  if (!made) return fail_with(epoch, made.error().message, Failure::Of::kMachine);
  {
    const std::scoped_lock lock(steps_mutex_);
    head_ = std::move(*made);
  }
  ++node_.n_assignments_;
  say(epoch, ready_after(warm_up));
  LOG(kInfo, "the head of a model for {}", control_->peer());
}

Result<NodeSession::LoadedHead> NodeSession::make_head(uint64_t epoch, const Assign& assignment,
                                                       std::chrono::microseconds& warm_up) {
  LoadedHead made;
  made.checkpoint = std::make_unique<Checkpoint>(TRY(open_model(epoch, assignment)));
  const std::scoped_lock compute(node_.compute_);
  made.stage = TRY(HeadStage::create(*made.checkpoint, *node_.options_.backend));
  warm_up = TRY(made.stage->warm_up());
  return made;
}

void NodeSession::head(uint64_t epoch, uint64_t number, const HeadRows& rows) {
  Result<HeadAnswer> answer = fail(Code::kInvalidArgument, "rows for a head that is not here");
  {
    const std::scoped_lock lock(steps_mutex_);
    const std::scoped_lock compute(node_.compute_);
    if (head_.stage) answer = head_.stage->run(rows);
  }
  if (!answer) return fail_with(epoch, answer.error().message, Failure::Of::kMachine);
  ++node_.n_head_answers_;
  LOG(kDebug, "rows {} of a head", number);
  (void)control_->send_all(to_bytes({epoch, number, std::move(*answer)}), kSendPatience);
}

Result<NodeSession::Pieces::Piece> NodeSession::make_piece(uint64_t epoch, const Assign& assignment, LayerRange range) {
  Loaded made{.checkpoint = nullptr, .stage = nullptr, .model = assignment.model};
  made.checkpoint = std::make_unique<Checkpoint>(TRY(open_model(epoch, assignment)));
  const std::scoped_lock compute(node_.compute_);
  made.stage = TRY(Stage::create(*made.checkpoint, *node_.options_.backend, options_of(assignment, range)));
  const size_t kept = steps_kept(step_bytes_max(made.stage->config()));
  return Pieces::Piece{.range = range, .layers = std::move(made), .steps = StageSteps<Step>(kept)};
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
      changed_.wait_for(lock, kPiecePatience, [&] { return over_ || assigned_ != epoch || !pieces_of_pack_.empty(); });
  if (over_ || assigned_ != epoch) return fail(Code::kCancelled, "the assignment is over");
  if (!came) return fail(Code::kIo, "the owner sends no piece of the model");
  PackPiece piece = std::move(pieces_of_pack_.front());
  pieces_of_pack_.pop_front();
  if (piece.offset != offset || piece.bytes.size() > bytes)
    return fail(Code::kMalformed, "a piece of {} bytes at {} instead of {} at {}", piece.bytes.size(), piece.offset,
                bytes, offset);
  return std::move(piece.bytes);
}

void NodeSession::take_piece(PackPiece piece) {
  const std::scoped_lock lock(mutex_);
  if (!pieces_of_pack_.empty()) return;  // one is asked for at a time
  pieces_of_pack_.push_back(std::move(piece));
  changed_.notify_all();
}

void NodeSession::step(uint64_t epoch, uint64_t number, Step step) {
  const std::scoped_lock lock(steps_mutex_);
  Result<void> ran;
  bool repeated = true;
  const auto run = [&](Loaded& layers, Step& data) {
    repeated = false;
    const std::scoped_lock compute(node_.compute_);
    set_busy(true);
    ran = layers.stage->run(data.ops, data.rows, data.hidden);
    set_busy(false);
    return ran.has_value();
  };
  switch (pieces_.step(epoch, number, step, run)) {
    case Pieces::Did::kIgnore:
      if (epoch != pieces_.epoch()) ++node_.n_stale_;
      return;
    case Pieces::Did::kFail:
      return fail_with(epoch, ran.error().message, Failure::Of::kMachine);
    case Pieces::Did::kSend:
      break;
  }
  node_.n_steps_ += repeated ? 0 : 1;
  LOG(kDebug, "epoch {} step {}", epoch, number);
  done_ = number;
  bool last;
  RowFormat format;
  {
    const std::scoped_lock state(mutex_);
    last = next_.empty();
    format = rows_as_;
    ++told_.steps;
  }
  send_on(epoch, last ? to_bytes({epoch, number, StepAnswer{std::move(step.hidden), format}})
                      : step_bytes(epoch, number, step.ops, step.rows, step.hidden, format));
}

// With the lock on steps held.
void NodeSession::send_on(uint64_t epoch, std::span<const std::byte> bytes) {
  const auto way = way_on(epoch);
  if (!way) return fail_with(epoch, way.error().message, Failure::Of::kNext);
  if (auto sent = (*way)->send_all(bytes, kSendPatience); !sent)
    fail_with(epoch, sent.error().message, Failure::Of::kNext);
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

void NodeSession::set_busy(bool busy) {
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  if (since_) busy_ += now - *std::exchange(since_, std::nullopt);
  if (busy) since_ = now;
}

Frame NodeSession::pong(uint64_t epoch) const {
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  const auto busy = since_ ? busy_ + (now - *since_) : busy_;
  return {epoch, done_,
          Pong{static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(busy).count())}};
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

void NodeSession::fail_with(uint64_t epoch, const std::string& message, Failure::Of of) {
  LOG(kWarning, "epoch {} for {}: {}", epoch, control_->peer(), message);
  say(epoch, Failure{of, message});
}

void NodeSession::say(uint64_t epoch, const Message& message) {
  (void)control_->send_all(to_bytes({epoch, 0, message}), kSendPatience);
}

void NodeSession::tell_leaving() { say(0, Leaving{}); }

void NodeSession::end() {
  {
    const std::scoped_lock lock(mutex_);
    over_ = true;
    if (next_link_) next_link_->close();
    if (answers_) answers_->close();
    for (const auto& [piece, link] : copy_links_) link->close();
    changed_.notify_all();
  }
  control_->close();
}

}  // namespace hearth::cluster
