// What has to be known of a request to give its answer again, to the byte, on any machine of the site: not its tokens, which
// can be computed anew. Kept for a while, in memory only, by the door where the request came in and by one other.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/reach.h"
#include "serve/route.h"

namespace hearth::serve {

struct AnswerRecord {
  std::string request_id;     // the client's name for it; empty: it gave none
  Identity identity;          // whose it is
  std::string path;           // of the route
  std::string model, digest;  // as resolved; the digest is empty where nobody knows it yet
  Reach reach = Reach::kLocal;
  AnswerOrigin origin;  // with the body
  // Only who asked may have it again.
  [[nodiscard]] std::string owner() const { return owner_of(identity); }
  static std::string owner_of(const Identity& identity) { return identity.tenant + "/" + identity.key_sha256; }
};

// A line of JSON and the request's body. kMalformed, kLimit.
std::string to_bytes(const AnswerRecord& record);
Result<AnswerRecord> parse_record(std::string_view bytes);

// Bounded in number, bytes and time: the oldest go. Any thread.
class RecordStore {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  explicit RecordStore(Clock clock = std::chrono::steady_clock::now) : clock_(std::move(clock)) {}
  void put(std::shared_ptr<const AnswerRecord> record);
  // Null: there is none.
  std::shared_ptr<const AnswerRecord> find(const std::string& owner, const std::string& request_id);
  [[nodiscard]] size_t size() const;

 private:
  using Name = std::pair<std::string, std::string>;  // owner, request id
  struct Entry {
    std::shared_ptr<const AnswerRecord> record;
    std::chrono::steady_clock::time_point since;
  };
  void drop_old();

  Clock clock_;
  mutable std::mutex mutex_;
  std::map<Name, Entry> entries_;
  std::deque<std::pair<Name, std::chrono::steady_clock::time_point>> order_;
  uint64_t bytes_ = 0;
};

}  // namespace hearth::serve
