// The gateway as it runs: adapters, the pipeline and its thread, the thread that asks the model, store and forward, the audit.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "gateway/adapter_line.h"
#include "gateway/audit.h"
#include "gateway/chooser.h"
#include "gateway/pipeline.h"
#include "gateway/queue.h"

namespace hearth::gateway {

// Profile and rules of a file, wholly checked.
struct Site {
  Profile profile;
  Rules rules;
  static Result<Site> load(const std::filesystem::path& file);
};

struct GatewayOptions {
  std::filesystem::path profile;  // a file
  std::filesystem::path folder;   // for the queue and the audit; made if it is missing
  std::string server, key;        // the model's; empty: rules alone
  // Adapters beside those of the profile, made anew for each.
  std::function<std::vector<Profile::Part>(std::span<const Signal>)> more{};
};

// Any thread.
class Gateway {
 public:
  static Result<std::unique_ptr<Gateway>> start(GatewayOptions options);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // Reads the profile again. On an error everything goes on as it was.
  Result<void> reload();
  Result<void> confirm(std::string_view token, std::string_view who);
  std::string said(std::string_view text, std::string_view who);

  // With the pipeline, which stands still meanwhile.
  void look(const std::function<void(const Pipeline&, const Moment&)>& see) const;
  [[nodiscard]] boost::json::object state() const;  // adapters, queue, counts
  [[nodiscard]] std::string metrics() const;
  [[nodiscard]] const Audit& audit() const { return *audit_; }

 private:
  struct Away {
    std::vector<SignalId> signals;
    bool away = false;
  };
  struct Wanted {
    Write write;
    std::string source;
  };
  struct Confirmed {
    std::string token, source;
  };
  struct Done {
    int64_t act = 0;
    Result<> result;
  };
  struct Answer {
    int64_t decision = 0;
    Result<Choice> choice;
  };
  struct Reason {
    int64_t decision = 0;
    std::string text;
  };
  using Input = std::variant<Sample, Away, Wanted, Confirmed, Done, Answer, Reason>;
  // What runs of one profile.
  struct Running {
    std::vector<std::unique_ptr<AdapterLine>> lines;
    std::unique_ptr<Pipeline> pipeline;
  };
  struct Tried {
    size_t left = 0;  // lines that have not said whether the signal is theirs
    Result<> result;
  };

  explicit Gateway(GatewayOptions options) : options_(std::move(options)), chooser_(options_.server, options_.key) {}
  [[nodiscard]] Running make(Site site);
  Result<void> start_lines(Running& running);
  [[nodiscard]] GatewayInputs inputs();
  void enqueue(Input input);
  void work(const std::stop_token& stop);
  void ask(const std::stop_token& stop);
  void handle(Input& input, const Moment& now, Out& out);
  void carry_out(Out& out);
  void finish(Done done, const Moment& now);

  GatewayOptions options_;
  Metrics metrics_;
  Chooser chooser_;
  std::unique_ptr<Audit> audit_;
  std::unique_ptr<RecordQueue> queue_;
  mutable std::mutex mutex_;  // of running_ and what hangs on it
  Running running_;
  std::map<int64_t, Tried> tried_;
  uint64_t pending_shown_ = 0;  // Pipeline::pending_changes() of what the adapters were shown
  mutable std::mutex inbox_mutex_;
  std::condition_variable_any inbox_news_;
  std::vector<Input> inbox_;
  uint64_t inbox_dropped_ = 0;
  std::mutex questions_mutex_;
  std::condition_variable_any questions_news_;
  std::deque<Question> questions_;
  std::jthread worker_, asker_;
};

}  // namespace hearth::gateway
