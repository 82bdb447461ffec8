// A chain of stages over a network that loses, delays, doubles and reorders, with machines that die, freeze and are cut off: whatever
// happens, the owner's sequences get the tokens that they get undisturbed. Everything follows from the seed.
//
// The logic is the program's (ChainOwner, StageSteps, in_parts); the layers are made up, but keep state as layers do: what a layer says at
// a position depends on all that it was given before, each position once and in order.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>

#include "cluster/chain_owner.h"
#include "cluster/stage_steps.h"

namespace hearth::cluster {
namespace {

constexpr int kLayers = 6, kSequences = 3, kTokens = 40, kPrompt = 30;
using Hidden = std::vector<uint64_t>;  // one number per row

uint64_t mix(uint64_t a, uint64_t b) {
  a ^= b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2);
  a *= 0xbf58476d1ce4e5b9u;
  return a ^ (a >> 29);
}

// Layers [first, end) with their state.
class MadeUpLayers {
 public:
  explicit MadeUpLayers(LayerRange layers) : layers_(layers) {}
  // False: a position comes twice, or one is missing.
  bool run(const std::vector<StepRows>& rows, Hidden& hidden) {
    size_t row = 0;
    for (const StepRows& part : rows)
      for (int i = 0; i < part.count; ++i, ++row)
        for (int layer = layers_.first; layer < layers_.end; ++layer) {
          auto& [length, state] = state_[{part.sequence, layer}];
          if (length++ != part.position + i) return false;
          state = mix(state, hidden[row]);
          hidden[row] = mix(state, static_cast<uint64_t>(layer));
        }
    return true;
  }

