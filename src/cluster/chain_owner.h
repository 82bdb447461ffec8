// What the owner of a chain does when something happens: who is alive, which epoch it is, what has to be sent. No links, no clock, no
// threads: events go in with their time, actions come out, so that a simulation can replay any of it.
//
// A chain stands for one epoch. Whatever is lost (a connection, a stage that is silent, a path between two stages) ends it: the
// next epoch begins with a plan of who is left, and no stage knows any sequence. Frames of other epochs count for nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "cluster/chain_plan.h"

namespace hearth::cluster {

using Time = std::chrono::milliseconds;  // on any clock that only goes forward

struct ChainTiming {
  Time heartbeat{150};
  Time silence{1000};          // a stage that does not answer a ping for so long is lost
  Time loading{300'000};       // a stage may take so long to have its layers
  Time resend{4000};           // a step without answer is sent again, each time after twice as long
  Time second_chance{10'000};  // who was lost may be tried again after that
};

struct ChainAction {
  enum class Kind : uint8_t {
    kConnect,     // to `node`; then connected() or lost()
    kDisconnect,  // from `node`
    kAssign,      // its stage to `node`, of plan()
    kOpenPaths,   // for steps to the first stage and for results from the last; lost() if that fails. All are ready
    kPing,        // `node`
    kSend,        // step `step` to the first stage
    kDeliver,     // the answer of `step`, which is the oldest
    kStartOver,   // what was posted will not be answered; an epoch ends
  };
  Kind kind;
  int node = -1;
  uint64_t step = 0;
  bool operator==(const ChainAction&) const = default;
};

class ChainOwner {
 public:
  // `term`: the upper half of all epochs, so that those of a later owner of the same chain are later.
  ChainOwner(ChainPlan plan, int n_nodes, ChainTiming timing, uint32_t term = 0);

  // Begins the first epoch, or one with all nodes of the first plan again.
  void begin(Time now);
  // Events. Those that name an epoch or a node that no longer counts change nothing.
  void connected(int node, Time now);
  void ready(int node, uint64_t epoch, Time now);
  void heard(int node);  // any frame of it
  void lost(int node, Time now);
  void lost_next(int node, Time now);  // the stage after this node's is out of its reach
  void answered(uint64_t epoch, uint64_t step);
  void tick(Time now);
  // A further step; running() and in_flight() below kWindow.
  uint64_t post(Time now);

  // What is to be done now, in order.
  std::vector<ChainAction> take_actions();

  static constexpr size_t kWindow = 8;  // steps posted and not answered
  [[nodiscard]] bool running() const { return phase_ == Phase::kRunning; }
  [[nodiscard]] size_t in_flight() const { return flying_.size(); }
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] const ChainPlan& plan() const { return plan_; }
  // "HOST:PORT" has its place by this: the node after a stage's, -1 after the last.
  [[nodiscard]] int next_node(int node) const;
  [[nodiscard]] const PlannedStage* stage_of(int node) const;
  // Epochs that ended by a loss.
  [[nodiscard]] uint64_t losses() const { return losses_; }

 private:
  enum class Phase : uint8_t { kIdle, kSettingUp, kRunning };
  struct Node {
    bool connected = false, ready = false;
    Time since{};  // assigned, or lost
    bool lost = false;
    bool asked = false;  // a ping is unanswered
    Time pinged{};
  };
  struct Flying {
    uint64_t step = 0;
    bool answered = false;
    Time sent{}, wait{};
  };

  void act(ChainAction::Kind kind, int node = -1, uint64_t step = 0) { actions_.push_back({kind, node, step}); }
  void begin_epoch(Time now);
  void run_if_all_ready();
  Node& at(int node) { return nodes_[static_cast<size_t>(node)]; }

  const ChainPlan first_plan_;
  ChainPlan plan_;
  const ChainTiming timing_;
  std::vector<Node> nodes_;
  Phase phase_ = Phase::kIdle;
  uint64_t epoch_ = 0, next_step_ = 1, losses_ = 0;
  std::deque<Flying> flying_;
  std::vector<ChainAction> actions_;
};

}  // namespace hearth::cluster
