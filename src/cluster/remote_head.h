// A model's output head on another machine of the site, asked over one connection. It has no state: whatever goes wrong, the caller's own
// head gives the same bits, and this one is tried again later.
//
// Asking is the engine's thread's. Connecting, with all that the machine fetches for it, goes on apart, so that nobody waits for it.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>

#include "cluster/wire.h"
#include "engine/output_head.h"
#include "net/peer_link.h"

namespace hearth::cluster {

struct RemoteHeadOptions {
  std::shared_ptr<SiteTls> tls;
  ListenAddress node;
  // Nothing may come for so long and four times as long as answers took till then; a long answer may take as long as its bytes take on a
  // slow link, besides.
  std::chrono::milliseconds patience{500};
  // It is tried again after so long, each time twice as long, until many answers came.
  std::chrono::milliseconds pause{1000}, pause_max{60'000};
  std::shared_ptr<const void> kept{};  // what has to live as long
};

class RemoteHead final : public OutputHead {
 public:
  // `pack`: of the model, with so many values a row and so many tokens. Waits until the machine is ready, as long as it fetches something;
  // if it is not to be had that is a warning.
  static Result<std::shared_ptr<RemoteHead>> create(RemoteHeadOptions options, const std::filesystem::path& pack,
                                                    size_t d_model, size_t n_vocab);
  ~RemoteHead() override;
  RemoteHead(const RemoteHead&) = delete;
  RemoteHead& operator=(const RemoteHead&) = delete;

  Result<void> most_likely(std::span<const float> rows, int count, std::span<int32_t> tokens,
                           std::span<float> logits) override;
  Result<void> logits(std::span<const float> rows, std::span<float> out) override;

  // Rows that it answered for, and times that it was lost. From any thread.
  [[nodiscard]] uint64_t rows_answered() const { return n_rows_; }
  [[nodiscard]] uint64_t losses() const { return n_losses_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Link {
    std::shared_ptr<PeerLink> link;
    FrameReader reader;
    double row_seconds = 0;  // what a row took
  };

  RemoteHead(RemoteHeadOptions options, std::filesystem::path pack, Digest model, size_t d_model, size_t n_vocab)
      : options_(std::move(options)), pack_(std::move(pack)), model_(model), d_model_(d_model), n_vocab_(n_vocab) {}

  void begin_dialling();
  Result<Link> dial();
  Result<void> connected();
  void put_off(const std::string& why);
  // A few rows at once, until the last one; `take` gets each answer and the place of its first row.
  template <typename Take>
  Result<void> ask_all(std::span<const float> rows, uint32_t count, Take take);
  Result<HeadAnswer> ask(std::span<const float> rows, uint32_t count);
  Result<HeadAnswer> wait_for_answer(size_t n_rows, size_t bytes);
  [[nodiscard]] Result<void> check(const HeadAnswer& answer, size_t n_rows, uint32_t count) const;

  const RemoteHeadOptions options_;
  const std::filesystem::path pack_;
  const Digest model_;
  const size_t d_model_, n_vocab_;
  Link link_;  // none while it is lost
  uint64_t asked_ = 0;
  int answers_ = 0;  // since it was lost
  std::chrono::milliseconds pause_{};
  Clock::time_point next_try_{};
  std::atomic<uint64_t> n_rows_{0}, n_losses_{0}, n_given_{0};
  std::mutex dialled_mutex_;
  std::shared_ptr<PeerLink> dialled_;  // while it is not ready
  bool ending_ = false;
  std::future<Result<Link>> dialling_;  // last
};

}  // namespace hearth::cluster
