#include "gateway/chooser.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cctype>
#include <cmath>
#include <numeric>
#include <set>

#include "base/json.h"
#include "net/http_call.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kWordsMax = 40;
// Words that say a number. ("one" is as often a pronoun.)
constexpr std::array<std::string_view, 30> kNumberWords{
    "zero",   "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",     "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    "thirty", "forty",  "fifty",    "sixty",    "seventy", "eighty",  "ninety",    "hundred",  "thousand", "half"};

// Words that say nothing about a decision, though they may be among the facts.
constexpr std::array<std::string_view, 16> kEmptyWords{"this", "that", "what", "with",   "from",  "have",
                                                       "been", "were", "will", "should", "known", "there",
                                                       "here", "more", "than", "person"};

bool in_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return std::isalnum(byte) != 0 || byte >= 0x80 || c == '_' || c == '/' || c == '.' || c == ',' || c == '-' ||
         c == '\'';
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Words as written, without the signs around them; numbers without the sign and zeros at their ends.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && in_word(text[end])) ++end;
    std::string_view word = text.substr(i, end - i);
    while (!word.empty() && std::string_view(".,-'/").contains(word.front())) word.remove_prefix(1);
    while (!word.empty() && std::string_view(".,-'/").contains(word.back())) word.remove_suffix(1);
    if (!word.empty()) words.emplace_back(word);
    i = std::max(end, i + 1);
  }
  return words;
}

bool has(std::string_view text, int (*kind)(int)) {
  return std::ranges::any_of(text, [&](char c) { return kind(static_cast<unsigned char>(c)) != 0; });
}

std::string without_zeros(std::string number) {
  if (!number.contains('.')) return number;
  while (number.ends_with('0')) number.pop_back();
  if (number.ends_with('.')) number.pop_back();
  return number;
}

// Each word, and each part of a name between '/', '_' and '-'.
void add_parts(std::string_view word, std::set<std::string, std::less<>>& known) {
  const std::string low = lower(word);
  known.insert(without_zeros(low));
  for (size_t begin = 0; begin < low.size();) {
    const size_t end = std::min(low.find_first_of("/_-", begin), low.size());
    if (end > begin) known.insert(without_zeros(low.substr(begin, end - begin)));
    begin = end + 1;
  }
}

const json::value* member(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains(key);
}

// What the model is asked by, and its answer scored by: what an option means; its label where two mean the same or nothing is said.
std::string text_of(const Question& question, size_t index) {
  const std::string& says = question.options[index].second;
  const bool alone = std::ranges::count(question.options, says, [](const auto& each) { return each.second; }) == 1;
  return says.empty() || !alone ? question.options[index].first : says;
}

}  // namespace

bool is_faithful(std::string_view text, std::string_view facts, std::span<const std::string> names) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < ' '; })) return false;
  const std::vector<std::string> words = words_of(text);
  if (words.empty() || words.size() > kWordsMax) return false;
  std::set<std::string, std::less<>> known, parts_of_names;
  for (const std::string& word : words_of(facts)) add_parts(word, known);
  for (const std::string& name : names) add_parts(name, parts_of_names);
  bool about_it = false;  // a word that carries meaning is one of the facts
  bool begins = true;     // a sentence: its first word may have a capital letter
  size_t at = 0;
  for (const std::string& word : words) {
    at = text.find(word, at) + word.size();
    const std::string low = without_zeros(lower(word));
    const bool is_name = has(word, std::isdigit) || word.contains('_') || word.contains('/') ||
                         parts_of_names.contains(low) || (has(word, std::isupper) && !begins) ||
                         std::ranges::find(kNumberWords, low) != kNumberWords.end();
    if (is_name && low != "i" && !known.contains(low)) return false;
    about_it = about_it || (low.size() > 3 && known.contains(low) && std::ranges::count(kEmptyWords, low) == 0);
    begins = at < text.size() && std::string_view(".!?:").contains(text[at]);
  }
  return about_it;
}

// The only place that knows how a server is reached.
Result<std::string> Chooser::post(std::string_view path, const std::string& body,
                                  std::chrono::milliseconds patience) const {
  const Url url = TRY(parse_url(server_ + std::string(path)));
  constexpr std::chrono::milliseconds kLeast{1};  // 0 would be without bound
  std::vector<std::string> headers{"Content-Type: application/json"};
  if (!key_.empty()) headers.push_back("Authorization: Bearer " + key_);
  HttpReply reply = TRY(http_call(
      url, {.headers = headers, .body = body, .total_max = std::max(patience, kLeast), .answer_bytes_max = 1u << 20}));
  if (reply.status != 200)
    return fail(Code::kIo, "{} answers {}: {}", url.shown(), reply.status, reply.body.substr(0, 200));
  return std::move(reply.body);
}

