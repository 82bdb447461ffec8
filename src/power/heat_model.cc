#include "power/heat_model.h"

#include <algorithm>
#include <cmath>

namespace hearth::power {
namespace {

constexpr double kSpacing = 2;        // seconds between points of the history
constexpr size_t kPoints = 240;       // eight minutes
constexpr double kOffsetSeconds = 4;  // in which the offset follows
constexpr double kGap = 120;          // longer ones are not bridged
constexpr double kStepSeconds = 1;    // of a simulation

// Before anything was seen: hotter than most, so that the first seconds are careful. Bounds keep the fit to what there is.
struct Bounds {
  double prior, lowest, highest, step,
      spread;  // step: relative (absolute for temperatures), as is the spread of the prior
};
constexpr std::array<Bounds, HeatModel::kFigures> kBounds{{{30, 2, 120, 0.1, 2},
                                                           {6, 1, 60, 0.1, 2},
                                                           {40, 2, 200, 0.1, 2},
                                                           {400, 30, 6000, 0.1, 2},
                                                           {0, -40, 90, 1, 15},
                                                           {0, -40, 120, 1, 10}}};
constexpr bool is_temperature(size_t figure) { return figure >= HeatModel::kAmbient; }

}  // namespace

void HeatModel::advance(Nodes& nodes, const std::array<double, kFigures>& f, double load, double seconds) {
  while (seconds > 1e-9) {
    const double dt = std::min(seconds, kStepSeconds);
    const double target = nodes.enclosure + f[kRise1] * load;
    const double die = target + (nodes.die - target) / (1 + dt / f[kTau1] + 0.5 * (dt / f[kTau1]) * (dt / f[kTau1]));
    const double flow = (0.5 * (nodes.die + die) - nodes.enclosure) / f[kRise1];
    nodes.enclosure += (f[kAmbient] + f[kRise2] * flow - nodes.enclosure) * dt / f[kTau2];
    nodes.die = die;
    seconds -= dt;
  }
}

// Of the history, at figures: squares of the errors, and of how far the figures are from what is usual (a weak pull, so that those
// that the history says nothing about stay put).
double HeatModel::cost(const std::array<double, kFigures>& f) const {
  Nodes nodes{history_.front().temperature_c, f[kCaseAtFirst]};
  double sum = 0;
  for (size_t i = 1; i < history_.size(); ++i) {
    advance(nodes, f, history_[i].load, history_[i].seconds - history_[i - 1].seconds);
    const double error = nodes.die - history_[i].temperature_c;
    sum += error * error;
  }
  for (size_t i = 0; i < kFigures; ++i) {
    const double prior = i == kAmbient ? first_ambient_ : kBounds[i].prior;
    const double off = i == kCaseAtFirst ? 0 : is_temperature(i) ? f[i] - prior : std::log(f[i] / prior);
    sum += off * off / (kBounds[i].spread * kBounds[i].spread);
  }
  return sum;
}

// Tries each figure a step higher and lower; steps that helped get longer, the others shorter.
void HeatModel::sweep() {
  double best = cost(figures_);
  for (size_t i = 0; i < kFigures; ++i) {
    bool helped = false;
    for (const double sign : {1.0, -1.0}) {
      auto tried = figures_;
      tried[i] = is_temperature(i) ? tried[i] + sign * steps_[i] : tried[i] * std::exp(sign * steps_[i]);
      tried[i] = std::clamp(tried[i], kBounds[i].lowest, kBounds[i].highest);
      if (const double value = cost(tried); value < best) {
        best = value, figures_ = tried, helped = true;
        break;
      }
    }
    const double shortest = kBounds[i].step / 20, longest = kBounds[i].step * 4;
    steps_[i] = std::clamp(steps_[i] * (helped ? 1.6 : 0.6), shortest, longest);
  }
  residual_c_ = std::sqrt(best / static_cast<double>(history_.size()));
  now_ = {history_.front().temperature_c, figures_[kCaseAtFirst]};
  for (size_t i = 1; i < history_.size(); ++i)
    advance(now_, figures_, history_[i].load, history_[i].seconds - history_[i - 1].seconds);
}

void HeatModel::restart() {
  history_.clear();
  pending_load_ = offset_c_ = 0;
}

void HeatModel::add(double seconds, double temperature_c, double load) {
  load = std::clamp(load, 0.0, 2.0);
  if (!history_.empty() && (seconds - now_seconds_ > kGap || seconds < now_seconds_)) restart();
  if (history_.empty()) {
    const bool first = swept_seconds_ == 0 && figures_[kTau1] == 0;
    for (size_t i = 0; i < kFigures; ++i) {
      if (first) figures_[i] = kBounds[i].prior;
      steps_[i] = kBounds[i].step;
    }
    if (first) first_ambient_ = figures_[kAmbient] = std::min(temperature_c, 40.0);
    figures_[kCaseAtFirst] = temperature_c;  // nothing is known of what it did before: as if it had rested
    history_.push_back({seconds, temperature_c, load});
    now_ = {temperature_c, temperature_c};
    now_seconds_ = swept_seconds_ = seconds;
    return;
  }
  advance(now_, figures_, load, seconds - now_seconds_);
  const double passed = seconds - now_seconds_;
  now_seconds_ = seconds;
  pending_load_ += load * passed;
  if (seconds - history_.back().seconds >= kSpacing) {
    history_.push_back({seconds, temperature_c, pending_load_ / (seconds - history_.back().seconds)});
    pending_load_ = 0;
    if (history_.size() > kPoints) {
      Nodes nodes{history_.front().temperature_c, figures_[kCaseAtFirst]};
      advance(nodes, figures_, history_[1].load, history_[1].seconds - history_[0].seconds);
      figures_[kCaseAtFirst] = nodes.enclosure;
      history_.pop_front();
    }
    const double every = history_.size() < 60 ? kSpacing : 3 * kSpacing;
    if (history_.size() >= 4 && seconds - swept_seconds_ >= every) {
      sweep();
      swept_seconds_ = seconds;
    }
  }
  offset_c_ += std::min(1.0, passed / kOffsetSeconds) * (temperature_c - now_.die - offset_c_);
}

double HeatModel::predict(double load, double seconds) const { return simulated_c(load, seconds) + offset_c_; }

double HeatModel::simulated_c(double load, double seconds) const {
  Nodes nodes = now_;
  advance(nodes, figures_, load, seconds);
  return nodes.die;
}

// The model is linear: what comes of no load, and of a load of 1 from rest, add up.
double HeatModel::highest_load(double limit_c, double seconds) const {
  auto at_rest = figures_;
  at_rest[kAmbient] = 0;
  Nodes rest = now_, step{0, 0};
  double highest = 1;
  for (double at = 2; at <= seconds; at += 2) {
    advance(rest, figures_, 0, 2);
    advance(step, at_rest, 1, 2);
    highest = std::min(highest, (limit_c - offset_c_ - rest.die) / std::max(step.die, 1e-3));
  }
  return std::clamp(highest, 0.0, 1.0);
}

}  // namespace hearth::power
