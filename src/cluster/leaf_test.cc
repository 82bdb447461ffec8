// A site that is a leaf of a hub: what leaves it, and what happens when the link is cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "cluster/test_hub.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;
using test::soon;

constexpr BusQueue kHere{"hearth_jobs", "hearth.jobs.>"}, kAtHub{"hearth_jobs", "up.jobs.>"};

// How much longer the cut lasts: none in the tests, minutes in `./dev campaign cut`.
std::chrono::seconds cut_time() {
  const char* given = std::getenv("HEARTH_CUT_SECONDS");
  return std::chrono::seconds(given ? std::atoi(given) : 0);
}

std::vector<std::string> take_all(ControlBus& bus, const BusQueue& queue) {
  std::vector<std::string> all;
  for (;;) {
    const auto taken = bus.take(
        queue,
        [&](std::string_view, std::string_view data) {
          all.emplace_back(data);
          return true;
        },
        milliseconds(500));
    EXPECT_TRUE(taken) << taken.error().message;
    if (!taken || !*taken) return all;
  }
}

class Leaf : public LinkedSites {
 protected:
  // What waits in the site's queue goes to the hub's; what the hub did not take in stays. How many went.
  static int forward(ControlBus& bus) {
    int gone = 0;
    for (;;) {
      const auto taken = bus.take(
          kHere,
          [&](std::string_view subject, std::string_view data) {
            const std::string id(data.substr(0, data.find(' ')));
            const std::string up = "up.jobs." + std::string(subject.substr(subject.rfind('.') + 1));
            const bool there = bus.post(up, id, data).has_value();
            gone += there ? 1 : 0;
            return there;
          },
          milliseconds(500));
      if (!taken || !*taken) return gone;
      if (gone == 0) return 0;  // the hub takes nothing now
    }
  }
};

TEST_F(Leaf, ASiteGoesOnAloneAndItsJobsArriveOnce) {
  const auto box = connect(options("box")), cellar = connect(options("cellar")), hub = connect(hub_options("box"));
  ASSERT_TRUE(hub->make(kAtHub)) << hub_->log();
  ASSERT_TRUE(box->make(kHere)) << broker_->log();
  ASSERT_TRUE(soon([&] { return box->post("up.jobs.digest", "first", "first at once").has_value(); }))
      << broker_->log() << hub_->log();
  hub_->signal(SIGSTOP);  // the link is there, and nobody at its end
  std::vector<std::string> wanted{"first at once"}, arrived;
  const auto post = [&] {
    const std::string id = fmt::format("job{:04}", wanted.size()), data = id + " of the cellar";
    const auto posted = cellar->post("hearth.jobs.batch", id, data);
    ASSERT_TRUE(posted) << posted.error().message;
    EXPECT_TRUE(cellar->post("hearth.jobs.batch", id, data)) << "twice is once";
    wanted.push_back(data);
    EXPECT_TRUE(cellar->put({"hearth_nodes", std::chrono::seconds(30)}, "cellar.node", data)) << "the site goes on";
    EXPECT_TRUE(box->publish("hearth.beat.box", "still here"));
  };
  for (int i = 0; i < 5; ++i) post();
  EXPECT_EQ(forward(*box), 0) << "nothing goes now";
  hub_->kill();
  EXPECT_EQ(forward(*box), 0);
  for (const auto end = std::chrono::steady_clock::now() + cut_time(); std::chrono::steady_clock::now() < end;) {
    post();
    EXPECT_EQ(forward(*box), 0);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  hub_->start();
  int gone = 0;
  EXPECT_TRUE(soon([&] { return (gone += forward(*box)) + 1 >= static_cast<int>(wanted.size()); }))
      << broker_->log() << hub_->log();
  ASSERT_TRUE(hub->wait(kSitePatience));
  EXPECT_TRUE(soon([&] {
    const auto more = take_all(*hub, kAtHub);
    arrived.insert(arrived.end(), more.begin(), more.end());
    return arrived.size() >= wanted.size();
  }));
  EXPECT_TRUE(take_all(*hub, kAtHub).empty()) << "nothing comes twice";
  std::ranges::sort(arrived);  // what waited for its next try comes later
  EXPECT_EQ(arrived, wanted);
  fmt::print("{} jobs arrived of {} posted in a cut of {} s\n", arrived.size(), wanted.size(), cut_time().count());
}

TEST_F(Leaf, WhatIsTheSitesStaysInIt) {
  std::mutex mutex;  // outlives the connections, which call back
  std::vector<std::string> heard;
  const auto box = connect(options("box")), hub = connect(hub_options("cellar"));
  for (const std::string subject : {"hearth.>", "up.>"})
    ASSERT_TRUE(hub->subscribe(subject, [&](std::string_view, std::string_view data) {
      const std::scoped_lock lock(mutex);
      heard.emplace_back(data);
    }));
  ASSERT_TRUE(hub->flush(kSitePatience));
  EXPECT_TRUE(soon([&] {
    EXPECT_TRUE(box->publish("hearth.beat.box", "who is at home"));
    EXPECT_TRUE(box->publish("up.digest", "how much is free"));
    const std::scoped_lock lock(mutex);
    return !heard.empty();
  })) << broker_->log();
  const std::scoped_lock lock(mutex);
  for (const std::string& each : heard) EXPECT_EQ(each, "how much is free");
}

}  // namespace
}  // namespace hearth::cluster