 private:
  LayerRange layers_;
  std::map<std::pair<int, int>, std::pair<int, uint64_t>> state_;
};

uint64_t first_token(int sequence, int i) {
  return mix(static_cast<uint64_t>(sequence) + 1, static_cast<uint64_t>(i)) % 1000;
}

std::vector<uint64_t> undisturbed(int sequence) {
  MadeUpLayers all({0, kLayers});
  std::vector<uint64_t> tokens;
  for (int i = 0; i < kPrompt; ++i) tokens.push_back(first_token(sequence, i));
  for (int position = 0; position < kPrompt + kTokens - 1; ++position) {
    Hidden hidden{tokens[static_cast<size_t>(position)]};
    EXPECT_TRUE(all.run({{sequence, position, 1}}, hidden));
    if (position + 1 >= kPrompt) tokens.push_back(hidden[0] % 1000);
  }
  return tokens;
}

struct Packet {
  enum class Kind : uint8_t {
    kAssign,
    kReady,
    kPing,
    kPong,
    kStep,
    kAnswer,
    kCopyTo,
    kCopyPart,
    kCopied,
    kLeaving
  } kind = Kind::kPing;
  uint64_t epoch = 0, step = 0, connection = 0;
  LayerRange layers{};
  int next = -1;
  enum class Assigned : uint8_t { kFresh, kResume, kCopy } as = Assigned::kFresh;
  bool has_state = true;
  uint64_t oldest = 1;
  std::vector<StepRows> rows{};
  Hidden hidden{};
  std::optional<MadeUpLayers> state{};
  bool waited = false;  // for a slow machine
  Time busy{};
};
struct Rows {  // what comes out of a step
  std::vector<StepRows> rows;
  Hidden hidden;
};
constexpr size_t kKept = 32;
constexpr uint32_t kWarmUpUs = 6000;

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    n_nodes_ = 1 + static_cast<int>(draw(4));
    const int n_stages = 1 + static_cast<int>(draw(static_cast<uint64_t>(n_nodes_)));
    nodes_.resize(static_cast<size_t>(n_nodes_));
    first_ = even_plan(static_cast<int>(draw(2)), kLayers, n_stages);
    owner_.emplace(first_, n_nodes_,
                   ChainTiming{.heartbeat = Time(150),
                               .silence = Time(1000),
                               .loading = Time(3000),
                               .resend = Time(700),
                               .second_chance = Time(5000),
                               .slow = Time(1200),
                               .slow_at_work = Time(500)},
                   draw(4) > 0, kKept);
    loss_ = static_cast<double>(draw(4)) * 0.01;
    twice_ = static_cast<double>(draw(3)) * 0.02;
    delay_max_ = 1 + draw(40);
    for (int s = 0; s < kSequences; ++s) {
      lengths_.push_back(0);
      tokens_.emplace_back();
      for (int i = 0; i < kPrompt; ++i) tokens_.back().push_back(first_token(s, i));
    }
    for (uint64_t i = draw(5); i > 0; --i) plan_trouble();
  }

  // Empty if all went as it has to.
  std::string run() {
    owner_->begin(now_);
    act();
    at(Time(0), [this] { tick(); });
    while (!done() && trouble_.empty() && now_ < Time(600'000)) {
      auto [time, number] = queue_.top();
      queue_.pop();
      now_ = time;
      const auto event = events_.extract(number);
      event.mapped()();
    }
    if (!trouble_.empty()) return trouble_;
    if (!done()) return fmt::format("not done after {} ms in epoch {}", now_.count(), owner_->epoch());
    for (int s = 0; s < kSequences; ++s)
      if (tokens_[static_cast<size_t>(s)] != undisturbed(s)) return fmt::format("sequence {} has other tokens", s);
    return "";
  }
  [[nodiscard]] const ChainOwner& owner() const { return *owner_; }

 private:
  struct SimNode {
    bool alive = true;
    Time frozen_until{}, slow_until{}, busy_until{};
    std::vector<std::pair<Time, Time>> at{};  // steps it is slow at: begin, end
    uint64_t done = 0;                        // the last step that it ran
    uint64_t connection = 0;                  // that it knows of
    using Pieces = StagePieces<MadeUpLayers, Rows>;
    Pieces pieces{};
    int next = -1;
  };

  uint64_t draw(uint64_t n) { return random_() % n; }
  bool chance(double p) { return static_cast<double>(random_() % 1'000'000) < p * 1e6; }
  void at(Time time, std::function<void()> what) {
    queue_.emplace(time, n_events_);
    events_.emplace(n_events_++, std::move(what));
  }
  SimNode& node(int i) { return nodes_[static_cast<size_t>(i)]; }
  [[nodiscard]] bool done() const {
    return std::ranges::all_of(tokens_, [](const auto& t) { return t.size() == kPrompt + kTokens; });
  }

  void plan_trouble() {
    const int who = static_cast<int>(draw(static_cast<uint64_t>(n_nodes_)));
    const Time when(draw(2500)), how_long(200 + draw(6000));
    switch (draw(6)) {
      case 5:
        at(when, [this, who, until = when + how_long] { node(who).slow_until = until; });
        break;
      case 4:
        at(when, [this, who] { send(who, -1, {.kind = Packet::Kind::kLeaving, .connection = node(who).connection}); });
        break;
      case 0:
        at(when, [this, who] { node(who).alive = false; });
        break;
      case 1:  // dies and comes back knowing nothing
        at(when, [this, who] { node(who) = {.alive = false}; });
        at(when + how_long, [this, who] { node(who).alive = true; });
        break;
      case 2:
        at(when, [this, who, until = when + how_long] { node(who).frozen_until = until; });
        break;
      default: {  // cut off from the owner (-1) or from another
        const int other = static_cast<int>(draw(static_cast<uint64_t>(n_nodes_) + 1)) - 1;
        at(when, [this, who, other] { cut_.insert({who, other}), cut_.insert({other, who}); });
        at(when + how_long, [this, who, other] { cut_.erase({who, other}), cut_.erase({other, who}); });
      }
    }
  }

  // -1 is the owner.
  void send(int from, int to, const Packet& packet) {
    for (int copies = chance(twice_) ? 2 : 1; copies > 0; --copies) {
      if (cut_.contains({from, to}) || chance(loss_)) continue;
      at(now_ + Time(draw(delay_max_) + (chance(0.03) ? draw(3000) : 0)),
         [this, from, to, packet] { arrive(from, to, packet); });
    }
  }

  void arrive(int from, int to, const Packet& packet) {
    if (to < 0) return hear(from, packet);
    SimNode& here = node(to);
    if (!here.alive) return;
    if (now_ < here.frozen_until) return at(here.frozen_until, [this, from, to, packet] { arrive(from, to, packet); });
    using enum Packet::Kind;
    if (packet.kind != kStep && packet.kind != kCopyPart && packet.connection != here.connection) return;
    if (packet.kind == kPing) return send(to, -1, pong(here, packet));
    if (packet.kind == kStep && !packet.waited && now_ < here.slow_until) {  // one after the other
      const Time begin = std::max(here.busy_until, now_);
      here.busy_until = begin + Time(300 + draw(3000));
      here.at.emplace_back(begin, here.busy_until);
      Packet later = packet;
      later.waited = true;
      return at(here.busy_until, [this, from, to, later] { arrive(from, to, later); });
    }

    if (packet.kind == kAssign) return assign(to, packet);
    if (packet.kind == kCopyTo) return copy_out(to, packet);
    if (packet.kind == kCopyPart) {
      SimNode::Pieces::Piece* copy = here.pieces.find_copy(packet.epoch, packet.layers);
      if (!copy || (copy->whole && copy->steps.done() >= packet.step)) return;
      copy->layers = *packet.state;
      copy->steps.set_done(packet.step);
      copy->whole = true;
      return send(to, -1, copied(packet.epoch, packet.layers, here.connection, true, packet.step));
    }
    Rows data{packet.rows, packet.hidden};
    const auto did = here.pieces.step(packet.epoch, packet.step, data,
                                      [](MadeUpLayers& layers, Rows& out) { return layers.run(out.rows, out.hidden); });
    if (did == SimNode::Pieces::Did::kIgnore) return;
    if (did == SimNode::Pieces::Did::kFail) trouble_ = fmt::format("stage {}: a position twice, or none", to);
    here.done = packet.step;
    Packet on = packet;
    on.waited = false;
    on.rows = data.rows, on.hidden = data.hidden;
    on.kind = here.next < 0 ? kAnswer : kStep;
    send(to, here.next, on);
  }

  Packet pong(SimNode& here, const Packet& ping) const {
    Packet pong{.kind = Packet::Kind::kPong, .epoch = ping.epoch, .step = here.done, .connection = ping.connection};
    for (const auto& [begin, end] : here.at) pong.busy += std::max(Time(0), std::min(end, now_) - begin);
    return pong;
  }

  static Packet copied(uint64_t epoch, LayerRange layers, uint64_t connection, bool whole, uint64_t done) {
    return {.kind = Packet::Kind::kCopied,
            .epoch = epoch,
            .step = done,
            .connection = connection,
            .layers = layers,
            .has_state = whole};
  }

  void assign(int to, const Packet& packet) {
    SimNode& here = node(to);
    Packet ready{.kind = Packet::Kind::kReady, .epoch = packet.epoch, .connection = packet.connection};
    if (packet.as == Packet::Assigned::kCopy) {
      (void)here.pieces.begin(packet.epoch);
      if (here.pieces.epoch() != packet.epoch) return;
      here.pieces.add_copy({packet.layers, MadeUpLayers(packet.layers), StageSteps<Rows>(kKept)});
      return send(to, -1, copied(packet.epoch, packet.layers, packet.connection, false, 0));
    }
    if (packet.as == Packet::Assigned::kResume) {
      const auto state = here.pieces.resume(packet.epoch, packet.layers);
      if (!state) return;
      ready.has_state = state->there, ready.step = state->done, ready.oldest = state->oldest;
    } else {
      if (!here.pieces.begin(packet.epoch)) return;
      std::vector<SimNode::Pieces::Piece> made;
      for (const PlannedStage& piece : first_.stages) {
        const LayerRange range{std::max(piece.layers.first, packet.layers.first),
                               std::min(piece.layers.end, packet.layers.end)};
        if (range.first < range.end) made.push_back({range, MadeUpLayers(range), StageSteps<Rows>(kKept)});
      }
      here.pieces.set_pieces(std::move(made));
    }
    here.next = packet.next;
    send(to, -1, ready);
  }

  // Every now and then, until the epoch ends.
  void copy_out(int from, const Packet& packet) {
    SimNode& here = node(from);
    const SimNode::Pieces::Piece* piece = here.pieces.find_piece(packet.epoch, packet.layers);
    if (!here.alive || !piece) return;
    if (now_ >= here.frozen_until)
      send(from, packet.next,
           {.kind = Packet::Kind::kCopyPart,
            .epoch = packet.epoch,
            .step = piece->steps.done(),
            .layers = packet.layers,
            .state = piece->layers});
    at(now_ + Time(30 + draw(60)), [this, from, packet] { copy_out(from, packet); });
  }

  void hear(int from, const Packet& packet) {
    using enum Packet::Kind;
    if (packet.kind == kAnswer) {
      if (owner_->answered(packet.epoch, packet.step, now_)) answers_[packet.step] = packet.hidden;
    } else if (packet.connection == connections_[from]) {
      owner_->heard(from);
      if (packet.kind == kPong)
        owner_->ran(from, packet.epoch, packet.step, packet.busy, now_);
      else if (packet.kind == kReady)
        owner_->ready(from, packet.epoch, {packet.has_state, packet.step, packet.oldest, kWarmUpUs}, now_);
      else if (packet.kind == kCopied)
        owner_->copied(from, packet.epoch, packet.layers, packet.has_state, packet.step, now_);
      else if (packet.kind == kLeaving)
        owner_->leaving(from, now_);
    }
    act();
  }

  void tick() {
    owner_->tick(now_);
    act();
    at(now_ + Time(20), [this] { tick(); });
  }

  void act() {
    using enum ChainAction::Kind;
    for (auto actions = owner_->take_actions(); !actions.empty(); actions = owner_->take_actions())
      for (const ChainAction& action : actions) do_action(action);
    if (owner_->running() && posted_.empty() && waiting_.empty() && !done()) begin_step();
  }

  void do_action(const ChainAction& action) {
    using enum ChainAction::Kind;
    const int who = action.node;
    if (action.kind == kDisconnect) connections_[who] = 0;
    if (action.kind == kDeliver) deliver(action.step);
    if (action.kind == kClosePaths) answers_.clear();
    if (action.kind == kStartOver) {
      posted_.clear(), log_.clear(), waiting_.clear();
      for (int& length : lengths_) length = 0;
      own_.reset();
    }
    if (action.epoch != owner_->epoch()) return;
    if (action.kind == kConnect) {
      const bool reached = node(who).alive && !cut_.contains({-1, who}) && now_ >= node(who).frozen_until;
      if (reached) {
        node(who).connection = connections_[who] = ++n_connections_;
        node(who).pieces = {};  // as a new session has none
      }
      reached ? owner_->connected(who, now_) : owner_->lost(who, now_);
    } else if (action.kind == kAssign && owner_->stage_of(who)) {
      send(-1, who,
           assignment(who, owner_->stage_of(who)->layers,
                      owner_->resuming() ? Packet::Assigned::kResume : Packet::Assigned::kFresh));
    } else if (action.kind == kAssignCopy) {
      send(-1, who, assignment(who, owner_->piece(action.piece), Packet::Assigned::kCopy));
    } else if (action.kind == kCopyTo && owner_->holder(action.piece) >= 0) {
      const int holder = owner_->holder(action.piece);
      send(-1, holder,
           {.kind = Packet::Kind::kCopyTo,
            .epoch = owner_->epoch(),
            .connection = connections_[holder],
            .layers = owner_->piece(action.piece),
            .next = who});
    } else if (action.kind == kPing) {
      send(-1, who, {.kind = Packet::Kind::kPing, .epoch = owner_->epoch(), .connection = connections_[who]});
    } else if (action.kind == kSend && log_.contains(action.step)) {
      Packet& packet = log_.at(action.step);
      packet.epoch = owner_->epoch();
      send(-1, owner_->plan().stages.front().node, packet);
    }
  }

  Packet assignment(int who, LayerRange layers, Packet::Assigned as) {
    return {.kind = Packet::Kind::kAssign,
            .epoch = owner_->epoch(),
            .connection = connections_[who],
            .layers = layers,
            .next = owner_->next_node(who),
            .as = as};
  }

  // As an engine does: what is not run yet of each sequence, a chunk of a prompt or its newest token.
  void begin_step() {
    std::vector<StepRows> rows;
    for (int s = 0; s < kSequences; ++s) {
      const int have = lengths_[static_cast<size_t>(s)], all = static_cast<int>(tokens_[static_cast<size_t>(s)].size());
      if (all < kPrompt + kTokens) rows.push_back({s, have, std::min(all - have, 25)});
    }
    if (!own_) own_.emplace(LayerRange{0, owner_->plan().own_end});
    for (const auto& part : in_parts(rows, 1 + static_cast<int>(owner_->plan().stages.size()), 16))
      waiting_.push_back(part);
    post_more();
  }

  void post_more() {
    while (!waiting_.empty() && owner_->running() && owner_->in_flight() < ChainOwner::kWindow) {
      Packet packet{.kind = Packet::Kind::kStep, .epoch = owner_->epoch()};
      packet.rows = waiting_.front();
      waiting_.erase(waiting_.begin());
      for (const StepRows& part : packet.rows)
        for (int i = 0; i < part.count; ++i)
          packet.hidden.push_back(tokens_[static_cast<size_t>(part.sequence)][static_cast<size_t>(part.position + i)]);
      if (!own_->run(packet.rows, packet.hidden)) trouble_ = "the owner ran a position twice, or none";
      if (owner_->plan().stages.empty()) {
        finish_part(packet.rows, packet.hidden);
        continue;
      }
      packet.step = owner_->post(static_cast<int>(packet.hidden.size()), now_);
      posted_[packet.step] = log_[packet.step] = packet;
      while (log_.begin()->first < owner_->oldest()) log_.erase(log_.begin());
    }
    act_later();
  }
  void act_later() {
    at(now_, [this] { act(); });
  }

  void deliver(uint64_t step) {
    const auto posted = posted_.extract(step);
    const auto answer = answers_.extract(step);
    if (posted.empty() || answer.empty()) {
      trouble_ = "an answer that was not asked for";
      return;
    }
    finish_part(posted.mapped().rows, answer.mapped());
    post_more();
  }

  void finish_part(const std::vector<StepRows>& rows, const Hidden& hidden) {
    size_t row = 0;
    for (const StepRows& part : rows) {
      auto& tokens = tokens_[static_cast<size_t>(part.sequence)];
      int& length = lengths_[static_cast<size_t>(part.sequence)];
      if (length != part.position) trouble_ = "answers out of order";
      length += part.count;
      row += static_cast<size_t>(part.count);
      if (length == static_cast<int>(tokens.size())) tokens.push_back(hidden[row - 1] % 1000);
    }
  }

  std::mt19937_64 random_;
  int n_nodes_ = 0;
  double loss_ = 0, twice_ = 0;
  uint64_t delay_max_ = 1;
  Time now_{};
  using Entry = std::pair<Time, uint64_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  std::map<uint64_t, std::function<void()>> events_;
  uint64_t n_events_ = 0, n_connections_ = 0;
  std::vector<SimNode> nodes_;
  std::set<std::pair<int, int>> cut_;
  std::optional<ChainOwner> owner_;
  std::map<int, uint64_t> connections_;
  std::vector<int> lengths_;
  std::vector<std::vector<uint64_t>> tokens_;
  ChainPlan first_;
  std::map<uint64_t, Packet> posted_, log_;
  std::map<uint64_t, Hidden> answers_;
  std::vector<std::vector<StepRows>> waiting_;
  std::optional<MadeUpLayers> own_;
  std::string trouble_;
};