Result<json::value> Chooser::ask(const Question& question, std::string_view facts, const json::object& prior) const {
  json::array criteria;
  for (size_t i = 0; i < question.options.size(); ++i) criteria.emplace_back(text_of(question, i));
  json::object body{
      {"state", facts},
      {"questions",
       {{"action", {{"type", "choice"}, {"instructions", question.instructions}, {"criteria", criteria}}}}},
      {"abstain_below", question.abstain_below}};
  if (!prior.empty()) body["calibration"] = {{"prior", prior}};
  if (!question.model.empty()) body["model"] = question.model;
  const std::string text = TRY(post("/v1/decide", json::serialize(body), question.deadline));
  const json::value answer = TRY(parse_json(text));
  const json::value* answers = member(answer, "answers");
  const json::value* action = answers == nullptr ? nullptr : member(*answers, "action");
  if (action == nullptr) return fail(Code::kMalformed, "{}: an answer without a choice", server_);
  return *action;
}

Chooser::Prior& Chooser::prior_of(const Question& question) {
  constexpr size_t kPriorsMax = 256;
  std::string key = question.model + '\n' + question.instructions;
  for (size_t i = 0; i < question.options.size(); ++i) key += '\n' + text_of(question, i);
  if (priors_.size() >= kPriorsMax && !priors_.contains(key)) priors_.clear();
  Prior& prior = priors_[key];
  prior.logs.resize(question.options.size());
  return prior;
}

Result<bool> Chooser::prepare(const Question& question) {
  constexpr double kMost = 1e6, kLeast = 1e-12;  // as the server takes them
  Prior& prior = prior_of(question);
  const size_t count = std::max<size_t>(1, question.references.size());
  if (prior.asked >= count) return true;
  const std::string facts = question.references.empty() ? "Nothing is known." : question.references[prior.asked];
  const json::value answer = TRY(ask(question, facts, {}));
  const json::value* chances = member(answer, "probabilities");
  for (size_t i = 0; i < prior.logs.size(); ++i) {
    // A server that tells none is believed as it is.
    const json::value* chance = chances == nullptr ? nullptr : member(*chances, text_of(question, i));
    const bool told = chance != nullptr && chance->is_number();
    prior.logs[i] += std::log(std::clamp(told ? chance->to_number<double>() : 1.0, kLeast, 1.0));
  }
  if (++prior.asked < count) return false;
  const auto n = static_cast<double>(count);
  const double mean =
      std::accumulate(prior.logs.begin(), prior.logs.end(), 0.0) / static_cast<double>(prior.logs.size());
  for (size_t i = 0; i < prior.logs.size(); ++i)
    prior.weights[text_of(question, i)] = std::clamp(std::exp((mean - prior.logs[i]) / n), 1 / kMost, kMost);
  return true;
}

Result<Choice> Chooser::choose(const Question& question) {
  for (bool prepared = false; !prepared;) prepared = TRY(prepare(question));
  const json::value action = TRY(ask(question, question.facts, prior_of(question).weights));
  const json::value *choice = member(action, "choice"), *confidence = member(action, "confidence");
  if (choice == nullptr || !(choice->is_string() || choice->is_null()))
    return fail(Code::kMalformed, "{}: an answer without a choice", server_);
  const double sure = confidence != nullptr && confidence->is_number() ? confidence->to_number<double>() : 0;
  if (choice->is_null()) return Choice{{}, sure};
  const std::string_view said = choice->get_string();
  for (size_t i = 0; i < question.options.size(); ++i)
    if (said == text_of(question, i) || said == question.options[i].first)
      return Choice{question.options[i].first, sure};
  return fail(Code::kMalformed, "{}: chose what was not asked", server_);
}

Result<std::string> Chooser::reason(const Question& question, std::string_view label) const {
  constexpr int kTokens = 80;
  constexpr std::chrono::milliseconds kPatience{30'000};
  const std::string text = fmt::format(
      "Facts: {}\nDecision: {}.\nIn one sentence of at most 40 words, say why. Use only the facts, and no other number "
      "or name.",
      question.facts, label);
  json::object body{
      {"messages", json::array{{{"role", "user"}, {"content", text}}}}, {"max_tokens", kTokens}, {"temperature", 0}};
  if (!question.model.empty()) body["model"] = question.model;
  const std::string text_of_answer = TRY(post("/v1/chat/completions", json::serialize(body), kPatience));
  const json::value answer = TRY(parse_json(text_of_answer));
  const json::value* choices = member(answer, "choices");
  const json::array* list = choices == nullptr ? nullptr : choices->if_array();
  const json::value* message = list == nullptr || list->empty() ? nullptr : member((*list)[0], "message");
  const json::value* content = message == nullptr ? nullptr : member(*message, "content");
  if (content == nullptr || !content->is_string()) return fail(Code::kMalformed, "{}: an answer without text", server_);
  return std::string(content->get_string());
}

}  // namespace hearth::gateway
