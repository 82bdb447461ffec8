// One owner at a time for a chain that has a name: a lease with a term that only grows.
//
// The lease itself is a value at the broker, renewed every other second. A broker may lose it, so it alone decides nothing: the
// term is in every frame (the upper half of the epoch), stages keep the highest they saw of a chain, with its owner, on their
// disks, and refuse lower ones and another owner of the same. So an owner that was away and comes back is refused by the stages, whatever
// the broker knows; and an owner that cannot reach the broker goes on.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"

namespace hearth::cluster {

class Presence;

struct Term {
  uint64_t term = 0;
  std::string owner;
  bool operator==(const Term&) const = default;
};

// The highest term of each chain, on disk before anything is done with it. Any thread.
class TermFile {
 public:
  // An empty path: in memory only.
  static Result<std::unique_ptr<TermFile>> open(const std::filesystem::path& path);
  [[nodiscard]] Term of(const std::string& chain) const;
  // Takes a later term in, or the same of the same owner. kInvalidArgument for any other, with whose the chain is.
  Result<void> raise(const std::string& chain, const Term& term);

 private:
  static constexpr size_t kChainsMax = 4096;
  std::filesystem::path path_;
  mutable std::mutex mutex_;
  std::map<std::string, Term> terms_;
};

// What to do about a lease, by what the broker has of it now. Pure.
class LeaseRule {
 public:
  using Time = std::chrono::milliseconds;
  // An owner that lives renews so often that another that waits so long knows it is gone; also after the broker lost everything.
  static constexpr Time kRenew{2000}, kSilent{7000};

  struct Kept {
    Term term;
    uint64_t revision = 0;
  };
  enum class Do : uint8_t {
    kWait,   // somebody may own it
    kWrite,  // term() over that revision, 0 for none
    kLost,   // a later owner is there: this one's chain is over
  };
  // `known`: the highest term this machine's disk has.
  LeaseRule(std::string owner, uint64_t known) : owner_(std::move(owner)), term_(known) {}
  Do look(const std::optional<Kept>& kept, Time now);
  // The write was the first: the chain is ours.
  void written() { ours_ = true; }
  [[nodiscard]] bool ours() const { return ours_; }
  [[nodiscard]] uint64_t term() const { return term_; }
  // Whom it waits for.
  [[nodiscard]] const std::string& other() const { return seen_owner_; }

 private:
  std::string owner_, seen_owner_;
  uint64_t term_;
  bool ours_ = false, looked_ = false;
  uint64_t seen_revision_ = 0;  // 0: there was none
  Time since_{};
};

class Lease {
 public:
  // Waits for it, as long as its owner lives. kIo if no broker is there; kCancelled.
  static Result<std::unique_ptr<Lease>> take(Presence& presence, const std::filesystem::path& folder,
                                             const std::string& chain, const std::atomic<bool>& interrupted);
  // Gives it back, so that the next owner need not wait.
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  [[nodiscard]] uint64_t term() const { return rule_.term(); }
  // Another owner has it; stages will say so too.
  [[nodiscard]] bool lost() const { return lost_; }

 private:
  Lease(Presence& presence, std::string chain, LeaseRule rule)
      : presence_(presence), chain_(std::move(chain)), rule_(std::move(rule)) {}
  // One look, and what follows from it. kLost also ends it.
  Result<LeaseRule::Do> step();
  void renew(const std::stop_token& stop);

  Presence& presence_;
  const std::string chain_;
  LeaseRule rule_;
  std::unique_ptr<TermFile> terms_;
  std::atomic<bool> lost_{false};
  std::jthread thread_;  // last
};

// A name of a chain: of letters, digits, '-' and '_'.
Result<void> check_chain_name(std::string_view chain);

}  // namespace hearth::cluster
