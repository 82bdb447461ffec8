// One owner's use of one machine: the layers it was given, the steps it sends, where their answers and copies of the state go.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
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
  void copy_to(uint64_t epoch, CopyTo copy);
  void tell_leaving();
  void head(uint64_t epoch, uint64_t number, const HeadRows& rows);
  // On the thread of a connection for steps.
  void step(uint64_t epoch, uint64_t number, Step step);
  // On the thread of a connection for copies. False: it is of no more use.
  bool take_copy(uint64_t epoch, uint64_t done, const CopyPart& part);
  // It was assigned that last. From any thread.
  [[nodiscard]] bool has_head_alone() const { return has_head_alone_; }
  // From now on answers go here, if this is the last stage.
  void answer_on(std::shared_ptr<PeerLink> link);
  // The answer to a ping.
  [[nodiscard]] Frame pong(uint64_t epoch) const;
  // For people; without layers while there are none.
  [[nodiscard]] MemberStage stage() const;
  // Its connections are closed and nothing is waited for any more. From any thread.
  void end();

 private:
  struct Loaded {  // a piece's layers, with what they are read from
    std::unique_ptr<Checkpoint> checkpoint;
    std::unique_ptr<Stage> stage;
    Digest model{};
    std::chrono::microseconds warm_up{};  // 0: none was tried
  };
  struct LoadedHead {
    std::unique_ptr<Checkpoint> checkpoint;
    std::unique_ptr<HeadStage> stage;
  };
  using Pieces = StagePieces<Loaded, Step>;

  void load(uint64_t epoch, const Assign& assignment);
  void tell(uint64_t epoch, LayerRange layers, const Digest& model);
  void load_head(uint64_t epoch, const Assign& assignment);
  Result<LoadedHead> make_head(uint64_t epoch, const Assign& assignment, std::chrono::microseconds& warm_up);
  void load_copy(uint64_t epoch, const Assign& assignment);
  void resume(uint64_t epoch, const Assign& assignment);
  Result<Pieces::Piece> make_piece(uint64_t epoch, const Assign& assignment, LayerRange range);
  Result<Checkpoint> open_model(uint64_t epoch, const Assign& assignment);
  Result<std::vector<std::byte>> fetch(uint64_t epoch, uint64_t offset, uint32_t bytes);
  void set_busy(bool busy);
  void send_on(uint64_t epoch, std::span<const std::byte> bytes);
  Result<std::shared_ptr<PeerLink>> way_on(uint64_t epoch);
  void say(uint64_t epoch, const Message& message);
  void fail_with(uint64_t epoch, const std::string& message, Failure::Of of);
  Result<void> copy_out(const std::stop_token& stop, uint64_t epoch, const CopyTo& copy);
  std::optional<Frame> next_part(uint64_t epoch, LayerRange range, std::vector<int32_t>& due, uint64_t& sent);

  Node& node_;
  const SessionId id_;
  const std::shared_ptr<PeerLink> control_;

  std::mutex steps_mutex_;  // held while a step is run and sent on
  Pieces pieces_;
  LoadedHead head_;

  std::atomic<uint64_t> done_{0};  // the last step that ran here
  std::atomic<bool> has_head_alone_{false};

  mutable std::mutex mutex_;  // of what follows; never held while something is waited for but `changed_`
  std::condition_variable changed_;
  bool over_ = false;
  uint64_t assigned_ = 0;  // the epoch of the newest assignment, which may still be loading
  std::string next_;
  RowFormat rows_as_ = RowFormat::kF32;  // that are sent on
  std::shared_ptr<PeerLink> next_link_, answers_;
  std::deque<PackPiece> pieces_of_pack_;
  std::map<int, std::shared_ptr<PeerLink>> copy_links_;  // by a piece's first layer
  std::map<int, std::jthread> copiers_;                  // likewise; the control connection's thread alone
  MemberStage told_;
  std::chrono::steady_clock::duration busy_{};                  // at steps that are done
  std::optional<std::chrono::steady_clock::time_point> since_;  // the layers are at one
  std::jthread loader_;                                         // last
};

}  // namespace hearth::cluster
