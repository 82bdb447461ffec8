#include "engine/state_cache.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "vault/sealed.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".state";
constexpr size_t kWaitingMax = 4;

// A file: the length of the sealed index (8 bytes, little endian), the index {owner, tokens}, then the sealed state.
template <typename T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  append(out, uint64_t{bytes.size()});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::optional<std::span<const std::byte>> take(std::span<const std::byte>& rest) {
  uint64_t size = 0;
  if (rest.size() < sizeof size) return std::nullopt;
  std::memcpy(&size, rest.data(), sizeof size);
  rest = rest.subspan(sizeof size);
  if (size > rest.size()) return std::nullopt;
  const auto bytes = rest.first(size);
  rest = rest.subspan(size);
  return bytes;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The state is bound to its owner and its tokens: another's, put in its place, does not open.
std::string purpose_of_state(const StateOwner& owner, std::string_view name) {
  return fmt::format("state {} {} {} {}", owner.tenant.size(), owner.tenant, owner.model, name);
}
constexpr std::string_view kIndexPurpose = "index of a state";

std::string name_of(const Key& key, const StateOwner& owner, std::span<const Token> tokens) {
  const auto bytes = std::as_bytes(tokens);
  return key.name_of(fmt::format("{} {} {} {}", owner.tenant.size(), owner.tenant, owner.model, text_of(bytes)));
}

bool same(const StateOwner& a, const StateOwner& b) { return a.tenant == b.tenant && a.model == b.model; }

}  // namespace

int common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<int>(std::ranges::mismatch(a, b).in1 - a.begin());
}

StateCache::StateCache(fs::path folder, const Key& key, uint64_t bytes_max)
    : folder_(std::move(folder)), key_(key), bytes_max_(bytes_max) {}

Result<std::unique_ptr<StateCache>> StateCache::open(const fs::path& folder, const Key& key, uint64_t bytes_max) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(Code::kIo, "{}: {}", folder.string(), error.message());
  std::unique_ptr<StateCache> cache(new StateCache(folder, key, bytes_max));
  cache->read_folder();
  cache->shrink(bytes_max);
  cache->writer_ = std::jthread([raw = cache.get()](std::stop_token stop) { raw->write_all(std::move(stop)); });
  return cache;
}

StateCache::~StateCache() {
  writer_.request_stop();
  if (writer_.joinable()) writer_.join();
}

void StateCache::read_folder() {
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder_, error)) {
    if (file.is_symlink(error) || !file.is_regular_file(error)) continue;
    auto entry = file.path().extension() == kExtension ? read_entry(file.path())
                                                       : Result<Entry>(fail(Code::kMalformed, "no state"));
    const std::string name = file.path().stem().string();
    if (entry && name == name_of(key_, entry->owner, entry->tokens)) {
      bytes_ += entry->bytes;
      entries_.emplace(name, std::move(*entry));
    } else {
      fs::remove(file.path(), error);
    }
  }
}

Result<StateCache::Entry> StateCache::read_entry(const fs::path& path) const {
  const MappedFile file = TRY(MappedFile::open(path));
  auto rest = file.bytes();
  const auto sealed = take(rest);
  if (!sealed) return fail(Code::kMalformed, "{}: no state", path.string());
  const auto index = TRY(unseal(key_, kIndexPurpose, *sealed));
  std::span<const std::byte> parts = index;
  const auto tenant = take(parts), model = take(parts), tokens = take(parts);
  if (!tenant || !model || !tokens || tokens->size() % sizeof(Token) != 0)
    return fail(Code::kMalformed, "{}: no state", path.string());
  Entry entry;
  entry.owner = {text_of(*tenant), text_of(*model)};
  entry.bytes = file.bytes().size();
  entry.tokens.resize(tokens->size() / sizeof(Token));
  std::memcpy(entry.tokens.data(), tokens->data(), tokens->size());
  std::error_code error;
  entry.last_use = fs::last_write_time(path, error);
  return entry;
}

StateCache::Found StateCache::longest_prefix(const StateOwner& owner, std::span<const Token> tokens) const {
  const std::scoped_lock lock(mutex_);
  Found found;
  for (const auto& [name, entry] : entries_) {
    if (!same(entry.owner, owner)) continue;
    const int length = common_prefix(entry.tokens, tokens);
    if (length > found.length) found = {name, length};
  }
  return found;
}

