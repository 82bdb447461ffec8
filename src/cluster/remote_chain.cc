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
// Rows of one message: enough that weights are read for many, few enough that stages have something to do at once.
constexpr int kPartRows = 128;
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
  }
  return chain;
}

RemoteChain::~RemoteChain() = default;

Result<void> RemoteChain::start(const SequenceOptions& sequences, int context) {
  shape_ = {.layers = {}, .context = context, .rows_max = std::min(kPartRows, context), .sequences = sequences};
  started_ = true;
  owner_.begin(now());
  TRY(set_up());
  if (!owner_.plan().stages.empty() || options_.plan.stages.empty()) return {};
  std::string why;
  for (const Node& node : nodes_)
    if (!node.trouble.empty()) why += (why.empty() ? "" : "; ") + node.trouble;
  return fail(Code::kIo, "no machine runs a stage: {}", why);
}

// Until the chain runs, by whatever plan.
Result<void> RemoteChain::set_up() {
  do_actions();
  while (!owner_.running()) pump(Time(50));
  if (own_epoch_ == owner_.epoch()) return {};
  if (own_epoch_ != 0) LOG(kWarning, "the chain goes on as {}", describe_plan());
  own_epoch_ = owner_.epoch();
  auto own = make_own_stage();
  failed_ = !own;
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

// What was under way is lost.
Result<Chain::Ran> RemoteChain::begin_again() {
  parts_.clear(), answers_.clear();
  steps_done_ = 0;
  TRY(set_up());
  over_ = false;
  return Ran::kStartOver;
}

Result<Chain::Ran> RemoteChain::post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                                     std::span<float> stream) {
  if (failed_) {
    owner_.begin(now());
    return begin_again();
  }
  pump(Time(0));  // what happened since the last step
  if (over_ || !owner_.running()) return begin_again();
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
                      .step = 0,
                      .bytes = {}});
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
    if (steps_done_ == 0 && !over_) pump(Time(50));
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
  part.step = owner_.post(now());
  part.bytes = step_bytes(owner_.epoch(), part.step, part.ops, part.rows, part.stream);
  do_actions();
  return {};
}

void RemoteChain::pump(Time patience) {
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
  const uint64_t losses = owner_.losses();
  owner_.tick(now());
  if (owner_.losses() != losses) LOG(kWarning, "a machine says nothing for {} ms", options_.timing.silence.count());
  do_actions();
}

Result<void> RemoteChain::read(Link& link, int node) {
  if (link.link->unsent()) TRY(link.link->send({}));
  for (;;) {
    const size_t got = TRY(link.link->receive(link.reader.room()));
    if (got == 0) return {};
    link.reader.put(got);
    while (auto frame = TRY(link.reader.next())) {
      take(node, std::move(*frame));
      if (!link.link) return {};  // what it said ended it
    }
  }
}

void RemoteChain::take(int node, Frame frame) {
  owner_.heard(node);
  if (std::holds_alternative<Ready>(frame.message)) {
    owner_.ready(node, frame.epoch, now());
  } else if (auto* answer = std::get_if<StepAnswer>(&frame.message)) {
    if (frame.epoch == owner_.epoch()) answers_.emplace_back(frame.step, std::move(answer->hidden));
    owner_.answered(frame.epoch, frame.step);
  } else if (const auto* failure = std::get_if<Failure>(&frame.message)) {
    if (frame.epoch != owner_.epoch()) return;
    LOG(kWarning, "{}: {}", options_.nodes[static_cast<size_t>(node)].text, failure->message);
    if (failure->of_next && owner_.next_node(node) >= 0) {
      nodes_[static_cast<size_t>(owner_.next_node(node))].trouble = failure->message;
      owner_.lost_next(node, now());
    } else {
      lose(node, failure->message);
    }
  } else if (const auto* fetch = std::get_if<Fetch>(&frame.message)) {
    send_piece(node, *fetch);
  } else if (!std::holds_alternative<Pong>(frame.message)) {
    lose(node, "it says what a stage does not say");
  }
  do_actions();
}

