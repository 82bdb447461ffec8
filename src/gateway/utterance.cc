#include "gateway/utterance.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

namespace hearth::gateway {
namespace {

// A state a thing can be in, and what is said to bring it about.
struct State {
  std::string_view said, state;
  bool generally;  // what it means for a signal whose name says no state
};
constexpr std::array kStates{
    State{"on", "on", true},       State{"off", "on", false},         State{"enable", "on", true},
    State{"disable", "on", false}, State{"open", "open", true},       State{"close", "open", false},
    State{"shut", "open", false},  State{"unlock", "unlocked", true}, State{"lock", "unlocked", false},
    State{"start", "run", true},   State{"stop", "run", false},       State{"run", "run", true}};
// Names whose state is the other one of a pair.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kOpposites{
    {{"locked", "unlocked"}, {"lock", "unlocked"}, {"closed", "open"}, {"off", "on"}, {"stopped", "run"}}};
constexpr std::array<std::string_view, 16> kFillers{"the", "a",    "to",      "please", "turn", "switch",
                                                    "set", "put",  "in",      "of",     "my",   "at",
                                                    "and", "make", "degrees", "percent"};

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool point =
        c == '.' && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9' && !words.back().empty();
    if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || point)
      words.back() += static_cast<char>(c);
    else if (c >= 'A' && c <= 'Z')
      words.back() += static_cast<char>(c - 'A' + 'a');
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// "lights" is "light".
std::string singular(std::string word) {
  if (word.size() > 3 && word.ends_with('s') && !word.ends_with("ss")) word.pop_back();
  return word;
}

std::optional<double> number_in(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    double number = 0;
    const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (failed == std::errc() && end == word.data() + word.size() && std::isfinite(number)) return number;
  }
  return std::nullopt;
}

std::optional<bool> wanted_state(const std::vector<std::string>& said, const std::set<std::string>& name) {
  for (const std::string& word : said) {
    const auto found = std::ranges::find(kStates, word, &State::said);
    if (found == kStates.end()) continue;
    for (const auto& [opposite, state] : kOpposites)
      if (state == found->state && name.contains(std::string(opposite))) return !found->generally;
    return found->generally;
  }
  return std::nullopt;
}

std::optional<Value> wanted(const std::vector<std::string>& said, const std::set<std::string>& name,
                            const Signal& signal) {
  if (signal.type == SignalType::kBool) {
    const auto state = wanted_state(said, name);
    return state ? std::optional<Value>(*state) : std::nullopt;
  }
  if (signal.type == SignalType::kNumber) {
    const auto number = number_in(said);
    return number ? std::optional<Value>(*number) : std::nullopt;
  }
  for (const std::string& allowed : signal.write->allowed)
    if (std::ranges::find(said, allowed) != said.end()) return allowed;
  return std::nullopt;
}

// "is the light on", "do not open the garage", "leave the blinds closed".
bool is_wish(const std::vector<std::string>& said) {
  constexpr std::array<std::string_view, 18> kBegins{"is",    "are",  "was",  "were", "did",   "does",
                                                     "has",   "have", "what", "why",  "who",   "which",
                                                     "where", "when", "how",  "ist",  "leave", "keep"};
  constexpr std::array<std::string_view, 4> kBeforeNot{"do", "must", "should", "shall"};
  if (!said.empty() && std::ranges::find(kBegins, said[0]) != kBegins.end()) return false;
  for (size_t i = 0; i < said.size(); ++i) {
    if (said[i] == "never" || said[i] == "dont" || said[i] == "already") return false;
    if (i + 1 < said.size() && said[i] == "don" && said[i + 1] == "t") return false;
    if (i + 1 < said.size() && said[i + 1] == "not" && std::ranges::find(kBeforeNot, said[i]) != kBeforeNot.end())
      return false;
  }
  return true;
}

}  // namespace

std::optional<double> number_said(std::string_view text) { return number_in(words_of(text)); }

Utterance understand(std::string_view text, std::span<const Signal> signals) {
  const std::vector<std::string> said = words_of(text);
  if (!is_wish(said)) return {.meant = {}, .clear = false, .wish = false};
  std::set<std::string> content;  // words that could name something
  for (const std::string& word : said) {
    const bool filler = std::ranges::find(kFillers, word) != kFillers.end();
    if (!filler && std::ranges::find(kStates, word, &State::said) == kStates.end() && !number_in({word}))
      content.insert(singular(word));
  }
  Utterance all;
  for (SignalId id = 0; id < signals.size(); ++id) {
    const Signal& signal = signals[id];
    if (!signal.write || signal.write->action_class == ActionClass::kNever) continue;
    std::set<std::string> name;
    for (const std::string& word : words_of(signal.name + " " + signal.label)) name.insert(singular(word));
    const auto value = wanted(said, name, signal);
    if (!value) continue;
    size_t named = 0;
    for (const std::string& word : content) named += name.contains(word) ? 1 : 0;
    if (named == 0) continue;
    if (const auto* allowed = std::get_if<std::string>(&*value)) named += content.contains(singular(*allowed)) ? 1 : 0;
    const auto count = static_cast<double>(named);
    const double explained = count / static_cast<double>(content.size());
    all.meant.push_back({id, *value, explained + 0.5 * count / static_cast<double>(name.size())});
  }
  constexpr size_t kMost = 5;
  std::ranges::sort(all.meant, [](const Meant& a, const Meant& b) {
    return a.score > b.score || (a.score == b.score && a.signal < b.signal);
  });
  if (all.meant.size() > kMost) all.meant.resize(kMost);
  // Every word that names something is explained, and no other signal explains as much.
  all.clear = !all.meant.empty() && all.meant[0].score >= 1 &&
              (all.meant.size() == 1 || all.meant[0].score > all.meant[1].score + 0.1);
  return all;
}

}  // namespace hearth::gateway
