// A pacer that asks a power governor. A template over it, since neither room knows the other.
#pragma once

#include <memory>
#include <utility>

#include "engine/pacer.h"

namespace hearth {

template <typename Governor>
class GovernedPacer final : public Pacer {
 public:
  explicit GovernedPacer(std::shared_ptr<Governor> governor) : governor_(std::move(governor)) {}
  Result<void> admit(const Request& /*request*/) override { return governor_->admit(); }
  Pacing step_done(const Rows& rows) override {
    const auto pace = governor_->step_done(rows.prompt, rows.generated(), rows.drafted);
    return {.pause_seconds = pace.pause_seconds,
            .share = pace.share,
            .classes = pace.classes,
            .threads = pace.threads,
            .prefill_max = pace.prefill_max,
            .drafts_max = pace.drafts_max,
            .bits = pace.bits};
  }
  Energy take_energy() override {
    const auto energy = governor_->take_energy();
    return {energy.joules, energy.measured};
  }

 private:
  std::shared_ptr<Governor> governor_;
};

}  // namespace hearth