TEST(ChainSimulation, NoTokenIsLostDoubledOrChanged) {
  uint64_t losses = 0, moves = 0, resumed = 0;
  const char* given = std::getenv("HEARTH_SIM_SEEDS");  // ./dev campaign sim
  const uint64_t seeds = given ? std::stoull(given) : 200;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Simulation simulation(seed);
    EXPECT_EQ(simulation.run(), "") << "seed " << seed;
    losses += simulation.owner().losses();
    moves += simulation.owner().moves();
    resumed += simulation.owner().resumed();
  }
  std::cout << seeds << " seeds: " << losses << " losses, " << moves << " planned moves, " << resumed
            << " changes that lost no state\n";
  EXPECT_GT(losses, 100u) << "little happened";
  EXPECT_GT(moves, 10u) << "little happened";
  EXPECT_GT(resumed, moves + 20) << "little happened";
}

// Two stages and a machine to spare that do at once all that the owner wants, but answers to pings.
class QuickMachines {
 public:
  struct Pongs {
    uint64_t ran = 0;
    Time busy{}, after{0};
    std::optional<Time> pinged{};
  };
  explicit QuickMachines(bool has_copies = true) : copies(has_copies) { owner.begin(now), obey(); }
  void tick_until(Time end) {
    for (; now < end; now += Time(10)) {
      for (size_t node = 0; node < pongs.size(); ++node) {
        Pongs& pong = pongs[node];
        if (!pong.pinged || now - *pong.pinged < pong.after) continue;
        pong.pinged.reset();
        owner.heard(static_cast<int>(node));
        owner.ran(static_cast<int>(node), owner.epoch(), pong.ran, pong.busy, now);
      }
      owner.tick(now), obey();
    }
  }
  void obey() {
    using enum ChainAction::Kind;
    for (auto actions = owner.take_actions(); !actions.empty(); actions = owner.take_actions())
      for (const ChainAction& action : actions) {
        if (action.kind == kPing) pongs[static_cast<size_t>(action.node)].pinged = now;
        if (action.kind == kConnect) owner.connected(action.node, now);
        if (action.kind == kAssign)
          owner.ready(action.node, owner.epoch(), {copies || !owner.resuming(), done, 1, kWarmUpUs}, now);
        if (copies && (action.kind == kAssignCopy || action.kind == kCopyTo))
          owner.copied(action.node, owner.epoch(), owner.piece(action.piece), action.kind == kCopyTo, done, now);
      }
  }
  void do_step(int rows, Time takes) {
    const uint64_t step = owner.post(rows, now);
    tick_until(now + takes);
    end_step(step);
  }
  void end_step(uint64_t step) {
    done = step;
    for (Pongs& pong : pongs) pong.ran = step;
    owner.answered(owner.epoch(), step, now), obey();
  }

