// A cloud that answers where the site cannot, for requests that may leave it: any server that speaks OpenAI's chats.
//
// What it sends is not trusted: bounded, parsed, and only texts, calls and counts are taken from it.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "base/metrics.h"
#include "base/result.h"
#include "net/url.h"
#include "serve/answer.h"

namespace hearth::serve {

struct CloudOptions {
  Url url;            // up to and with "/v1"
  std::string key;    // empty: none is sent
  std::string model;  // as the cloud calls it
  int64_t tokens_per_day = 0;
  std::chrono::milliseconds patience{30'000};
  std::filesystem::path budget_file;  // what was spent today
};

// What goes to the cloud of a chat's body: the fields that are OpenAI's own and make the answer.
boost::json::object cloud_request(const boost::json::object& body, std::string_view model);
// The answers of a cloud's reply: as many as were asked for. kMalformed, kLimit.
Result<Answer> parse_cloud_reply(std::string_view text, int choices);

// Tokens of today, on disk before they are spent. Any thread.
class CloudBudget {
 public:
  using Today = std::function<std::string()>;  // as 2026-01-31
  // kMalformed: a file that is not understood is not written over.
  static Result<CloudBudget> open(std::filesystem::path file, int64_t tokens_per_day, Today today);
  // Sets so many aside. kLimit with the numbers.
  Result<void> reserve(int64_t tokens);
  // What was set aside was more, or less, than it took.
  void settle(int64_t reserved, int64_t used);
  [[nodiscard]] int64_t left();

 private:
  CloudBudget(std::filesystem::path file, int64_t tokens_per_day, Today today)
      : file_(std::move(file)), per_day_(tokens_per_day), today_(std::move(today)) {}
  void turn_day();
  Result<void> write() const;

  std::filesystem::path file_;
  int64_t per_day_, spent_ = 0;
  std::string day_;
  Today today_;
};

class Cloud {
 public:
  static Result<std::shared_ptr<Cloud>> create(CloudOptions options);
  [[nodiscard]] const CloudOptions& options() const { return options_; }
  // Whether it is worth asking: it did not just fail, and there is something left of today's budget.
  [[nodiscard]] bool ready();
  // Asks it, and waits. kLimit: the budget is spent; kIo, kMalformed: it failed, and is left alone for a while.
  Result<Answer> ask(const boost::json::object& body, int choices, const std::function<bool()>& cancelled);
  void write_metrics(Exposition& out);

 private:
  Cloud(CloudOptions options, CloudBudget budget) : options_(std::move(options)), budget_(std::move(budget)) {}

  CloudOptions options_;
  std::mutex mutex_;
  CloudBudget budget_;
  int failures_ = 0;  // in a row
  std::chrono::steady_clock::time_point again_{};
  double tokens_ = 0, answers_ = 0, failed_ = 0;
};

}  // namespace hearth::serve
