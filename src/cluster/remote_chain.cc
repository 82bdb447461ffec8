#include "cluster/remote_chain.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "model/arch/all.h"
#include "model/pack.h"
#include "store/sha256.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

using Kind = ChainAction::Kind;
constexpr Time kDialPatience{1000};

Time now() { return std::chrono::duration_cast<Time>(std::chrono::steady_clock::now().time_since_epoch()); }

// All owners of a chain that has a name use the same.
SessionId session_of(const std::string& name) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(name)));
  const std::string hex = sha.hex();
  SessionId session{};
  for (size_t i = 0; i < session.size(); ++i) {
    unsigned byte = 0;
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, byte, 16);
    session[i] = static_cast<std::byte>(byte);
  }
  return session;
}

}  // namespace

Result<std::shared_ptr<RemoteChain>> RemoteChain::create(RemoteChainOptions options, const std::filesystem::path& pack,
                                                         std::shared_ptr<Backend> backend) {
  Checkpoint checkpoint = TRY(open_checkpoint(pack));
  if (!checkpoint.packed())
    return fail(Code::kInvalidArgument, "{}: stages need the model's pack; run without --no-cache", pack.string());
  const Family* family = TRY(find_family(checkpoint));
  DecoderConfig config = TRY(family->configure(ModelKeys(checkpoint)));
  TRY(hearth::check(config));
  TRY(check(options.plan, config.n_layers(), static_cast<int>(options.nodes.size())));
  const Digest model = TRY(pack_source(checkpoint.files().front().bytes()));
  std::shared_ptr<RemoteChain> chain(
      new RemoteChain(std::move(options), std::move(checkpoint), std::move(backend), std::move(config)));
  chain->model_ = model;
  fill_random(chain->session_);
  if (!chain->options_.name.empty()) chain->session_ = session_of(chain->options_.name);
  for (const ListenAddress& address : chain->options_.nodes) {
    chain->nodes_.emplace_back();
    chain->nodes_.back().address = address;
    chain->stats_.machines.emplace_back().name = address.text;
  }
  return chain;
}

RemoteChain::~RemoteChain() = default;

Result<void> RemoteChain::start(const SequenceOptions& sequences, int context) {
  shape_ = {.layers = {}, .context = context, .rows_max = std::min(kPartRows, context), .sequences = sequences};
  owner_.begin(now());
  TRY(set_up());
  if (!owner_.plan().stages.empty() || options_.plan.stages.empty()) return {};
  std::string why;
  for (const Node& node : nodes_)
    if (!node.trouble.empty()) why += (why.empty() ? "" : "; ") + node.trouble;
  return fail(Code::kIo, "no machine runs a stage: {}", why);
}

// Whether the chain is another owner's: then this one is over for good.
bool RemoteChain::displaced() {
  if (displaced_.empty() && options_.taken_away && options_.taken_away())
    displaced_ = fmt::format("the chain {} is another owner's", options_.name);
  return !displaced_.empty();
}

// Until the chain runs, by whatever plan, with no state.
Result<void> RemoteChain::set_up() {
  do_actions();
  while (!owner_.running() && !displaced()) pump(Time(50));
  if (displaced()) return fail(Code::kIo, "{}; started again, this one waits for it", displaced_);
  auto own = make_own_stage();
  failed_ = !own;
  over_ = false;
  return own;
}

Result<void> RemoteChain::make_own_stage() {
  const int end = owner_.plan().own_end;
  if (end == 0) {
    own_.reset();
    return {};
  }
  if (own_ && own_->options().layers.end == end) return own_->reset();
  own_.reset();
  StageOptions options = shape_;
  options.layers = {0, end};
  own_ = TRY(Stage::create(checkpoint_, *backend_, options));
  return {};
}

int RemoteChain::depth() const {
  return std::max(1, static_cast<int>(owner_.plan().stages.size()) + (owner_.plan().own_end > 0 ? 1 : 0));
}

int RemoteChain::row_bits() const {
  return options_.rows == RowFormat::kF32 ? 32 : options_.rows == RowFormat::kI16 ? 16 : 8;
}