std::optional<StateCache::Loaded> StateCache::load(const StateOwner& owner, const std::string& name) {
  const fs::path path = folder_ / (name + std::string(kExtension));
  Loaded loaded;
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = entries_.find(name);
    if (entry == entries_.end() || !same(entry->second.owner, owner)) return std::nullopt;
    loaded.tokens = entry->second.tokens;
    entry->second.last_use = fs::file_time_type::clock::now();
  }
  std::error_code error;
  fs::last_write_time(path, fs::file_time_type::clock::now(), error);
  auto file = MappedFile::open(path);
  if (file) {
    auto rest = file->bytes();
    const auto index = take(rest), sealed = take(rest);
    auto state = index && sealed
                     ? unseal(key_, purpose_of_state(owner, name), *sealed)
                     : Result<std::vector<std::byte>>(fail(Code::kMalformed, "{}: cut short", path.string()));
    if (state) {
      loaded.state = std::move(*state);
      return loaded;
    }
    LOG(kWarning, "a saved state is dropped: {}", state.error().message);
  }
  const std::scoped_lock lock(mutex_);
  forget(name);
  return std::nullopt;
}

void StateCache::keep(StateOwner owner, std::vector<Token> tokens, std::vector<std::byte> state, bool wait) {
  if (state.size() > bytes_max_) return;
  std::unique_lock lock(mutex_);
  if (wait) written_.wait(lock, [&] { return waiting_.size() < kWaitingMax; });
  if (waiting_.size() >= kWaitingMax) return;
  waiting_.push_back({std::move(owner), std::move(tokens), std::move(state)});
  wake_.notify_one();
}

bool StateCache::has(const StateOwner& owner, std::span<const Token> tokens) const {
  return longest_prefix(owner, tokens).length == static_cast<int>(tokens.size());
}

void StateCache::write_all(std::stop_token stop) {
  for (;;) {
    Waiting next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, stop, [&] { return !waiting_.empty(); });
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
      written_.notify_all();
    }
    write(next);
  }
}

void StateCache::write(const Waiting& waiting) {
  const std::string name = name_of(key_, waiting.owner, waiting.tokens);
  std::vector<std::byte> index, file;
  append(index, std::as_bytes(std::span(waiting.owner.tenant)));
  append(index, std::as_bytes(std::span(waiting.owner.model)));
  append(index, std::as_bytes(std::span(waiting.tokens)));
  append(file, std::span<const std::byte>(seal(key_, kIndexPurpose, index)));
  append(file, std::span<const std::byte>(seal(key_, purpose_of_state(waiting.owner, name), waiting.state)));
  if (file.size() > bytes_max_) return;
  shrink(bytes_max_ - file.size());
  if (auto written = write_file_atomically(folder_ / (name + std::string(kExtension)), file, 0600); !written) {
    LOG(kWarning, "a state is not kept: {}", written.error().message);
    return;
  }
  const std::scoped_lock lock(mutex_);
  // What this one has the beginning of is of no more use.
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto& [other, old] = *entry++;
    const bool beginning = same(old.owner, waiting.owner) && old.tokens.size() <= waiting.tokens.size() &&
                           common_prefix(old.tokens, waiting.tokens) == static_cast<int>(old.tokens.size());
    if (beginning && other != name) forget(std::string(other));
  }
  bytes_ += file.size();
  entries_.insert_or_assign(name, Entry{waiting.owner, waiting.tokens, file.size(), fs::file_time_type::clock::now()});
}

// With the lock held.
void StateCache::forget(const std::string& name) {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return;
  std::error_code error;
  fs::remove(folder_ / (name + std::string(kExtension)), error);
  bytes_ -= entry->second.bytes;
  entries_.erase(entry);
}

void StateCache::shrink(uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  while (bytes_ > bytes && !entries_.empty())
    forget(std::ranges::min_element(entries_, {}, [](const auto& entry) { return entry.second.last_use; })->first);
}

uint64_t StateCache::bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_;
}

int StateCache::count() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<int>(entries_.size());
}

}  // namespace hearth
