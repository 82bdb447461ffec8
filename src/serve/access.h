// Who may ask: hosts and origins against browsers that were lured here, keys against everyone, limits per key.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http_exchange.h"
#include "serve/route.h"
#include "store/key_ring.h"

namespace hearth::serve {

struct AccessOptions {
  std::filesystem::path key_file{};          // empty: no keys
  std::vector<std::string> allow_hosts{};    // names this machine is called by, without ports
  std::vector<std::string> allow_origins{};  // pages of other origins that may ask: "https://chat.example"; "*" for all
  bool always_key = false;                   // a key is needed on loopback, too
};

// A page cannot make a browser send another Host than the name it was loaded from: a name that is not ours is an attempt at DNS
// rebinding (CVE-2024-28224). Numbers are no names and pass.
bool is_allowed_host(std::string_view host, const std::vector<std::string>& allowed);
// True for requests that no page of another origin sent (and those without an Origin, which no page sends).
bool is_same_origin(const HttpRequest& request);

// A refusal, with the status that the code alone does not tell.
struct Refusal {
  int status = 403;
  Error error;
  int retry_after_seconds = 0;  // 0: says nothing of it
};

// Any thread.
class AccessGuard {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  // What open() says of the key file.
  static Result<std::unique_ptr<AccessGuard>> create(AccessOptions options,
                                                     Clock clock = std::chrono::steady_clock::now);

  // Host, Origin and key, in this order. The identity of who asks without a key where none is needed is "local", with all rights.
  std::expected<Identity, Refusal> admit(const HttpRequest& request, Access access) const;
  // The Origin to allow in the answer; empty if there is none that was allowed.
  [[nodiscard]] std::string allowed_origin(const HttpRequest& request) const;

  // Counts a request against its key's limits; done() when it is answered, with the tokens it took.
  std::expected<void, Refusal> begin(const Identity& identity);
  void done(const Identity& identity, int64_t tokens);

  // Reads the key file again; on an error what was stays.
  Result<void> reload();
  [[nodiscard]] size_t keys() const;

 private:
  // A bucket that fills with time and never holds more than a minute's worth; it may be overdrawn, by tokens of an answer that
  // nobody could know before.
  struct Bucket {
    double level = 0;
    std::chrono::steady_clock::time_point filled;
    void fill(double per_minute, std::chrono::steady_clock::time_point now);
  };
  struct Use {
    bool fresh = true;
    Bucket requests, tokens;
    int running = 0;
  };

  AccessGuard(AccessOptions options, Clock clock) : options_(std::move(options)), clock_(std::move(clock)) {}
  std::expected<void, Refusal> admit_origin(const HttpRequest& request) const;

  AccessOptions options_;
  Clock clock_;
  mutable std::mutex mutex_;
  std::shared_ptr<const KeyRing> keys_;
  std::map<std::string, Use> uses_;  // by tenant
};

}  // namespace hearth::serve
