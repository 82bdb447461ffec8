// The way of a value: sample, quality, statistics, event, rule, choice, guard, confirmation, action, reading back, audit. One thread,
// no waiting, no clock: what is to be done outside is put into Out, and what came of it is told later.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "gateway/audit.h"
#include "gateway/chooser.h"
#include "gateway/conditions.h"
#include "gateway/guard.h"
#include "gateway/rules.h"
#include "gateway/statistics.h"

namespace hearth::gateway {

enum class Outcome : uint8_t { kWaiting, kActed, kBlocked, kConfirm, kAbstain, kNone };
std::string_view name(Outcome outcome);

// One thing that may be chosen; without a signal it is a message.
struct Offer {
  std::string name, says;
  std::optional<SignalId> write;
  Value value;
};

struct Decision {
  int64_t id = 0, time_ms = 0;
  size_t rule = 0;
  std::string rule_name, event, facts;
  std::vector<Offer> offers;
  std::string nothing = "do nothing";  // what "none" means
  std::string otherwise, chosen, by;   // by: "model", "rule", "late", "abstained", "no model"
  Outcome outcome = Outcome::kWaiting;
  std::string said;    // by a person who may have meant any of the offers' signals: the first of two questions
  std::string why;     // it was blocked
  std::string reason;  // for people
  double confidence = 0;
  int64_t opened_ms = 0, deadline_ms = 0;  // steady
  int64_t took_ms = 0;                     // until it was settled
};

struct Act {
  int64_t id = 0;
  Write write;
  bool urgent = false;  // an interlock's: before all others
};

struct Out {
  std::vector<Act> acts;
  std::vector<Question> questions;
  std::vector<Sample> publish;
};

// Texts of devices are shown short and without anything that could end a line.
std::string plain(std::string_view text);
// A value as a model is told it: "pump/speed is 80 %, normal."
std::string told(const Signal& signal, const Value& value);

// Local minute of the week, from Monday 00:00, of a time since 1970.
int minute_of_week(int64_t wall_ms);

class Pipeline {
 public:
  struct Parts {
    std::vector<Signal> signals;
    Rules rules;
    Audit* audit = nullptr;      // outlives it
    Metrics* metrics = nullptr;  // as well
    std::function<int(int64_t)> local = minute_of_week;
    bool model = false;  // there is one to ask
  };
  explicit Pipeline(Parts parts);

  void sample(const Sample& sample, const Moment& now, Out& out);
  void away(std::span<const SignalId> signals, bool away, const Moment& now, Out& out);
  // Somebody outside wants this value.
  void request(const Write& wanted, std::string_view source, const Moment& now, Out& out);
  // What a person said: the deterministic matcher, then candidates to the model (utterance.h). What became of it, for the person.
  std::string said(std::string_view text, std::string_view source, const Moment& now, Out& out);
  // What the model chose (or why it did not).
  void answer(int64_t decision, const Result<Choice>& choice, const Moment& now, Out& out);
  void reason(int64_t decision, std::string_view text, const Moment& now);
  // What an adapter made of an act.
  void done(int64_t act, const Result<>& result, const Moment& now);
  // At least once a second, and before the next deadline(): ages, deadlines, interlocks.
  void tick(const Moment& now, Out& out);
  // kNotFound: no such token, or used, or too late.
  Result<void> confirm(std::string_view token, std::string_view who, const Moment& now, Out& out);
  // Takes what is known of signals of the same name and type from another pipeline (after a reload), and its lists for people.
  void take_over(const Pipeline& before);

  [[nodiscard]] std::span<const Signal> signals() const { return signals_; }
  [[nodiscard]] const Rules& rules() const { return rules_; }
  [[nodiscard]] std::span<const Current> values() const { return values_; }
  [[nodiscard]] const std::deque<Decision>& decisions() const { return decisions_; }  // oldest first
  [[nodiscard]] std::vector<Pending> pending() const;                                 // oldest first
  [[nodiscard]] uint64_t pending_changes() const { return pending_changes_; }  // another number: something else waits
  [[nodiscard]] const Decision* decision(int64_t id) const;
  // What a model will be asked later on, to be prepared (chooser.h); without facts.
  [[nodiscard]] std::deque<Question> questions_ahead() const;
  [[nodiscard]] std::span<const std::string> names() const { return names_; }  // of signals
  // For people, newest first where there is an order.
  [[nodiscard]] boost::json::array signals_json(std::string_view begin, size_t most) const;
  [[nodiscard]] boost::json::array events_json() const;
  [[nodiscard]] boost::json::array decisions_json(size_t most) const;
  [[nodiscard]] boost::json::array pending_json(const Moment& now) const;