// What was under way is lost.
Result<Chain::Ran> RemoteChain::begin_again() {
  parts_.clear(), answers_.clear();
  steps_done_ = 0;
  sent_.clear();
  TRY(set_up());
  return Ran::kStartOver;
}

Result<Chain::Ran> RemoteChain::post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                                     std::span<float> stream) {
  if (failed_) {
    owner_.begin(now());
    return begin_again();
  }
  pump(Time(0));  // what happened since the last step
  if (over_ || displaced()) return begin_again();
  std::vector<StepRows> all;
  for (const SequenceRows& part : rows) all.push_back({part.sequence, part.position, part.count});
  for (auto& part : in_parts(all, depth(), shape_.rows_max)) {
    size_t n = 0;
    for (const StepRows& some : part) n += static_cast<size_t>(some.count);
    n *= static_cast<size_t>(config_.d_model);
    parts_.push_back({.ops = {ops.begin(), ops.end()},
                      .rows = std::move(part),
                      .stream = stream.first(n),
                      .ends_step = n == stream.size(),
                      .step = 0});
    ops = {};
    stream = stream.subspan(n);
  }
  TRY(send_more());
  if (over_) return begin_again();
  return Ran::kYes;
}

Result<Chain::Ran> RemoteChain::collect() {
  while (!over_ && steps_done_ == 0) {
    TRY(send_more());
    if (steps_done_ == 0 && !over_) pump(Time(20));
  }
  if (over_) return begin_again();
  --steps_done_;
  return Ran::kYes;
}

// As many parts as may be under way.
Result<void> RemoteChain::send_more() {
  while (!over_ && owner_.running() && owner_.in_flight() < ChainOwner::kWindow) {
    const auto next = std::ranges::find(parts_, uint64_t{0}, &Part::step);
    if (next == parts_.end()) return {};
    TRY(send_first(*next));
    pump(Time(0));
  }
  return {};
}

// Through the layers here, and on its way.
Result<void> RemoteChain::send_first(Part& part) {
  if (own_) {
    auto ran = own_->run(part.ops, part.rows, part.stream);
    if (!ran) {
      failed_ = true;
      return ran;
    }
  }
  if (owner_.plan().stages.empty()) {
    steps_done_ += part.ends_step ? 1 : 0;
    parts_.pop_front();
    return {};
  }
  int n_rows = 0;
  for (const StepRows& rows : part.rows) n_rows += rows.count;
  part.step = owner_.post(n_rows, now());
  {
    const std::scoped_lock lock(stats_mutex_);
    ++stats_.steps;
  }
  sent_.push_back({part.step, part.ops, part.rows, {part.stream.begin(), part.stream.end()}});
  while (sent_.front().step < owner_.oldest()) sent_.pop_front();
  do_actions();
  return {};
}

void RemoteChain::pump(Time patience) {
  finish_dialling();
  do_actions();
  std::vector<PeerLink*> links;
  for (const Node& node : nodes_)
    if (node.control.link) links.push_back(node.control.link.get());
  for (const Link* path : {&steps_, &results_})
    if (path->link) links.push_back(path->link.get());
  if (!links.empty()) wait_for_any(links, patience);
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
    Link& control = nodes_[static_cast<size_t>(i)].control;
    if (!control.link) continue;
    if (auto alive = read(control, i); !alive) lose(i, alive.error().message);
  }
  do_actions();  // so that there are paths only if they are the plan's
  if (steps_.link) {
    const int first = owner_.plan().stages.front().node;
    if (auto alive = read(steps_, first); !alive) lose(first, alive.error().message);
    do_actions();
  }
  if (results_.link) {
    const int last = owner_.plan().stages.back().node;
    if (auto alive = read(results_, last); !alive) lose(last, alive.error().message);
  }
  const uint64_t losses = owner_.losses(), slow = owner_.slow();
  owner_.tick(now());
  if (owner_.slow() != slow)
    LOG(kWarning, "a machine is too slow: {}", owner_.why_slow());
  else if (owner_.losses() != losses)
    LOG(kWarning, "a machine says nothing for {} ms", options_.timing.silence.count());
  do_actions();
}

