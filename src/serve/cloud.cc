#include "serve/cloud.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <boost/json.hpp>
#include <ctime>

#include "base/file_io.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "net/http_call.h"
#include "serve/fields.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

constexpr std::string_view kFields[] = {"messages",
                                        "temperature",
                                        "top_p",
                                        "n",
                                        "stop",
                                        "max_tokens",
                                        "seed",
                                        "max_completion_tokens",
                                        "tools",
                                        "tool_choice",
                                        "logit_bias",
                                        "presence_penalty",
                                        "parallel_tool_calls",
                                        "response_format",
                                        "frequency_penalty",
                                        "reasoning_effort"};
constexpr std::chrono::seconds kPauseMin{5}, kPauseMax{300};
constexpr int64_t kAnswerTokens = 2048;  // set aside for an answer whose length is not bounded
constexpr int64_t kBytesPerToken = 3;    // fewer than usual, so that the estimate is no less than what it takes

int64_t tokens_of(size_t bytes) { return static_cast<int64_t>(bytes) / kBytesPerToken + 1; }

Result<Call> read_call(const json::value& value, const std::string& path) {
  Fields fields(value, path);
  Call call{.id = fields.text("id").value_or(""), .name = {}, .arguments = {}, .whole = true};
  if (const auto* function = fields.object("function")) {
    Fields named(*function, path + ".function");
    call.name = named.text("name").value_or("");
    call.arguments = named.text("arguments").value_or("");
    TRY(named.check());
  }
  TRY(fields.check());
  if (call.name.empty() || call.id.empty()) return fail(Code::kMalformed, "{}: has no name or no id", path);
  if (call.id.starts_with("call_")) call.id.erase(0, 5);  // the writer's own prefix
  TRY(parse_json(call.arguments, {.depth = limits::kHttpJsonDepth, .bytes = limits::kCloudAnswerBytes}));
  return call;
}

Result<Choice> read_choice(const json::value& value, const std::string& path) {
  Fields fields(value, path);
  const json::object* message = fields.object("message");
  const std::string finish = fields.text("finish_reason").value_or("");
  TRY(fields.check());
  if (!message) return fail(Code::kMalformed, "{}.message: is missing", path);
  Fields said(*message, path + ".message");
  Choice choice;
  choice.text = said.text("content").value_or("");
  choice.reasoning = said.text("reasoning_content").value_or("");
  const json::array* calls = said.array("tool_calls");
  TRY(said.check());
  if (calls && calls->size() > limits::kTools) return fail(Code::kLimit, "{}: {} calls", path, calls->size());
  for (size_t i = 0; calls && i < calls->size(); ++i)
    choice.calls.push_back(TRY(read_call((*calls)[i], fmt::format("{}.message.tool_calls[{}]", path, i))));
  if (finish != "stop" && finish != "length" && finish != "tool_calls")
    return fail(Code::kMalformed, "{}.finish_reason: '{}'", path, finish.substr(0, 40));
  if (choice.text.empty() && choice.calls.empty() && finish != "length")
    return fail(Code::kMalformed, "{}: is empty", path);
  choice.finish = finish == "length" ? Finish::kLength : Finish::kEnd;
  return choice;
}

std::string today_utc() { return fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))); }

}  // namespace

json::object cloud_request(const json::object& body, std::string_view model) {
  json::object out{{"model", model}, {"stream", false}};
  for (const std::string_view field : kFields)
    if (const json::value* value = body.if_contains(field)) out[field] = *value;
  return out;
}

Result<Answer> parse_cloud_reply(std::string_view text, int choices) {
  const json::value value =
      TRY(parse_json(text, {.depth = limits::kHttpJsonDepth, .bytes = limits::kCloudAnswerBytes}));
  Fields fields(value, "answer");
  const json::array* given = fields.array("choices");
  const json::object* usage = fields.object("usage");
  TRY(fields.check());
  if (!given || given->size() != static_cast<size_t>(choices))
    return fail(Code::kMalformed, "answer.choices: {}, asked for {}", given ? given->size() : 0, choices);
  Answer answer;
  for (size_t i = 0; i < given->size(); ++i)
    answer.choices.push_back(TRY(read_choice((*given)[i], fmt::format("answer.choices[{}]", i))));
  if (!usage) return answer;
  Fields counts(*usage, "answer.usage");
  constexpr int64_t kTokensMax = 1 << 30;
  answer.usage.prompt_tokens = static_cast<int>(counts.integer("prompt_tokens", 0, kTokensMax).value_or(0));
  answer.usage.completion_tokens = static_cast<int>(counts.integer("completion_tokens", 0, kTokensMax).value_or(0));
  TRY(counts.check());
  return answer;
}

