// The site's bus: what machines tell each other about themselves goes over a NATS broker; what a model computes does not.
//
// The broker may be away: a bus opens without one, tries again for ever (every half second or so), and its subscriptions come back
// with the connection. Until then calls say kIo at once. Any thread; handlers run on the library's threads, one at a time for each
// subscription, and are over when close() is.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::cluster {

struct BusOptions {
  std::vector<std::string> brokers;                   // HOST:PORT, tried in order
  std::filesystem::path authority, certificate, key;  // TLS: both sides show certificates of the site's authority
  std::string name;                                   // this machine's in the site
};

// Named values that the broker keeps. They go when nobody wrote them for so long.
struct Bucket {
  const char* name;
  std::chrono::seconds kept;
};
struct BusEntry {
  std::string key, value;
  uint64_t revision = 0;
};

// A queue whose entries are each taken once.
struct BusQueue {
  const char* name;
  const char* subjects;
};

class ControlBus {
 public:
  using Handler = std::function<void(std::string_view subject, std::string_view data)>;

  static Result<std::unique_ptr<ControlBus>> open(const BusOptions& options);
  ~ControlBus();
  ControlBus(const ControlBus&) = delete;
  ControlBus& operator=(const ControlBus&) = delete;
  // No handler runs any more.
  void close();

  [[nodiscard]] bool connected() const;
  // The address that leads from here to the broker; empty without a connection.
  [[nodiscard]] std::string local_address() const;
  // A broker refused this machine twice, or close(): this bus does not come back.
  [[nodiscard]] bool over() const;
  // kIo if no broker is there by then.
  Result<void> wait(std::chrono::milliseconds patience) const;

  Result<void> publish(std::string_view subject, std::string_view data);
  // Until the broker has all that was published.
  Result<void> flush(std::chrono::milliseconds patience);
  Result<void> subscribe(const std::string& subject, Handler handler);

  // A bucket or queue is made where there is none: after the loss of all the broker's data too.
  Result<void> put(const Bucket& bucket, const std::string& key, std::string_view value);
  Result<std::optional<BusEntry>> get(const Bucket& bucket, const std::string& key);
  Result<std::vector<BusEntry>> all(const Bucket& bucket);
  // Written only if the revision is still this one, 0 for none: the new revision, or nothing if somebody else wrote it.
  Result<std::optional<uint64_t>> write_if(const Bucket& bucket, const std::string& key, std::string_view value,
                                           uint64_t revision);

  Result<void> make(const BusQueue& queue);
  // Into the queue of that subject, wherever it is: here, or at the hub. kIo unless a broker said that it has it on its disk; then it
  // may be posted again, for an entry whose id was there within a day is not taken in.
  Result<void> post(const std::string& subject, const std::string& id, std::string_view data);
  // The oldest entry, given to `done`; it is taken when that says so, else it comes again. False if there is none.
  Result<bool> take(const BusQueue& queue,
                    const std::function<bool(std::string_view subject, std::string_view data)>& done,
                    std::chrono::milliseconds patience);

 private:
  struct State;
  explicit ControlBus(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hearth::cluster
