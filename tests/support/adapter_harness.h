// A profile's adapters as the gateway would run them, with what they say kept for a test to look at.
#pragma once

#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gateway/profile.h"
#include "support/mqtt_broker.h"

namespace hearth::test {

class AdapterHarness {
 public:
  // Starts the profile's first adapter.
  explicit AdapterHarness(const std::string& text) : profile_(parsed(text)) {
    const auto started = adapter().start({.sample =
                                              [this](const gateway::Sample& sample) {
                                                const std::scoped_lock lock(mutex_);
                                                samples_.push_back(sample);
                                              },
                                          .request =
                                              [this](const gateway::Write& write, std::string_view source) {
                                                const std::scoped_lock lock(mutex_);
                                                requests_.emplace_back(write, source);
                                              },
                                          .confirm =
                                              [this](std::string_view token, std::string_view source) {
                                                const std::scoped_lock lock(mutex_);
                                                confirmed_.emplace_back(token, source);
                                              },
                                          .away =
                                              [this](std::span<const gateway::SignalId> signals, bool away) {
                                                const std::scoped_lock lock(mutex_);
                                                away_.resize(profile_.signals.size());
                                                for (const auto id : signals) away_[id] = away;
                                              }});
    EXPECT_TRUE(started.has_value()) << (started ? "" : started.error().message);
  }
  ~AdapterHarness() { adapter().stop(); }
  AdapterHarness(const AdapterHarness&) = delete;
  AdapterHarness& operator=(const AdapterHarness&) = delete;

  [[nodiscard]] gateway::Adapter& adapter() const { return *profile_.adapters.at(0).adapter; }
  [[nodiscard]] const gateway::Profile& profile() const { return profile_; }
  [[nodiscard]] bool connected() const {
    return soon([this] { return adapter().figures().connected; });
  }
  [[nodiscard]] std::vector<gateway::Sample> samples(gateway::SignalId id) const {
    const std::scoped_lock lock(mutex_);
    std::vector<gateway::Sample> all;
    for (const auto& sample : samples_)
      if (sample.signal == id) all.push_back(sample);
    return all;
  }
  [[nodiscard]] std::vector<std::pair<gateway::Write, std::string>> requests() const {
    const std::scoped_lock lock(mutex_);
    return requests_;
  }
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> confirmed() const {
    const std::scoped_lock lock(mutex_);
    return confirmed_;
  }
  [[nodiscard]] bool away(gateway::SignalId id) const {
    const std::scoped_lock lock(mutex_);
    return id < away_.size() && away_[id];
  }

 private:
  static gateway::Profile parsed(const std::string& text) {
    auto profile = gateway::Profile::parse(text, "test.toml");
    if (profile) return std::move(*profile);
    ADD_FAILURE() << profile.error().message;
    std::exit(1);
  }
  gateway::Profile profile_;
  mutable std::mutex mutex_;
  std::vector<gateway::Sample> samples_;
  std::vector<std::pair<gateway::Write, std::string>> requests_;
  std::vector<std::pair<std::string, std::string>> confirmed_;
  std::vector<bool> away_;
};

}  // namespace hearth::test