Result<void> RemoteChain::read(Link& link, int node) {
  if (link.link->unsent()) TRY(link.link->send({}));
  for (;;) {
    const size_t got = TRY(link.link->receive(link.reader.room()));
    if (got == 0) return {};
    link.reader.put(got);
    count(node, &ChainStats::Machine::bytes_received, nullptr, got);
    while (auto frame = TRY(link.reader.next())) {
      take(node, std::move(*frame));
      if (!link.link) return {};  // what it said ended it
    }
  }
}

void RemoteChain::take(int node, Frame frame) {
  owner_.heard(node);
  count(node, nullptr, &ChainStats::Machine::frames_received, 1);
  if (const auto* ready = std::get_if<Ready>(&frame.message)) {
    owner_.ready(node, frame.epoch, *ready, now());
  } else if (const auto* copied = std::get_if<Copied>(&frame.message)) {
    owner_.copied(node, frame.epoch, copied->layers, copied->whole, copied->done, now());
  } else if (std::holds_alternative<Leaving>(frame.message)) {
    LOG(kWarning, "{} wants to leave", options_.nodes[static_cast<size_t>(node)].text);
    owner_.leaving(node, now());
  } else if (auto* answer = std::get_if<StepAnswer>(&frame.message)) {
    if (owner_.answered(frame.epoch, frame.step, now())) answers_.emplace_back(frame.step, std::move(answer->hidden));
  } else if (const auto* failure = std::get_if<Failure>(&frame.message)) {
    if (failure->of == Failure::Of::kOwner) {
      displaced_ = failure->message;
      over_ = true;
      return;
    }
    if (frame.epoch != owner_.epoch()) return;
    LOG(kWarning, "{}: {}", options_.nodes[static_cast<size_t>(node)].text, failure->message);
    if (failure->of == Failure::Of::kNext && owner_.next_node(node) >= 0) {
      nodes_[static_cast<size_t>(owner_.next_node(node))].trouble = failure->message;
      owner_.lost_next(node, now());
    } else {
      lose(node, failure->message);
    }
  } else if (const auto* fetch = std::get_if<Fetch>(&frame.message)) {
    send_piece(node, *fetch);
  } else if (const auto* pong = std::get_if<Pong>(&frame.message)) {
    owner_.ran(node, frame.epoch, frame.step, Time(pong->busy_ms), now());
    const std::scoped_lock lock(stats_mutex_);
    stats_.machines[static_cast<size_t>(node)].round_trip_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - nodes_[static_cast<size_t>(node)].pinged)
            .count();
  } else {
    lose(node, "it says what a stage does not say");
  }
  do_actions();
}

void RemoteChain::send_piece(int node, const Fetch& fetch) {
  const auto file = checkpoint_.files().front().bytes();
  say(node, cut_piece(file, fetch));
}

void RemoteChain::say(int node, const Message& message) {
  Link& control = nodes_[static_cast<size_t>(node)].control;
  if (!control.link) return;
  const auto bytes = to_bytes({owner_.epoch(), 0, message});
  if (auto sent = control.link->send(bytes); !sent) return lose(node, sent.error().message);
  count(node, &ChainStats::Machine::bytes_sent, &ChainStats::Machine::frames_sent, bytes.size());
}

void RemoteChain::do_actions() {
  for (auto actions = owner_.take_actions(); !actions.empty(); actions = owner_.take_actions()) {
    for (const ChainAction& action : actions) do_action(action);
    publish();
  }
}

