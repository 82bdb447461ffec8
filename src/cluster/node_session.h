// One owner's use of one machine: the stage it was given, the steps it sends, where their answers go.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "cluster/node.h"
#include "cluster/stage.h"
#include "cluster/stage_steps.h"

namespace hearth::cluster {

class NodeSession {
 public:
  NodeSession(Node& node, SessionId id, std::shared_ptr<PeerLink> control)
      : node_(node), id_(id), control_(std::move(control)) {}
  ~NodeSession() { end(); }
  NodeSession(const NodeSession&) = delete;
  NodeSession& operator=(const NodeSession&) = delete;

  // On the thread of the control connection. Loading goes on apart; `ready` or a failure is sent then.
  void assign(uint64_t epoch, Assign assignment);
  void take_piece(PackPiece piece);
  // On the thread of a connection for steps.
  void step(uint64_t epoch, uint64_t number, Step step);
  // From now on answers go here, if this is the last stage.
  void answer_on(std::shared_ptr<PeerLink> link);
  // For people; without layers while there are none.
  [[nodiscard]] MemberStage stage() const;
  // Its connections are closed and nothing is waited for any more. From any thread.
  void end();

 private:
  void load(uint64_t epoch, const Assign& assignment);
  Result<void> make_stage(const Assign& assignment);
  Result<Checkpoint> open_model(uint64_t epoch, const Assign& assignment);
  Result<std::vector<std::byte>> fetch(uint64_t epoch, uint64_t offset, uint32_t bytes);
  void send_on(uint64_t epoch, std::span<const std::byte> bytes);
  Result<std::shared_ptr<PeerLink>> way_on(uint64_t epoch);
  void fail_with(uint64_t epoch, const std::string& message, bool of_next);

  Node& node_;
  const SessionId id_;
  const std::shared_ptr<PeerLink> control_;

  std::mutex steps_mutex_;  // held while a step is run and sent on
  StageSteps steps_;
  std::optional<Checkpoint> checkpoint_;
  Digest model_{};
  std::unique_ptr<Stage> stage_;

  mutable std::mutex mutex_;  // of what follows; never held while something is waited for but `changed_`
  std::condition_variable changed_;
  bool over_ = false;
  uint64_t assigned_ = 0;  // the epoch of the newest assignment, which may still be loading
  std::string next_;
  std::shared_ptr<PeerLink> next_link_, answers_;
  std::deque<PackPiece> pieces_;
  MemberStage told_;
  std::jthread loader_;  // last
};

}  // namespace hearth::cluster
