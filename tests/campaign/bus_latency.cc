// How long a message of several sizes takes, one way: between two machines of a site directly (TCP, TLS 1.3), through the site's broker,
// and through a leaf link to a hub. Half of a round trip; median and 99th percentile. All on this machine.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <thread>

#include "cluster/test_hub.h"
#include "net/peer_link.h"

namespace hearth::cluster {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kSizesKib[] = {1, 4, 16, 100, 1000};

struct Times {
  double median = 0, p99 = 0;
};
Times measure(int rounds, const std::function<void()>& round_trip) {
  std::vector<double> all;
  for (int i = 0; i < rounds + rounds / 10; ++i) {
    const auto begin = Clock::now();
    round_trip();
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count() / 2;
    if (i >= rounds / 10) all.push_back(ms);
  }
  std::ranges::sort(all);
  return {.median = all[all.size() / 2], .p99 = all[all.size() * 99 / 100]};
}

void receive_all(PeerLink& link, std::span<std::byte> into) {
  for (size_t got = 0; got < into.size();) {
    const auto some = link.receive(into.subspan(got));
    if (!some) return;
    if (*some == 0) link.wait(std::chrono::milliseconds(1000));
    got += *some;
  }
}

class Bench : public LinkedSites {
 public:
  void TestBody() override {}

  Times direct(size_t bytes, int rounds) {
    const auto tls = open_site(path("box")).value();
    const auto listener = PeerListener::listen(parse_listen_address("127.0.0.1:0").value()).value();
    std::vector<std::byte> sent(bytes), back(bytes);
    std::jthread echo([&] {
      const auto link = PeerListener::shake_hands(*tls, listener->accept(kSitePatience).value(), kSitePatience).value();
      std::vector<std::byte> heard(bytes);
      for (int i = 0; i < rounds + rounds / 10; ++i) {
        receive_all(*link, heard);
        (void)link->send_all(heard, kSitePatience);
      }
    });
    const auto address = parse_listen_address(fmt::format("127.0.0.1:{}", listener->port())).value();
    const auto link = PeerLink::dial(*tls, address, kSitePatience).value();
    return measure(rounds, [&] {
      (void)link->send_all(sent, kSitePatience);
      receive_all(*link, back);
    });
  }

  // `far` answers what `near` says.
  static Times over(ControlBus& near, ControlBus& far, const std::string& subject, size_t bytes, int rounds) {
    std::mutex mutex;
    std::condition_variable changed;
    int back = 0;
    const std::string ping = subject + ".ping" + std::to_string(bytes),
                      pong = subject + ".pong" + std::to_string(bytes);
    (void)far.subscribe(ping, [&](std::string_view, std::string_view data) { (void)far.publish(pong, data); });
    (void)near.subscribe(pong, [&](std::string_view, std::string_view) {
      const std::scoped_lock lock(mutex);
      ++back;
      changed.notify_all();
    });
    (void)far.flush(kSitePatience), (void)near.flush(kSitePatience);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // interest goes over the leaf link
    const std::string data(bytes, 'x');
    int sent = 0;
    return measure(rounds, [&] {
      (void)near.publish(ping, data);
      ++sent;
      std::unique_lock lock(mutex);
      changed.wait_for(lock, kSitePatience, [&] { return back >= sent; });
    });
  }

  void run() {
    const auto box = connect(options("box")), cellar = connect(options("cellar")), hub = connect(hub_options("box"));
    std::printf("| size | direct | broker | leaf and hub |\n| --- | --- | --- | --- |\n");
    for (const int kib : kSizesKib) {
      const size_t bytes = static_cast<size_t>(kib) << 10;
      const int rounds = kib >= 100 ? 200 : 1000;
      const Times one = direct(bytes, rounds), two = over(*box, *cellar, "hearth.jobs.bench", bytes, rounds),
                  three = over(*box, *hub, "up.bench", bytes, rounds);
      std::printf("| %d KiB | %.3f / %.3f ms | %.3f / %.3f ms | %.3f / %.3f ms |\n", kib, one.median, one.p99,
                  two.median, two.p99, three.median, three.p99);
      std::fflush(stdout);
    }
  }
};

}  // namespace
}  // namespace hearth::cluster

int main() { hearth::cluster::Bench().run(); }