void RemoteChain::do_action(const ChainAction& action) {
  Node* const node = action.node < 0 ? nullptr : &nodes_[static_cast<size_t>(action.node)];
  switch (action.kind) {  // what has to be done, though another epoch may have begun
    case Kind::kDisconnect:
      node->control = Link();
      return;
    case Kind::kDeliver:
      return deliver(action.step);
    case Kind::kClosePaths:
      answers_.clear();
      steps_ = Link(), results_ = Link();
      return;
    case Kind::kStartOver:
      over_ = true;
      return;
    default:
      break;
  }
  if (action.epoch != owner_.epoch()) return;
  switch (action.kind) {
    case Kind::kConnect:
      return connect(action.node);
    case Kind::kAssign:
      if (const PlannedStage* stage = owner_.stage_of(action.node))
        assign(action.node, owner_.resuming() ? Assign::Kind::kResume : Assign::Kind::kFresh, stage->layers);
      return;
    case Kind::kAssignCopy:
      return assign(action.node, Assign::Kind::kCopy, owner_.piece(action.piece));
    case Kind::kCopyTo:
      if (const int holder = owner_.holder(action.piece); holder >= 0)
        say(holder, CopyTo{owner_.piece(action.piece), node->address.text});
      return;
    case Kind::kOpenPaths:
      return open_paths();
    case Kind::kPing:
      node->pinged = std::chrono::steady_clock::now();
      return say(action.node, Ping{});
    case Kind::kSend:
      return send(action.step);
    default:
      return;
  }
}

// The answer of the oldest part.
void RemoteChain::deliver(uint64_t step) {
  const auto answer = std::ranges::find(answers_, step, [](const auto& each) { return each.first; });
  if (answer == answers_.end() || parts_.empty() || parts_.front().step != step) return;
  Part& part = parts_.front();
  if (answer->second.size() != part.stream.size())
    return lose(owner_.plan().stages.back().node, "it answers with another number of rows");
  std::ranges::copy(answer->second, part.stream.begin());
  answers_.erase(answer);
  steps_done_ += part.ends_step ? 1 : 0;
  parts_.pop_front();
}

void RemoteChain::lose(int node, const std::string& why) {
  Node& gone = nodes_[static_cast<size_t>(node)];
  gone.trouble = fmt::format("{}: {}", gone.address.text, why);
  LOG(kWarning, "{}", gone.trouble);
  owner_.lost(node, now());
}

Result<RemoteChain::Link> RemoteChain::dial(int node, LinkClass what, uint64_t epoch) const {
  Link made;
  made.link = TRY(PeerLink::dial(*options_.tls, options_.nodes[static_cast<size_t>(node)], kDialPatience));
  TRY(made.link->send(to_bytes({epoch, 0, Hello{what, session_}})));
  return made;
}

void RemoteChain::connect(int node) {
  Node& to = nodes_[static_cast<size_t>(node)];
  if (owner_.running()) {
    to.dialling = std::async(std::launch::async,
                             [this, node, epoch = owner_.epoch()] { return dial(node, LinkClass::kControl, epoch); });
    return;
  }
  auto made = to.dialling.valid() ? to.dialling.get() : dial(node, LinkClass::kControl, owner_.epoch());
  if (!made) return lose(node, made.error().message);
  to.control = std::move(*made);
  owner_.connected(node, now());
}

void RemoteChain::finish_dialling() {
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
    Node& node = nodes_[static_cast<size_t>(i)];
    if (!node.dialling.valid() || node.dialling.wait_for(Time(0)) != std::future_status::ready) continue;
    auto made = node.dialling.get();
    if (!made) {
      LOG(kInfo, "{}", made.error().message);
      owner_.lost(i, now());
      continue;
    }
    node.control = std::move(*made);
    owner_.connected(i, now());
  }
}

