#include "cli/core_options.h"

#include <chrono>
#include <mutex>
#include <thread>

#include "base/topology.h"
#include "cli/settings.h"
#include "model/sequence.h"
#include "power/core_probe.h"

namespace hearth::cli {
namespace {

// Steps of a token for a sequence of its own, for so many seconds: how many.
Result<int> generate(const Model& model, SequenceStore& store, int positions, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  const SequenceId id = TRY(store.open());
  const int32_t row = 0;
  Token token = 0;
  float logit = 0;
  int steps = 0;
  do {
    TRY(store.reserve(id, 1));
    const SequenceRows rows = store.rows(id, 0, 1);
    model.decoder->run({.tokens = {&token, 1}, .sequences = {&rows, 1}}, store);
    store.advance(id, 1);
    model.decoder->most_likely({&row, 1}, 1, {&token, 1}, {&logit, 1});
  } while (++steps < positions && Clock::now() < until);
  store.release(id);
  return steps;
}

Result<power::CoreDecision> probe(const Model& model, KvType kv_type, std::span<const power::CoreClass> classes,
                                  double watts_per_core, const std::filesystem::path& root) {
  constexpr int kPositions = 256;
  const int positions = std::min(kPositions, model.decoder->context());
  const auto store = TRY(SequenceStore::create(*model.backend, model.decoder->config(),
                                               {.kv_type = kv_type, .positions_max = positions, .sequences_max = 1}));
  TRY(generate(model, *store, 1, 0));  // pages of weights that come from disk are nobody's fault
  Result<power::CoreDecision> decision;
  // On a thread of its own: the one that asks stays where it was.
  std::jthread([&] {
    power::Sensors sensors({.root = root, .now = {}, .own_cpu = {}});
    Result<void> well;
    decision = power::decide_cores(classes, sensors, watts_per_core, [&](std::span<const int> cpus, double seconds) {
      model.backend->use_cores(cpus);
      model.backend->keep_caller();
      const auto steps = generate(model, *store, positions, seconds);
      if (!steps) well = std::unexpected(steps.error());
      return steps.value_or(0);
    });
    if (!well) decision = std::unexpected(well.error());
  }).join();
  return decision;
}

}  // namespace

Result<CoreOptions> CoreOptions::prepare(const PowerOptions& power, int& n_threads, const std::filesystem::path& root) {
  CoreOptions made;
  if (power.cores == "fast") return made;
  made.classes_ = power::choosable_cores(allowed_cpus(), root);
  if (made.classes_.size() < 2) {
    made.note_ = fmt::format("--cores {}: {}", power.cores,
                             made.classes_.empty() ? "the system does not tell kinds of cores: nothing to choose"
                                                   : "there is one kind of cores: nothing to choose");
    made.classes_.clear();
    return made;
  }
  if (n_threads > 0)
    return fail(Code::kInvalidArgument, "--cores {} says how many threads there are; leave out --threads {}",
                power.cores, n_threads);
  for (const power::CoreClass& each : made.classes_) n_threads += static_cast<int>(each.cpus.size());
  made.probe_ = power.cores == "auto";
  made.watts_per_core_ = power.watts_per_core;
  made.root_ = root;
  return made;
}

SettleCores CoreOptions::settle(std::shared_ptr<power::Governor> governor) const {
  if (!note_.empty()) governor->note(note_);
  if (classes_.empty()) return {};
  struct Decided {
    std::mutex mutex;
    std::vector<int> cpus;
  };
  auto decided = std::make_shared<Decided>();
  return [self = *this, decided, governor = std::move(governor)](Model& model, KvType kv_type) -> Result<void> {
    const std::scoped_lock lock(decided->mutex);
    if (decided->cpus.empty()) {
      power::CoreDecision decision;
      if (self.probe_) {
        decision = TRY(probe(model, kv_type, self.classes_, self.watts_per_core_, self.root_));
      } else {
        for (const power::CoreClass& each : self.classes_)
          decision.cpus.insert(decision.cpus.end(), each.cpus.begin(), each.cpus.end());
        decision.text = fmt::format("cores of all {} kinds, as asked for", self.classes_.size());
      }
      decided->cpus = decision.cpus;
      governor->use_threads(static_cast<int>(decision.cpus.size()), std::move(decision.text));
    }
    model.backend->use_cores(decided->cpus);
    return {};
  };
}

}  // namespace hearth::cli