 private:
  struct RuleState {
    std::optional<int64_t> holds_since;  // steady
    bool fired = false, waiting = false, fired_ever = false;
    int64_t fired_ms = 0;
  };
  struct SeenBack {
    SignalId signal = 0;
    Value value;
    int64_t until_ms = 0, act = 0;
  };
  struct Running {
    Write write;
    int64_t decision = 0;
    std::string source;
  };
  struct ShownEvent {
    Event event;
    std::string text;
  };

  [[nodiscard]] View view(const Moment& now) const;
  [[nodiscard]] GuardState guard_state(const Moment& now) const;
  void check_interlocks(SignalId signal, const Moment& now, Out& out);
  void check_interlock(size_t index, const Moment& now, Out& out);
  void check_condition(size_t rule, const Moment& now, Out& out);
  void check_silence(SignalId signal, const Moment& now, Out& out);
  void happened(const Event& event, const Moment& now, Out& out);
  void fire(size_t rule, const Event& event, const Moment& now, Out& out);
  [[nodiscard]] std::optional<Offer> offer(const Action& action, const Moment& now) const;
  [[nodiscard]] std::string fact(SignalId signal, const Moment& now) const;
  [[nodiscard]] Question question_of(const Rule& rule) const;  // without facts and options
  [[nodiscard]] std::vector<std::string> references_of(const Rule& rule) const;
  [[nodiscard]] std::vector<Offer> things() const;    // that a person may have meant
  [[nodiscard]] Question question_of_things() const;  // which
  // The model has said which thing a person meant: now what to do with it.
  void thing_chosen(Decision& decision, std::string_view label, const Moment& now, Out& out);
  void ask_model(const Decision& decision, Question question, Out& out) const;
  void open(Decision decision, const Question& question, bool ask, const Moment& now, Out& out);
  void settle(Decision& decision, std::string_view label, std::string_view by, const Moment& now, Out& out);
  // Through the guard: pass, confirm or block.
  Outcome propose(SignalId signal, const Value& value, int64_t decision, std::string_view source, bool confirmed,
                  std::string& why, const Moment& now, Out& out);
  void act(const Write& write, int64_t decision, std::string_view source, bool urgent, const Moment& now, Out& out);
  Decision* find(int64_t id);
  void note(const Moment& now, std::string_view kind, boost::json::object what);
  void count(std::string_view metric, std::string_view help, std::string_view label, std::string_view value);

  std::vector<Signal> signals_;
  Rules rules_;
  Audit& audit_;
  Metrics& metrics_;
  std::function<int(int64_t)> local_;
  bool model_;
  std::vector<std::string> names_;
  std::vector<Current> values_;
  std::vector<SignalStatistics> statistics_;
  std::vector<uint8_t> silent_, away_;
  std::vector<LastWrite> last_writes_;
  std::vector<std::vector<uint32_t>> rules_of_, interlocks_of_;  // a signal: those that look at it
  std::vector<RuleState> rule_states_;
  std::vector<uint8_t> active_;  // interlocks
  std::vector<int64_t> interlock_sent_ms_;
  std::deque<Decision> decisions_;
  std::deque<ShownEvent> events_;
  std::vector<int64_t> waiting_;  // decisions
  std::map<std::string, Pending, std::less<>> pending_;
  uint64_t pending_changes_ = 0;
  std::map<int64_t, Running> running_;
  std::vector<SeenBack> seen_back_;
  std::vector<Event> found_;  // of one sample
  std::array<Counter*, 4> samples_by_quality_{};
  int64_t next_id_ = 1;
  int64_t local_minute_ = -1;  // since 1970, for which local_week_minute_ was computed
  int local_week_minute_ = 0;
};

}  // namespace hearth::gateway
