// The doors of a site: servers that answer each other's requests. What this one knows of the others, and what it tells of itself.
// Which door answers is decided in routing.h, how a request gets there and back in door_answer.cc.
#pragma once

#include <atomic>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/metrics.h"
#include "net/http_call.h"
#include "serve/cloud.h"
#include "serve/door_record.h"
#include "serve/reach.h"
#include "serve/routing.h"

namespace hearth::serve {

class DoorExchange;

struct DoorOptions {
  std::string name;  // of this machine
  // HOST:PORT of the other machines' doors, as of now; asked again and again. From any thread.
  std::function<std::vector<std::string>()> others = [] { return std::vector<std::string>(); };
  std::optional<SiteFiles> site{};  // empty: connections are plain
  // What besides the model makes tokens: KV type, precision and the like. Doors with the same text give the same tokens.
  std::string computing;
  int slots = 1, queue_max = 64;  // of each model
  ReachRules reach{};
  std::shared_ptr<Cloud> cloud{};  // null: none
  // Speed that heat and battery leave this machine, and its battery if it runs on it. Empty: all of it, and none.
  struct Power {
    double share = 1;
    std::optional<double> battery_percent{};
  };
  std::function<Power()> power{};
  std::chrono::milliseconds look_every{250}, lost_after{2000};
};

// A model as a door tells of it.
struct DoorModel {
  std::string name, digest;
  bool loaded = false;
  int running = 0, waiting = 0;
  uint64_t bytes = 0;  // of its files
};
struct DoorState {
  std::string name, computing;
  bool draining = false;
  int slots = 1, queue_max = 64;
  double decode_rate = 0, prompt_rate = 0, answer_seconds = 0;
  DoorOptions::Power power{};
  std::optional<int64_t> room_bytes{};  // for a further model beside those that are loaded; empty: no bound
  std::vector<DoorModel> models{};
};
boost::json::object to_json(const DoorState& state);
// kMalformed, kLimit; numbers that make no sense are bounded.
Result<DoorState> parse_door_state(std::string_view text);

// Another machine's door. Lives as long as anyone holds it.
class Door {
 public:
  Door(std::string address, const DoorOptions& options);
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] Result<Url> url(std::string_view path) const;
  // Whether it answered lately.
  [[nodiscard]] bool lives() const { return lives_; }
  [[nodiscard]] DoorState state() const;
  [[nodiscard]] double latency_seconds() const { return latency_; }
  // Requests that were sent there since it last told of itself.
  void count_sent() { ++sent_; }
  [[nodiscard]] int sent() const { return sent_; }
  // Asks it how it is.
  void look(HttpCaller& caller);

 private:
  std::string address_;
  const SiteFiles* site_;
  std::chrono::milliseconds lost_after_;
  std::atomic<bool> lives_{false};
  std::atomic<double> latency_{0};
  std::atomic<int> sent_{0};
  mutable std::mutex mutex_;
  DoorState state_;
};

class Doors {
 public:
  Doors(class Server& server, DoorOptions options);
  ~Doors();
  Doors(const Doors&) = delete;
  Doors& operator=(const Doors&) = delete;

  [[nodiscard]] const DoorOptions& options() const { return options_; }
  [[nodiscard]] RecordStore& records() { return records_; }
  [[nodiscard]] std::vector<std::shared_ptr<Door>> others() const;
  [[nodiscard]] DoorState own_state();
  // The others, as clients see them.
  [[nodiscard]] boost::json::array others_shown() const;
  // Ends what waits for other doors.
  void stop() { stopped_ = true; }
  [[nodiscard]] bool stopped() const { return stopped_; }

  // Answers a request here, elsewhere or by a cloud. On a worker.
  void answer(RouteCall call);
  // The rest of the answer to a request of that name, of who asks.
  void resume(RouteCall call, std::string request_id);
  // Keeps a record here, and at one of the others; as soon as there is one, if there is none yet.
  void keep(const std::shared_ptr<const AnswerRecord>& record);
  // That of another door, if it has it.
  std::shared_ptr<const AnswerRecord> find_elsewhere(const std::string& owner, const std::string& request_id);
  Result<HttpReply> ask(const Door& door, std::string_view path, std::string_view body);

  // Where a prompt that begins like this one ran last, and how much of it, in bytes: "" is here.
  std::map<std::string, size_t> known_prefixes(const std::string& tenant, std::string_view prompt);
  void note_prefix(const std::string& tenant, std::string_view prompt, const std::string& address);
  // What an answer of this machine took.
  void note_answer(const Record& record);
  // It is told from now on that this machine lives.
  void keep_alive(std::weak_ptr<DoorExchange> exchange);

  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  void write_metrics(Exposition& out);

  static constexpr int kRelaysMax = 48;  // each takes a thread that waits
  std::atomic<int> relays{0};

 private:
  void keep_watch(const std::stop_token& stop);
  void beat(const std::stop_token& stop);
  void pause(const std::stop_token& stop, std::chrono::milliseconds time);
  bool keep_at(const Door& door, const AnswerRecord& record);
  void share_alone(const Door& door);

  Server& server_;
  DoorOptions options_;
  RecordStore records_;
  std::atomic<bool> stopped_{false};

  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  struct Watched {
    std::shared_ptr<Door> door;
    std::jthread thread;
  };
  std::map<std::string, Watched> others_;
  std::vector<std::weak_ptr<DoorExchange>> answering_;
  std::deque<std::pair<std::string, std::string>> alone_;  // owner and name of records that are here only
  std::unordered_map<size_t, std::string> prefixes_;       // by digest: the door that ran it
  double decode_rate_ = 0, prompt_rate_ = 0, answer_seconds_ = 0;
  std::vector<DoorModel> library_;  // models that could be loaded
  std::chrono::steady_clock::time_point library_read_{};
  std::jthread beats_, watches_;  // last
};

}  // namespace hearth::serve