  Time now{0};
  uint64_t done = 0;
  bool copies;
  std::array<Pongs, 3> pongs{};
  ChainOwner owner{even_plan(0, kLayers, 2), 3, ChainTiming{}, true, kKept};
};

TEST(ChainOwnerTest, AStageThatGotFarSlowerThanItWasGivesItsLayersToWhoHasACopy) {
  QuickMachines machines;
  for (int i = 0; i < 5; ++i) machines.do_step(4, Time(100));
  machines.pongs[0].ran = machines.owner.post(4, machines.now);
  machines.pongs[1].after = Time(80);
  machines.tick_until(machines.now + Time(1400));
  EXPECT_EQ(machines.owner.losses(), 0u) << "a frame that was lost a few times is no reason";
  machines.tick_until(machines.now + Time(300));
  EXPECT_EQ(machines.owner.losses(), 1u);
  EXPECT_FALSE(machines.owner.stage_of(1)) << "the stage that had not done the step";
  EXPECT_TRUE(machines.owner.stage_of(2) && machines.owner.resuming()) << "goes on with the copy";
  EXPECT_NE(machines.owner.why_slow().find("answers pings after 80 ms"), std::string::npos)
      << machines.owner.why_slow();
}

TEST(ChainOwnerTest, AStageThatAnswersPingsInTimeIsNotToBlameForAStepThatIsNotThere) {
  QuickMachines machines;
  for (int i = 0; i < 5; ++i) machines.do_step(4, Time(100));
  machines.pongs[0].ran = machines.owner.post(4, machines.now);  // and its way on is lost again and again
  machines.tick_until(machines.now + Time(6000));
  EXPECT_EQ(machines.owner.losses(), 0u);
}