Result<CloudBudget> CloudBudget::open(std::filesystem::path file, int64_t tokens_per_day, Today today) {
  CloudBudget budget(std::move(file), tokens_per_day, std::move(today));
  std::error_code error;
  budget.day_ = budget.today_();
  if (!std::filesystem::exists(budget.file_, error)) {
    TRY(budget.write());
    return budget;
  }
  const auto value = parse_json(TRY(read_file(budget.file_, limits::kManifestBytes)));
  const json::object* object = value ? value->if_object() : nullptr;
  const json::value* day = object ? object->if_contains("day") : nullptr;
  const json::value* tokens = object ? object->if_contains("tokens") : nullptr;
  const auto spent = json::try_value_to<int64_t>(tokens ? *tokens : json::value());
  if (!day || !day->is_string() || !spent || *spent < 0)
    return fail(Code::kMalformed, "{}: is not the cloud's budget; remove the file to begin a new day",
                budget.file_.string());
  budget.spent_ = *spent;
  budget.day_ = day->get_string();
  budget.turn_day();
  return budget;
}

void CloudBudget::turn_day() {
  std::string today = today_();
  if (today <= day_) return;  // a clock that went back begins no new day
  day_ = std::move(today);
  spent_ = 0;
}

Result<void> CloudBudget::write() const {
  const std::string text = json::serialize(json::object{{"day", day_}, {"tokens", spent_}}) + "\n";
  return write_file_atomically(file_, std::as_bytes(std::span(text)), 0600);
}

Result<void> CloudBudget::reserve(int64_t tokens) {
  turn_day();
  if (tokens > per_day_ - spent_)
    return fail(Code::kLimit, "the cloud's budget: {} of {} tokens a day are spent, this may take {}", spent_, per_day_,
                tokens);
  spent_ += tokens;
  if (auto written = write(); !written) {
    spent_ -= tokens;
    return written;
  }
  return {};
}

void CloudBudget::settle(int64_t reserved, int64_t used) {
  turn_day();
  spent_ = std::max<int64_t>(spent_ - reserved, 0) + used;
  (void)write();  // what is on disk is no less than what was reserved
}

int64_t CloudBudget::left() {
  turn_day();
  return std::max<int64_t>(per_day_ - spent_, 0);
}

Result<std::shared_ptr<Cloud>> Cloud::create(CloudOptions options) {
  if (options.url.scheme != "https" && !options.url.loopback())
    return fail(Code::kInvalidArgument, "{}: texts and keys go to a cloud only over https", options.url.shown());
  CloudBudget budget = TRY(CloudBudget::open(options.budget_file, options.tokens_per_day, today_utc));
  return std::shared_ptr<Cloud>(new Cloud(std::move(options), std::move(budget)));
}

bool Cloud::ready() {
  const std::scoped_lock lock(mutex_);
  return budget_.left() > 0 && std::chrono::steady_clock::now() >= again_;
}

Result<Answer> Cloud::ask(const json::object& body, int choices, const std::function<bool()>& cancelled) {
  const std::string text = json::serialize(cloud_request(body, options_.model));
  const Url url = TRY(parse_url(options_.url.text + "/chat/completions"));
  Fields fields(body);
  int64_t most = kAnswerTokens;
  for (const std::string_view name : {"max_tokens", "max_completion_tokens"})
    if (const auto given = fields.integer(name, 1, 1 << 30)) most = *given;
  const int64_t reserved = tokens_of(text.size()) + most * choices;
  {
    const std::scoped_lock lock(mutex_);
    TRY(budget_.reserve(reserved));
  }
  std::vector<std::string> headers{"Content-Type: application/json"};
  if (!options_.key.empty()) headers.push_back("Authorization: Bearer " + options_.key);
  const auto reply = http_call(url, {.headers = std::move(headers),
                                     .body = text,
                                     .total_max = options_.patience,
                                     .answer_bytes_max = limits::kCloudAnswerBytes,
                                     .cancelled = cancelled});
  Result<Answer> answer =
      fail(Code::kIo, "{}", reply ? fmt::format("status {}", reply->status) : reply.error().message);
  if (reply && reply->status == 200) answer = parse_cloud_reply(reply->body, choices);
  // What it says it took counts unless that cannot be; a call that never got there cost nothing.
  int64_t used = reply ? tokens_of(text.size()) / 2 + tokens_of(reply->body.size()) / 4 : 0;
  if (answer)
    used =
        std::clamp<int64_t>(int64_t{answer->usage.prompt_tokens} + answer->usage.completion_tokens, used, reserved * 4);
  const std::scoped_lock lock(mutex_);
  budget_.settle(reserved, used);
  tokens_ += static_cast<double>(used);
  ++(answer ? answers_ : failed_);
  if (answer) {
    failures_ = 0;
  } else if (!cancelled()) {
    again_ = std::chrono::steady_clock::now() + std::min<std::chrono::seconds>(kPauseMin * (1 << failures_), kPauseMax);
    failures_ = std::min(failures_ + 1, 8);
  }
  return answer;
}

void Cloud::write_metrics(Exposition& out) {
  const std::scoped_lock lock(mutex_);
  out.family("hearth_cloud_tokens_total", "counter", "Tokens that the cloud was asked for and answered");
  out.sample({}, tokens_);
  out.family("hearth_cloud_requests_total", "counter", "Requests to the cloud");
  out.sample({{"result", "answered"}}, answers_);
  out.sample({{"result", "failed"}}, failed_);
  out.family("hearth_cloud_budget_tokens", "gauge", "What is left of today's budget");
  out.sample({}, static_cast<double>(budget_.left()));
}

}  // namespace hearth::serve
