// gateway_campaign SIGNALS SECONDS: so many signals at 1 Hz, watched in every way, through the whole gateway to an adapter that takes
// everything but for a minute in ten. Prints what statistics alone cost, the processor's share and how memory grew. Its last line is the
// row of docs/campaigns.md.
#include "gateway/gateway.h"

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include "base/process_memory.h"
#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

using std::chrono::steady_clock;

class Taker final : public Adapter {
 public:
  explicit Taker(GatewayInputs& inputs) : inputs_(inputs) {}
  Result<> start(GatewayInputs inputs) override {
    inputs_ = std::move(inputs);
    return {};
  }
  Result<> publish(const Sample&) override {
    const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(steady_clock::now() - begin_).count();
    if (minutes % 10 == 9) return fail(Code::kIo, "away");
    return {};
  }
  Result<> write(const Write&) override { return {}; }
  void stop() override {}
  AdapterFigures figures() const override { return {true, 0, 0, 0, 0, ""}; }

 private:
  GatewayInputs& inputs_;
  steady_clock::time_point begin_ = steady_clock::now();
};

double processor_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  return static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

// One core's share for so many samples a second.
double statistics_share(size_t n_signals) {
  Watch watch{.deadband = 0.1, .outlier = 6, .drift = 12, .spike = 8, .unusual = 6, .fast = 50};
  std::vector<SignalStatistics> all;
  for (size_t i = 0; i < n_signals; ++i) all.emplace_back(watch);
  std::vector<double> noise(4096);
  std::mt19937 random(1);
  std::normal_distribution<double> normal(50, 1);
  for (double& each : noise) each = normal(random);
  std::vector<Event> events;
  constexpr int kSeconds = 60;
  const double before = processor_seconds();
  for (int second = 0; second < kSeconds; ++second)
    for (size_t i = 0; i < n_signals; ++i) {
      all[i].add(0, noise[(i * 31 + static_cast<size_t>(second) * 7) % noise.size()], second * 1000, 5, events);
      events.clear();
    }
  return (processor_seconds() - before) / kSeconds;
}

std::string site_of(size_t n_signals) {
  std::string site =
      "[[watch]]\nsignals = [\"*\"]\ndeadband = 0.5\noutlier = 6\ndrift = 12\nspike = 8\nfast = 50\nsilence = "
      "\"30s\"\n";
  for (size_t i = 0; i < n_signals; ++i)
    site += fmt::format("[[signal]]\nname = \"plant/{}\"\nmin = -1000\nmax = 1000\nmax_age = \"10s\"\nclass = \"{}\"\n",
                        i, i % 100 == 0 ? "A" : "C");
  return site;
}

int run(size_t n_signals, int seconds) {
  const double share = statistics_share(n_signals);
  fmt::print("statistics alone: {:.2f} % of a core for {} signals a second, {} bytes a signal\n", 100 * share,
             n_signals, sizeof(SignalStatistics));
  const TestFolder folder;
  folder.write("site.toml", site_of(n_signals));
  GatewayInputs inputs;
  GatewayOptions options{
      .profile = folder.path() / "site.toml", .folder = folder.path() / "data", .server = {}, .key = {}};
  options.more = [&](std::span<const Signal>) {
    std::vector<Profile::Part> parts;
    parts.push_back({"taker", "double", std::make_unique<Taker>(inputs)});
    return parts;
  };
  auto gateway = Gateway::start(std::move(options));
  if (!gateway) {
    fmt::print(stderr, "{}\n", gateway.error().message);
    return 1;
  }
  std::mt19937 random(2);
  std::normal_distribution<double> normal(50, 1);
  const auto begin = steady_clock::now();
  const double processor_before = processor_seconds();
  constexpr int kSlices = 20, kAwayOnce = 660;  // seconds
  uint64_t resident_early = 0, resident = 0;
  for (int slice = 0; slice < seconds * kSlices; ++slice) {
    const int64_t now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    for (size_t i = static_cast<size_t>(slice % kSlices); i < n_signals; i += kSlices)
      inputs.sample({static_cast<SignalId>(i), normal(random), now, Quality::kGood});
    resident = resident_bytes();
    // Everything has its size after two minutes, and what waits for the adapter has it once that was away.
    if (slice == (seconds > kAwayOnce ? kAwayOnce : std::min(120, seconds / 2)) * kSlices) resident_early = resident;
    std::this_thread::sleep_until(begin + std::chrono::milliseconds(1000 / kSlices) * (slice + 1));
  }
  const double cores =
      (processor_seconds() - processor_before) / std::chrono::duration<double>(steady_clock::now() - begin).count();
  const double growth = 100 * (static_cast<double>(resident) / static_cast<double>(resident_early) - 1);
  const boost::json::object state = (*gateway)->state();
  std::string dropped;
  for (const auto& each : state.at("queue").as_array())
    dropped += fmt::format(" {}", each.at("dropped").to_number<uint64_t>());
  const bool fine =
      growth < 1 && (*gateway)->metrics().find("hearth_gateway_inbox_dropped_total 0\n") != std::string::npos;
  fmt::print(
      "row: {} signals at 1 Hz for {} s | {:.1f} % of a core in all, {:.2f} % for statistics; dropped by class:{} | "
      "{}resident memory {:+.2f} %\n",
      n_signals, seconds, 100 * cores, 100 * share, dropped, fine ? "" : "FAILED: ", growth);
  return fine ? 0 : 1;
}

}  // namespace
}  // namespace hearth::gateway

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("gateway_campaign SIGNALS SECONDS\n", stderr);
    return 2;
  }
  return hearth::gateway::run(std::strtoul(argv[1], nullptr, 10), static_cast<int>(std::strtol(argv[2], nullptr, 10)));
}