TEST(ChainOwnerTest, WhereAllStagesGotSlowNoneIsToBlame) {
  QuickMachines machines;
  for (int i = 0; i < 5; ++i) machines.do_step(1, Time(20));
  for (auto& pong : machines.pongs) pong.after = Time(20);
  for (int i = 0; i < 20; ++i) {
    const uint64_t step = machines.owner.post(1, machines.now);
    machines.tick_until(machines.now + Time(200));
    machines.pongs[0].ran = step, machines.pongs[0].busy += Time(180);
    machines.tick_until(machines.now + Time(200));
    machines.pongs[1].busy += Time(180);
    machines.end_step(step);
  }
  EXPECT_EQ(machines.owner.losses(), 0u);
}

TEST(ChainOwnerTest, AStageThatIsAtTheFirstStepFarLongerThanItTookToWarmUpIsGivenUpWithoutACopy) {
  QuickMachines machines(false);
  machines.pongs[0] = {.ran = machines.owner.post(64, machines.now), .busy = Time(30)};
  machines.pongs[1].busy = Time(300);
  machines.tick_until(machines.now + Time(1000));
  EXPECT_EQ(machines.owner.losses(), 0u) << "it may have been busy with something else";
  machines.pongs[1].busy = Time(900);
  machines.tick_until(machines.now + Time(100));
  EXPECT_EQ(machines.owner.losses(), 1u);
  EXPECT_FALSE(machines.owner.stage_of(1));
  EXPECT_TRUE(machines.owner.running() && !machines.owner.resuming()) << "from the tokens";
}

