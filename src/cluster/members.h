// Who is in the site, by what each machine says of itself: heartbeats in, a list out. No links, no clock, no threads.
//
// The list is soft: it can be made wholly from heartbeats, and what a broker kept of earlier ones is only a beginning, true of nobody
// until that machine is heard itself. A machine counts as there for kGone after its last one; a process that
// started later replaces an earlier one of the same key, and never the other way round.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::cluster {

struct MemberModel {
  std::string name{};    // as the machine calls it
  std::string digest{};  // SHA-256 of the file it was made from
  bool operator==(const MemberModel&) const = default;
};

// Layers of a model that a machine runs for an owner, or an owner's use of the site.
struct MemberStage {
  std::string owner{}, model{};  // the owner's name; the model's digest
  int first = 0, end = 0;        // layers
  uint64_t epoch = 0, steps = 0;
  bool operator==(const MemberStage&) const = default;
};

struct Member {
  std::string name{};         // in the site: what its certificate says
  std::string process{};      // of several there: "node-7950", "serve-8080"
  uint64_t started = 0;       // of its process: milliseconds since 1970, so that a later one counts more
  uint64_t beat = 0;          // heartbeats since then
  std::string stages_at{};    // "HOST:PORT" where it runs layers for others; empty: it does not
  std::string door{};         // "HOST:PORT" where it answers people's requests; empty: it does not
  std::string site_door{};    // the same for other servers of the site
  uint64_t memory_bytes = 0;  // free for models
  int cores = 0;
  // Of weights read for one token, and of weights times rows of a prompt, measured; 0: not measured yet.
  double bytes_per_second = 0, prompt_bytes_per_second = 0;
  bool battery = false;         // it runs on one
  bool hot = false;             // it is slowed down by heat
  int running = 0, queued = 0;  // requests
  uint64_t revoked = 0;         // the number of its list of revoked certificates
  std::vector<MemberModel> models{};
  std::vector<MemberStage> stages{};
  // A machine may run several processes.
  [[nodiscard]] std::string key() const { return name + "." + process; }
  bool operator==(const Member&) const = default;
};

std::string to_json(const Member& member);
// kMalformed, kLimit: what a machine says is not believed to be well made.
Result<Member> parse_member(std::string_view text);

class Members {
 public:
  using Time = std::chrono::milliseconds;  // on any clock that only goes forward
  static constexpr Time kBeat{1000}, kGone{3500}, kForgotten{60'000};

  struct Seen {
    Member member;
    Time heard{};            // the last heartbeat
    bool confirmed = false;  // heard itself, not only told of
  };

  // A heartbeat. False: an older one, or of an older process; nothing changes.
  bool heard(Member member, Time now);
  // What a broker kept of it.
  void told(Member member, Time now);
  // It says that it goes.
  void left(const Member& member);

  // Who is there now, by name.
  [[nodiscard]] std::vector<Member> snapshot(Time now) const;
  // Everybody of the last minute; who is not there() is lost, or was never heard.
  [[nodiscard]] std::vector<Seen> everybody(Time now) const;
  [[nodiscard]] static bool there(const Seen& seen, Time now) { return seen.confirmed && now - seen.heard <= kGone; }

 private:
  static constexpr size_t kMax = 4096;
  std::map<std::string, Seen> members_;
};

}  // namespace hearth::cluster
