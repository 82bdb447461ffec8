#include "cluster/lease.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "base/mapped_file.h"
#include "cluster/presence.h"

namespace hearth::cluster {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kTermFileBytes = 1u << 20, kTermMax = UINT32_MAX - 1;

// "TERM OWNER", as leases and lines of the file have it.
std::string to_text(const Term& term) { return fmt::format("{} {}", term.term, term.owner); }

std::optional<Term> parse_term(std::string_view text) {
  Term term;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), term.term);
  const auto used = static_cast<size_t>(end - text.data());
  if (error != std::errc() || term.term > kTermMax || used >= text.size() || text[used] != ' ' || text.size() > 256)
    return std::nullopt;
  term.owner = std::string(text.substr(used + 1));
  return term;
}

}  // namespace

Result<void> check_chain_name(std::string_view chain) {
  const bool allowed = std::ranges::all_of(chain, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  });
  if (allowed && !chain.empty() && chain.size() <= 63) return {};
  return fail(Code::kInvalidArgument, "the name of a chain has 1 to 63 letters, digits, '-' or '_'");
}

Result<std::unique_ptr<TermFile>> TermFile::open(const fs::path& path) {
  auto file = std::make_unique<TermFile>();
  file->path_ = path;
  std::error_code error;
  if (path.empty() || !fs::exists(path, error)) return file;
  const std::string text = TRY(read_file(path, kTermFileBytes));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const size_t space = line.find(' ');
    const auto term = space == std::string_view::npos ? std::nullopt : parse_term(line.substr(space + 1));
    // Guessing would let an old owner in.
    if (!term) return fail(Code::kCorrupt, "{}: \"{}\" is not CHAIN TERM OWNER", path.string(), line);
    file->terms_[std::string(line.substr(0, space))] = *term;
    begin = end + 1;
  }
  return file;
}

Term TermFile::of(const std::string& chain) const {
  const std::scoped_lock lock(mutex_);
  const auto found = terms_.find(chain);
  return found == terms_.end() ? Term() : found->second;
}

Result<void> TermFile::raise(const std::string& chain, const Term& term) {
  const std::scoped_lock lock(mutex_);
  const auto found = terms_.find(chain);
  const Term before = found == terms_.end() ? Term() : found->second;
  if (before == term) return {};
  if (term.term <= before.term || term.term > kTermMax)
    return fail(Code::kInvalidArgument, "term {} of {} is refused: the chain is {}'s, with term {}", term.term,
                term.owner, before.owner, before.term);
  if (found == terms_.end() && terms_.size() >= kChainsMax)
    return fail(Code::kLimit, "{} chains with names are known here; no more", kChainsMax);
  std::map<std::string, Term> after = terms_;
  after[chain] = term;
  std::string text;
  for (const auto& [name, each] : after) text += fmt::format("{} {}\n", name, to_text(each));
  if (!path_.empty()) TRY(write_file_atomically(path_, std::as_bytes(std::span(text)), 0600));
  terms_ = std::move(after);
  return {};
}

LeaseRule::Do LeaseRule::look(const std::optional<Kept>& kept, Time now) {
  const uint64_t revision = kept ? kept->revision : 0;
  if (!looked_ || revision != seen_revision_) since_ = now;
  looked_ = true;
  seen_revision_ = revision;
  seen_owner_ = kept ? kept->term.owner : "";
  const uint64_t other = kept ? kept->term.term : 0;
  if (ours_) {
    // What a broker that lost everything has instead is older than this, or nothing.
    if (kept && kept->term.owner != owner_ && other > term_) return Do::kLost;
    return Do::kWrite;
  }
  const bool given_back = kept && kept->term.owner.empty();
  const bool silent = now - since_ >= kSilent;
  if (!given_back && !silent) return Do::kWait;
  term_ = std::max(term_, other) + 1;
  return Do::kWrite;
}

Result<std::unique_ptr<Lease>> Lease::take(Presence& presence, const fs::path& folder, const std::string& chain,
                                           const std::atomic<bool>& interrupted) {
  TRY(check_chain_name(chain));
  std::error_code error;
  fs::create_directories(folder, error);
  auto terms = TRY(TermFile::open(folder / "owned"));
  LeaseRule rule(presence.name(), terms->of(chain).term);
  std::unique_ptr<Lease> lease(new Lease(presence, chain, std::move(rule)));
  lease->terms_ = std::move(terms);
  bool said = false;
  while (!lease->rule_.ours()) {
    if (interrupted) return fail(Code::kCancelled, "interrupted while waiting for the chain {}", chain);
    TRY(lease->step());
    if (lease->rule_.ours()) break;
    if (!said && !lease->rule_.other().empty())
      LOG(kWarning, "the chain {} is {}'s; waiting until it gives it back, or says nothing for {} s", chain,
          lease->rule_.other(), LeaseRule::kSilent.count() / 1000);
    said = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
  lease->thread_ = std::jthread([raw = lease.get()](const std::stop_token& stop) { raw->renew(stop); });
  return lease;
}

Result<LeaseRule::Do> Lease::step() {
  const std::string key = "chain." + chain_;
  const std::shared_ptr<ControlBus> bus = presence_.bus();
  std::optional<LeaseRule::Kept> kept;
  if (const auto entry = TRY(bus->get(kLeasesBucket, key))) {
    auto term = parse_term(entry->value);
    if (!term) return fail(Code::kMalformed, "the lease of {} says \"{}\"", chain_, entry->value);
    kept = {.term = std::move(*term), .revision = entry->revision};
  }
  const LeaseRule::Do what = rule_.look(kept, Presence::now());
  if (what != LeaseRule::Do::kWrite) return what;
  const Term own{.term = rule_.term(), .owner = presence_.name()};
  // On the disk first: whatever happens now, this term is used once.
  TRY(terms_->raise(chain_, own));
  const auto written = TRY(bus->write_if(kLeasesBucket, key, to_text(own), kept ? kept->revision : 0));
  if (written) rule_.written();
  return what;
}

void Lease::renew(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  while (!stop.stop_requested()) {
    const auto done = step();
    if (done && *done == LeaseRule::Do::kLost) {
      LOG(kWarning, "the chain {} is another owner's now: {}", chain_,
          rule_.other().empty() ? "who gave it back since" : rule_.other());
      lost_ = true;
      return;
    }
    if (!done) LOG(kDebug, "{}", done.error().message);
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, LeaseRule::kRenew, [] { return false; });
  }
}

Lease::~Lease() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  if (lost_ || !rule_.ours()) return;
  const std::shared_ptr<ControlBus> bus = presence_.bus();
  const std::string key = "chain." + chain_;
  const auto entry = bus->get(kLeasesBucket, key);
  const Term own{.term = rule_.term(), .owner = presence_.name()};
  if (entry && *entry && (*entry)->value == to_text(own))
    (void)bus->write_if(kLeasesBucket, key, to_text({.term = own.term, .owner = {}}), (*entry)->revision);
}

}  // namespace hearth::cluster
