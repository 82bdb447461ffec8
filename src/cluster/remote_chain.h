// The owner's end of a chain: an engine's layers on other machines of the site, and the first of them here if the plan says so.
//
// All of it on the engine's thread: it sends, waits for answers and watches the stages while it waits. What to do is decided by
// ChainOwner; this gives it the events and does the actions.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

#include "cluster/chain_owner.h"
#include "cluster/stage.h"
#include "cluster/stage_steps.h"
#include "engine/chain.h"
#include "net/peer_link.h"

namespace hearth::cluster {

struct RemoteChainOptions {
  std::shared_ptr<SiteTls> tls;
  std::vector<ListenAddress> nodes;  // those with stages first, then spare ones
  ChainPlan plan{};
  ChainTiming timing{};
  // Of a chain that has one owner at a time in the site, and that owner's term; empty: it is this process's alone.
  std::string name{};
  uint32_t term = 0;
  // Whether another owner is known to have it by now. Any thread.
  std::function<bool()> taken_away{};
  RowFormat rows = RowFormat::kF32;
  std::string why{};                   // this plan, for people
  std::shared_ptr<const void> kept{};  // what has to live as long as the chain
};

class RemoteChain final : public Chain {
 public:
  // `pack`: of the model, which is a checkpoint of its own here; the backend is the engine's.
  static Result<std::shared_ptr<RemoteChain>> create(RemoteChainOptions options, const std::filesystem::path& pack,
                                                     std::shared_ptr<Backend> backend);
  ~RemoteChain() override;
  [[nodiscard]] ChainStats stats() const override;

  [[nodiscard]] const DecoderConfig& config() const override { return config_; }
  Result<void> start(const SequenceOptions& sequences, int context) override;
  [[nodiscard]] int depth() const override;
  [[nodiscard]] int row_bits() const override;
  Result<Ran> post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                   std::span<float> stream) override;
  Result<Ran> collect() override;

 private:
  struct Link {
    std::unique_ptr<PeerLink> link;
    FrameReader reader;
  };
  struct Node {
    ListenAddress address;
    Link control;
    std::string trouble;                   // why it was lost
    std::future<Result<Link>> dialling{};  // so that nobody waits for a machine that is only to have copies
    std::chrono::steady_clock::time_point pinged{};
  };
  struct Part {  // of a step of the engine
    std::vector<SequenceOp> ops;
    std::vector<StepRows> rows;
    std::span<float> stream;
    bool ends_step = false;
    uint64_t step = 0;  // its number as one of the chain's; 0: not sent
  };
  struct Sent {
    uint64_t step;
    std::vector<SequenceOp> ops;
    std::vector<StepRows> rows;
    std::vector<float> hidden;
  };

  RemoteChain(RemoteChainOptions options, Checkpoint pack, std::shared_ptr<Backend> backend, DecoderConfig config)
      : options_(std::move(options)),
        checkpoint_(std::move(pack)),
        backend_(std::move(backend)),
        config_(std::move(config)),
        owner_(options_.plan, static_cast<int>(options_.nodes.size()), options_.timing, can_resume(config_),
               steps_kept(step_bytes_max(config_)), options_.term) {}

  Result<void> set_up();
  bool displaced();
  Result<void> make_own_stage();
  Result<Ran> begin_again();
  Result<void> send_more();
  Result<void> send_first(Part& part);
  void deliver(uint64_t step);
  void pump(Time patience);
  void do_actions();
  void do_action(const ChainAction& action);
  void connect(int node);
  void finish_dialling();
  void assign(int node, Assign::Kind kind, LayerRange layers);
  void say(int node, const Message& message);
  void count(int node, uint64_t ChainStats::Machine::* bytes, uint64_t ChainStats::Machine::* frames, size_t n);
  void publish();
  void open_paths();
  void send(uint64_t step);
  void lose(int node, const std::string& why);
  // The frames that came on it. False: it is lost, with the reason.
  Result<void> read(Link& link, int node);
  void take(int node, Frame frame);
  Result<Link> dial(int node, LinkClass what, uint64_t epoch) const;
  void send_piece(int node, const Fetch& fetch);
  [[nodiscard]] std::string describe_plan() const;

  RemoteChainOptions options_;
  Checkpoint checkpoint_;
  std::shared_ptr<Backend> backend_;
  DecoderConfig config_;
  Digest model_{};
  SessionId session_{};
  ChainOwner owner_;
  StageOptions shape_{};  // of all stages, but the layers
  std::unique_ptr<Stage> own_;
  std::vector<Node> nodes_;
  Link steps_, results_;
  std::deque<Part> parts_;  // under way, oldest first
  std::deque<Sent> sent_;   // to be sent again: the last ones
  int steps_done_ = 0;      // of the engine's, and not collected
  std::vector<std::pair<uint64_t, std::vector<float>>> answers_;
  bool over_ = false, failed_ = false;
  std::string displaced_;  // by whom, once the chain is another owner's
  mutable std::mutex stats_mutex_;
  ChainStats stats_;
};

}  // namespace hearth::cluster
