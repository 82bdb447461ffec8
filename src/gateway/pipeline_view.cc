// What people see of a pipeline.
#include <boost/json/serialize.hpp>
#include <ranges>

#include "gateway/pipeline.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

}  // namespace

json::array Pipeline::signals_json(std::string_view begin, size_t most) const {
  json::array all;
  for (SignalId id = 0; id < signals_.size() && all.size() < most; ++id) {
    const Signal& signal = signals_[id];
    if (!signal.name.starts_with(begin)) continue;
    const Current& current = values_[id];
    json::object shown_signal{{"name", signal.name},
                              {"label", signal.label},
                              {"unit", signal.unit},
                              {"value", json_of(current.value)},
                              {"quality", name_of(current.quality)},
                              {"time_ms", current.time_ms},
                              {"writable", signal.write.has_value()}};
    if (const Window& window = statistics_[id].last_window(); window.count > 0)
      shown_signal["window"] = {{"begin_ms", window.begin_ms}, {"count", window.count}, {"min", window.min},
                                {"max", window.max},           {"mean", window.mean},   {"p95", window.p95}};
    all.push_back(std::move(shown_signal));
  }
  return all;
}

json::array Pipeline::events_json() const {
  json::array all;
  for (const ShownEvent& each : events_ | std::views::reverse)
    all.push_back({{"time_ms", each.event.time_ms},
                   {"kind", name(each.event.kind)},
                   {"signal", signals_[each.event.signal].name},
                   {"score", each.event.score},
                   {"text", each.text}});
  return all;
}

json::array Pipeline::decisions_json(size_t most) const {
  json::array all;
  for (const Decision& each : decisions_ | std::views::reverse | std::views::take(static_cast<ptrdiff_t>(most))) {
    json::array offers;
    json::value signal, value;  // what is written by what was chosen
    for (const Offer& offer : each.offers) {
      offers.push_back(json::string(offer.name));
      if (offer.name == each.chosen && offer.write) signal = signals_[*offer.write].name, value = json_of(offer.value);
    }
    all.push_back({{"id", each.id},
                   {"time_ms", each.time_ms},
                   {"rule", each.rule_name},
                   {"event", each.event},
                   {"offers", std::move(offers)},
                   {"chosen", each.chosen},
                   {"signal", std::move(signal)},
                   {"value", std::move(value)},
                   {"by", each.by},
                   {"confidence", each.confidence},
                   {"took_ms", each.took_ms},
                   {"outcome", name(each.outcome)},
                   {"why", each.why},
                   {"reason", each.reason}});
  }
  return all;
}

json::array Pipeline::pending_json(const Moment& now) const {
  json::array all;
  for (const auto& [token, each] : pending_)
    all.push_back({{"token", token},
                   {"decision", each.decision},
                   {"source", each.source},
                   {"signal", signals_[each.signal].name},
                   {"value", json_of(each.value)},
                   {"unit", signals_[each.signal].unit},
                   {"seconds_left", (each.expires_ms - now.steady_ms) / 1000}});
  return all;
}

}  // namespace hearth::gateway