void RemoteChain::assign(int node, Assign::Kind kind, LayerRange layers) {
  const int next = owner_.next_node(node);
  std::vector<uint32_t> cuts;
  for (const PlannedStage& piece : options_.plan.stages)
    if (piece.layers.first > layers.first && piece.layers.first < layers.end)
      cuts.push_back(static_cast<uint32_t>(piece.layers.first));
  Assign assign{.kind = kind,
                .model = model_,
                .pack_bytes = checkpoint_.file_bytes(),
                .layers = layers,
                .context = static_cast<uint32_t>(shape_.context),
                .rows_max = static_cast<uint32_t>(shape_.rows_max),
                .kv_type = shape_.sequences.kv_type,
                .positions_max = static_cast<uint32_t>(shape_.sequences.positions_max),
                .sequences_max = static_cast<uint32_t>(shape_.sequences.sequences_max),
                .next = next < 0 ? "" : options_.nodes[static_cast<size_t>(next)].text,
                .cuts = std::move(cuts),
                .rows = options_.rows};
  // A copy is of layers that nobody else fetches now; who has them gives them.
  if (kind == Assign::Kind::kCopy) {
    for (const PlannedStage& holder : owner_.plan().stages) {
      if (holder.node == node || holder.layers.first > layers.first || holder.layers.end < layers.end) continue;
      assign.peers = {{options_.nodes[static_cast<size_t>(holder.node)].text, holder.layers},
                      {options_.nodes[static_cast<size_t>(node)].text, LayerRange{}}};
      assign.self = 1;
    }
  }
  if (kind == Assign::Kind::kFresh) {
    for (const PlannedStage& each : owner_.plan().stages) {
      if (each.node == node) assign.self = static_cast<uint32_t>(assign.peers.size());
      assign.peers.push_back({options_.nodes[static_cast<size_t>(each.node)].text, each.layers});
    }
  }
  say(node, assign);
}

void RemoteChain::open_paths() {
  const uint64_t epoch = owner_.epoch();
  const int first = owner_.plan().stages.front().node, last = owner_.plan().stages.back().node;
  auto results = dial(last, LinkClass::kResults, owner_.epoch());
  if (!results) return lose(last, results.error().message);
  auto steps = dial(first, LinkClass::kSteps, owner_.epoch());
  if (!steps) return lose(first, steps.error().message);
  if (epoch != owner_.epoch()) return;
  results_ = std::move(*results), steps_ = std::move(*steps);
  if (epoch > 1)
    LOG(kWarning, "the chain goes on as {}, {}", describe_plan(), owner_.resuming() ? "with its state" : "anew");
}

void RemoteChain::send(uint64_t step) {
  const auto part = std::ranges::find(sent_, step, &Sent::step);
  if (part == sent_.end() || !steps_.link) return;
  const int first = owner_.plan().stages.front().node;
  const auto bytes = step_bytes(owner_.epoch(), step, part->ops, part->rows, part->hidden, options_.rows);
  if (auto sent = steps_.link->send(bytes); !sent) return lose(first, sent.error().message);
  count(first, &ChainStats::Machine::bytes_sent, &ChainStats::Machine::frames_sent, bytes.size());
}

void RemoteChain::count(int node, uint64_t ChainStats::Machine::* bytes, uint64_t ChainStats::Machine::* frames,
                        size_t n) {
  const std::scoped_lock lock(stats_mutex_);
  ChainStats::Machine& machine = stats_.machines[static_cast<size_t>(node)];
  if (bytes) machine.*bytes += n;
  if (frames) ++(machine.*frames);
}

void RemoteChain::publish() {
  const std::scoped_lock lock(stats_mutex_);
  stats_.epochs = owner_.epoch();
  stats_.losses = owner_.losses(), stats_.moves = owner_.moves();
  stats_.resumed = owner_.resumed(), stats_.steps_repeated = owner_.repeated();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const PlannedStage* stage = owner_.stage_of(static_cast<int>(i));
    stats_.machines[i].first_layer = stage ? stage->layers.first : 0;
    stats_.machines[i].end_layer = stage ? stage->layers.end : 0;
  }
}

ChainStats RemoteChain::stats() const {
  const std::scoped_lock lock(stats_mutex_);
  ChainStats stats = stats_;
  stats.plan = options_.why;
  return stats;
}

std::string RemoteChain::describe_plan() const {
  const ChainPlan& plan = owner_.plan();
  std::string text = plan.own_end > 0 ? fmt::format("layers 0-{} here", plan.own_end) : "";
  for (const PlannedStage& stage : plan.stages)
    text += fmt::format("{}{}-{} on {}", text.empty() ? "layers " : ", ", stage.layers.first, stage.layers.end,
                        options_.nodes[static_cast<size_t>(stage.node)].text);
  return text;
}

}  // namespace hearth::cluster