void RemoteChain::send_piece(int node, const Fetch& fetch) {
  const auto file = checkpoint_.files().front().bytes();
  Link& control = nodes_[static_cast<size_t>(node)].control;
  const auto sent = control.link->send(to_bytes({owner_.epoch(), 0, cut_piece(file, fetch)}));
  if (!sent) lose(node, sent.error().message);
}

void RemoteChain::do_actions() {
  for (auto actions = owner_.take_actions(); !actions.empty(); actions = owner_.take_actions()) {
    for (const ChainAction& action : actions) {
      switch (action.kind) {
        case Kind::kConnect:
          connect(action.node);
          break;
        case Kind::kDisconnect:
          nodes_[static_cast<size_t>(action.node)].control = Link();
          break;
        case Kind::kAssign:
          assign(action.node);
          break;
        case Kind::kOpenPaths:
          open_paths();
          break;
        case Kind::kPing:
          if (Link& control = nodes_[static_cast<size_t>(action.node)].control; control.link)
            if (auto sent = control.link->send(to_bytes({owner_.epoch(), 0, Ping{}})); !sent)
              lose(action.node, sent.error().message);
          break;
        case Kind::kSend:
          send(action.step);
          break;
        case Kind::kDeliver:
          deliver(action.step);
          break;
        case Kind::kStartOver:
          over_ = true;
          answers_.clear();
          steps_ = Link(), results_ = Link();
          break;
      }
    }
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

Result<RemoteChain::Link> RemoteChain::dial(int node, LinkClass what) {
  Link made;
  made.link = TRY(PeerLink::dial(*options_.tls, options_.nodes[static_cast<size_t>(node)], kDialPatience));
  TRY(made.link->send(to_bytes({owner_.epoch(), 0, Hello{what, session_}})));
  return made;
}

void RemoteChain::connect(int node) {
  auto made = dial(node, LinkClass::kControl);
  if (!made) return lose(node, made.error().message);
  nodes_[static_cast<size_t>(node)].control = std::move(*made);
  owner_.connected(node, now());
}

void RemoteChain::assign(int node) {
  const PlannedStage* stage = owner_.stage_of(node);
  Link& control = nodes_[static_cast<size_t>(node)].control;
  if (!stage || !control.link) return;
  const int next = owner_.next_node(node);
  Assign assign{.model = model_,
                .pack_bytes = checkpoint_.file_bytes(),
                .layers = stage->layers,
                .context = static_cast<uint32_t>(shape_.context),
                .rows_max = static_cast<uint32_t>(shape_.rows_max),
                .kv_type = shape_.sequences.kv_type,
                .positions_max = static_cast<uint32_t>(shape_.sequences.positions_max),
                .sequences_max = static_cast<uint32_t>(shape_.sequences.sequences_max),
                .next = next < 0 ? "" : options_.nodes[static_cast<size_t>(next)].text};
  for (const PlannedStage& each : owner_.plan().stages) {
    if (each.node == node) assign.self = static_cast<uint32_t>(assign.peers.size());
    assign.peers.push_back({options_.nodes[static_cast<size_t>(each.node)].text, each.layers});
  }
  if (auto sent = control.link->send(to_bytes({owner_.epoch(), 0, assign})); !sent) lose(node, sent.error().message);
}

void RemoteChain::open_paths() {
  const uint64_t epoch = owner_.epoch();
  const int first = owner_.plan().stages.front().node, last = owner_.plan().stages.back().node;
  auto results = dial(last, LinkClass::kResults);
  if (!results) return lose(last, results.error().message);
  auto steps = dial(first, LinkClass::kSteps);
  if (!steps) return lose(first, steps.error().message);
  if (epoch == owner_.epoch()) results_ = std::move(*results), steps_ = std::move(*steps);
}

void RemoteChain::send(uint64_t step) {
  const auto part = std::ranges::find(parts_, step, &Part::step);
  if (part == parts_.end() || !steps_.link) return;
  if (auto sent = steps_.link->send(part->bytes); !sent) lose(owner_.plan().stages.front().node, sent.error().message);
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
