// What the owner of a chain does when something happens: who is alive, which epoch it is, what has to be sent. No links, no clock, no
// threads: events go in with their time, actions come out, so that a simulation can replay any of it.
//
// A chain stands for one epoch. Whatever is lost (a connection, a stage that is silent, a path between two stages) ends it: the next epoch
// begins with a plan of who is left. Frames of other epochs count for nothing.
//
// Each piece of the model (a stage of the first plan) has its state copied, beside the work, to whoever would take it over, so that the next
// epoch can go on: the stages say how far their state is, and steps are sent again from there; who has run one repeats what came out. If
// some state is nowhere, or is behind what can still be repeated, all starts over and no stage knows any sequence. Planned moves are the
// same without a loss: a machine that wants to leave, or one that is back and whose piece is elsewhere.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "cluster/chain_plan.h"

namespace hearth::cluster {

using Time = std::chrono::milliseconds;  // on any clock that only goes forward

struct ChainTiming {
  Time heartbeat{100};
  // A stage that does not answer a ping for so long is lost: longer than TCP takes to get a frame through that is lost three times.
  Time silence{1450};
  Time loading{300'000};  // a stage may take so long to have its layers
  Time resend{4000};      // a step without answer is sent again, each time after twice as long
  Time second_chance{
      10'000};  // who was lost may be tried again after that; who was slow, after twice as long each time
  // Once steps have taken over four times what they should for so long, without others between, the stage that keeps them waiting is slow if
  // it answers pings late, too: a lost frame is sent again sooner. Its layers go to who has a copy of their state; after twice as long to
  // anybody, and all starts over.
  Time slow{1500};
  // After so long already, if its layers were at work for half of it, or an eighth if it answers late: then no link is to blame.
  Time slow_at_work{750};
  Time late_pong{30};         // later than that, and three times later than before
  Time not_slow{20};          // a step that should take less should take this
  Time usual_by_now{15'000};  // for so long slow, with nobody to blame: that is what steps take
  uint64_t behind{24};        // a stage moves when its copy is no more steps behind
};

struct ChainAction {
  enum class Kind : uint8_t {
    kConnect,     // to `node`; then connected() or lost()
    kDisconnect,  // from `node`
    kAssign,      // its stage to `node`, of plan(); with its state if resuming()
    kAssignCopy,  // a copy of `piece` to `node`; then copied(), not whole, when it can be filled
    kCopyTo,      // who has `piece` is to copy its state to `node`
    kClosePaths,  // an epoch ends: the connections for steps and results, and answers that were not delivered
    kOpenPaths,   // for steps to the first stage and for results from the last; lost() if that fails. All are ready
    kPing,        // `node`
    kSend,        // step `step` to the first stage
    kDeliver,     // the answer of `step`, which is the oldest
    kStartOver,   // what was posted will not be answered; an epoch ends
  };
  Kind kind;
  int node = -1;
  uint64_t step = 0;
  int piece = -1;
  uint64_t epoch = 0;  // in which it was wanted
  bool operator==(const ChainAction&) const = default;
};

class ChainOwner {
 public:
  // `resumable`: layers can go on from copied state. So many steps are kept to be sent again. `term`: the upper half of all epochs,
  // so that those of a later owner of the same chain are later.
  ChainOwner(ChainPlan plan, int n_nodes, ChainTiming timing, bool resumable, size_t kept, uint32_t term = 0);

  // Begins the first epoch, or one with all nodes of the first plan again.
  void begin(Time now);
  // Events. Those that name an epoch or a node that no longer counts change nothing.
  void connected(int node, Time now);
  void ready(int node, uint64_t epoch, const Ready& ready, Time now);
  void copied(int node, uint64_t epoch, LayerRange layers, bool whole, uint64_t done, Time now);
  void leaving(int node, Time now);
  void heard(int node);  // any frame of it
  void lost(int node, Time now);
  void lost_next(int node, Time now);  // the stage after this node's is out of its reach
  // Whether the answer is wanted, and is to be kept until it is delivered.
  bool answered(uint64_t epoch, uint64_t step, Time now);
  // The answer to a ping: the last step that its stage did, and how long it was at steps, in all.
  void ran(int node, uint64_t epoch, uint64_t done, Time busy, Time now);
  void tick(Time now);
  // A further step, of so many rows; running() and in_flight() below kWindow.
  uint64_t post(int rows, Time now);

  // What is to be done now, in order.
  std::vector<ChainAction> take_actions();

  static constexpr size_t kWindow = 8;  // steps posted and not answered
  [[nodiscard]] bool running() const { return phase_ == Phase::kRunning; }
  [[nodiscard]] bool resuming() const { return resuming_; }
  [[nodiscard]] size_t in_flight() const { return flying_.size(); }
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] const ChainPlan& plan() const { return plan_; }
  // "HOST:PORT" has its place by this: the node after a stage's, -1 after the last.
  [[nodiscard]] int next_node(int node) const;
  [[nodiscard]] const PlannedStage* stage_of(int node) const;
  [[nodiscard]] LayerRange piece(int piece) const { return first_plan_.stages[static_cast<size_t>(piece)].layers; }
  [[nodiscard]] int holder(int piece) const { return holders(first_plan_, plan_)[static_cast<size_t>(piece)]; }
  // Steps below this one are not sent again any more.
  [[nodiscard]] uint64_t oldest() const { return next_step_ - std::min<uint64_t>(next_step_ - 1, kept_); }
  // Epochs that ended by a loss, pieces that moved as planned, epochs that lost no state, and steps sent again for that.
  [[nodiscard]] uint64_t losses() const { return losses_; }
  [[nodiscard]] uint64_t slow() const { return slow_; }  // losses of machines that were alive, but slow
  [[nodiscard]] const std::string& why_slow() const { return why_slow_; }  // the last of them
  [[nodiscard]] uint64_t moves() const { return moves_; }
  [[nodiscard]] uint64_t resumed() const { return resumed_; }
  [[nodiscard]] uint64_t repeated() const { return repeated_; }

 private:
  enum class Phase : uint8_t { kIdle, kSettingUp, kRunning };
  struct Node {
    bool connected = false, ready = false;
    bool connecting = false;  // for a copy
    Time since{};             // assigned, or lost
    bool lost = false, leaving = false;
    Time second_chance{0};              // so much longer than others
    uint64_t ran = 0;                   // the last step that it did, as far as it said
    Time busy{}, busy_before{};         // as it said, and before the steps that take too long
    Time blamed{};                      // for so much of the time that these take
    std::array<Time, 5> round_trips{};  // of pings, the latest
    size_t n_round_trips = 0;
    Time round_trip_before{};  // as busy_before
    bool has_state = false;    // as it said when it got ready
    uint64_t done = 0, oldest = 0;
    bool asked = false;  // a ping is unanswered
    Time pinged{};
  };
  struct Flying {
    uint64_t step = 0;
    bool answered = false;
    Time sent{}, wait{};
    int rows = 0;        // 0: not known any more
    Time begun{};        // sent first
    bool again = false;  // it was delivered in an earlier epoch
  };
  struct Copy {
    int piece = 0, to = 0;
    bool whole = false;
    uint64_t done = 0;
  };

  void act(ChainAction::Kind kind, int node = -1, uint64_t step = 0, int piece = -1) {
    actions_.push_back({kind, node, step, piece, epoch_});
  }
  void begin_epoch(bool resuming, Time now);
  void go_on_with(ChainPlan plan, Time now);
  void start_over(Time now);
  void run_if_all_ready(Time now);
  bool repeat_steps(Time now);
  void begin_copies(Time now);
  void watch_slow(Time now);
  void took(int rows, Time time, Time now);
  void forget_slow();
  [[nodiscard]] Time usual(int rows) const;
  [[nodiscard]] std::optional<Time> by_warm_up(int rows) const;
  [[nodiscard]] bool too_long(int rows, Time took) const;
  [[nodiscard]] const PlannedStage* at_work(Time now) const;
  [[nodiscard]] bool has_copy(int node) const;
  [[nodiscard]] bool answers_late(int node, Time now) const;
  void move(Time now);
  [[nodiscard]] bool usable(int node, Time now) const;
  [[nodiscard]] int copy_goes_to(int piece, Time now) const;
  Node& at(int node) { return nodes_[static_cast<size_t>(node)]; }

  const ChainPlan first_plan_;
  ChainPlan plan_;
  const ChainTiming timing_;
  const bool resumable_;
  const size_t kept_;
  std::vector<Node> nodes_;
  std::vector<std::chrono::microseconds> warm_up_;  // of a layer, by node; 0: not known
  std::vector<Copy> copies_;                        // of this epoch
  Phase phase_ = Phase::kIdle;
  bool has_run_ = false;  // since all last started over, so that there may be state
  bool resuming_ = false;
  Time looked_{};  // for who should have copies
  uint64_t epoch_ = 0, next_step_ = 1, losses_ = 0, slow_ = 0, moves_ = 0, resumed_ = 0, repeated_ = 0;
  std::deque<Flying> flying_;
  std::array<Time, 32> took_{};  // steps at most, lately; by the bits of their number of rows
  Time answered_at_{};
  bool has_seen_ = false;           // how long a step takes
  std::optional<Time> slow_since_;  // steps take too long
  Time watched_{};
  std::string why_slow_;
  std::vector<ChainAction> actions_;
};

}  // namespace hearth::cluster