TEST(ChainOwnerTest, AStageThatIsAtALongStepAsLongAsThatTakesIsNotSlow) {
  QuickMachines machines(false);
  machines.owner.post(1024, machines.now);  // 64 times as many rows as when it warmed up
  for (int i = 0; i < 300; ++i) {
    machines.pongs[0].busy = machines.now;
    machines.tick_until(machines.now + Time(10));
  }
  EXPECT_EQ(machines.owner.losses(), 0u);
}

TEST(ChainOwnerTest, AFirstStepThatALinkHoldsUpIsNobodysFault) {
  QuickMachines machines(false);
  machines.owner.post(64, machines.now);
  machines.tick_until(machines.now + Time(60'000));
  EXPECT_EQ(machines.owner.losses(), 0u);
}

TEST(ChainOwnerTest, ASlowStageDoesNotTeachWhatIsUsual) {
  QuickMachines machines(false);
  machines.tick_until(Time(1000));
  machines.pongs[1].after = Time(80);
  machines.do_step(64, Time(600));  // its link's fault, as far as is known
  for (int i = 0; i < 20 && machines.owner.losses() == 0; ++i) {
    machines.pongs[1].busy += Time(100);
    machines.do_step(1, Time(400));
  }
  EXPECT_FALSE(machines.owner.stage_of(1));
}

TEST(ChainOwnerTest, AStageWhoseStepsEachTakeFarTooLongIsGivenUpThoughNoneTakesAsLongAsALostFrame) {
  for (const bool has_copies : {true, false}) {
    QuickMachines machines(has_copies);
    for (int i = 0; i < 5; ++i) machines.do_step(1, Time(20));
    const Time begin = machines.now;
    machines.pongs[1].after = Time(60);
    while (machines.owner.losses() == 0 && machines.now - begin < Time(9000)) {
      const uint64_t step = machines.pongs[0].ran = machines.owner.post(1, machines.now);
      machines.tick_until(machines.now + Time(400));
      if (machines.owner.losses() == 0) machines.end_step(step);
    }
    EXPECT_FALSE(machines.owner.stage_of(1)) << "it was waited for";
    EXPECT_EQ(machines.owner.resuming(), has_copies);
    EXPECT_LT(machines.now - begin, Time(has_copies ? 2500 : 4500));
    EXPECT_GT(machines.now - begin, Time(has_copies ? 1500 : 3000)) << "to start over costs more";
  }
}

TEST(ChainOwnerTest, StepsInTimeEndWhatWasSlow) {
  QuickMachines machines;
  for (int i = 0; i < 5; ++i) machines.do_step(1, Time(20));
  machines.pongs[0].after = Time(100);
  for (int i = 0; i < 60; ++i) machines.do_step(1, Time(i % 3 == 0 ? 600 : 20));  // as over a link that loses frames
  EXPECT_EQ(machines.owner.losses(), 0u);
}

TEST(ChainOwnerTest, WhatAlwaysTookLongIsNotSlow) {
  QuickMachines machines;
  machines.do_step(128, Time(5000));  // the first that is seen
  for (int i = 0; i < 5; ++i) machines.do_step(1, Time(50));
  for (int i = 0; i < 5; ++i) machines.do_step(128, Time(4000 + 1000 * i));
  for (int i = 0; i < 5; ++i) machines.do_step(64, Time(3000)), machines.do_step(256, Time(9000));
  EXPECT_EQ(machines.owner.losses(), 0u);
}

}  // namespace
}  // namespace hearth::cluster
