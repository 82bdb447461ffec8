#include "engine/state_cache.h"

#include <algorithm>

#include "base/log.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".state";
// Enough to keep a disk busy while two or three decrypt.
constexpr int kReaders = 8;

}  // namespace

int common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<int>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// With the cache's lock, but for what is const.
struct StateCache::Reading {
  const StateFile file;
  const StateBytes into;
  const std::string name;
  const std::shared_ptr<StateTransfer> transfer;
  const Ended ended;
  uint32_t next = 0;  // piece to begin
  uint32_t under_way = 0;
  bool failed = false;
};

StateCache::StateCache(fs::path folder, const Key& key, uint64_t bytes_max)
    : folder_(std::move(folder)), key_(key), bytes_max_(bytes_max) {}

Result<std::unique_ptr<StateCache>> StateCache::open(const fs::path& folder, const Key& key, uint64_t bytes_max) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(Code::kIo, "{}: {}", folder.string(), error.message());
  std::unique_ptr<StateCache> cache(new StateCache(folder, key, bytes_max));
  cache->read_folder();
  cache->shrink(bytes_max);
  cache->writer_ = std::jthread([raw = cache.get()](const std::stop_token& stop) { raw->write_all(stop); });
  for (int i = 0; i < kReaders; ++i)
    cache->readers_.emplace_back(
        [raw = cache.get(), buffer = TRY(PageMemory::allocate(StateFile::kPieceBytes))](const std::stop_token& stop) {
          raw->read_pieces(stop, {buffer.data(), StateFile::kPieceBytes});
        });
  return cache;
}

StateCache::~StateCache() {
  writer_.request_stop();
  for (std::jthread& reader : readers_) reader.request_stop();
  if (writer_.joinable()) writer_.join();
  readers_.clear();
}

fs::path StateCache::path_of(const std::string& name) const { return folder_ / (name + std::string(kExtension)); }

void StateCache::read_folder() {
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder_, error)) {
    if (file.is_symlink(error) || !file.is_regular_file(error)) continue;
    const auto state = file.path().extension() == kExtension ? StateFile::open(file.path(), key_)
                                                             : Result<StateFile>(fail(Code::kMalformed, "no state"));
    const std::string name = file.path().stem().string();
    if (state && name == state_name(key_, state->index().owner, state->index().tokens)) {
      bytes_ += state->bytes();
      entries_.emplace(name, Entry{state->index().owner, state->index().tokens, state->bytes(),
                                   fs::last_write_time(file.path(), error)});
    } else {
      fs::remove(file.path(), error);
    }
  }
}

StateCache::Found StateCache::longest_prefix(const StateOwner& owner, std::span<const Token> tokens) const {
  const std::scoped_lock lock(mutex_);
  Found found;
  const Entry* best = nullptr;
  for (const auto& [name, entry] : entries_) {
    if (entry.owner != owner) continue;
    const int length = common_prefix(entry.tokens, tokens);
    // Of several that have as much, the one with the least else.
    if (length < found.length || length == 0) continue;
    if (length == found.length && best != nullptr && entry.tokens.size() >= best->tokens.size()) continue;
    found.name = name, found.length = length;
    best = &entry;
  }
  if (best != nullptr) found.tokens = best->tokens;
  return found;
}

void StateCache::end(StateTransfer& transfer, bool well, const Ended& ended) {
  transfer.state_ = well ? StateTransfer::State::kDone : StateTransfer::State::kFailed;
  if (ended) ended();
  transfer.told_ = true;
  transfer.told_.notify_all();
}

std::shared_ptr<const StateTransfer> StateCache::load(const StateOwner& owner, const std::string& name, StateBytes into,
                                                      Ended ended) {
  auto transfer = std::make_shared<StateTransfer>();
  bool there = false;
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = entries_.find(name);
    there = entry != entries_.end() && entry->second.owner == owner;
    if (there) entry->second.last_use = fs::file_time_type::clock::now();
  }
  std::error_code error;
  if (there) fs::last_write_time(path_of(name), fs::file_time_type::clock::now(), error);
  auto file =
      there ? StateFile::open(path_of(name), key_) : Result<StateFile>(fail(Code::kNotFound, "{} is gone", name));
  if (file && state_name(key_, file->index().owner, file->index().tokens) != name)
    file = fail(Code::kCorrupt, "{}: has another's state", path_of(name).string());
  if (!file) {
    drop(name, file.error());
    end(*transfer, false, ended);
    return transfer;
  }
  const std::scoped_lock lock(mutex_);
  reading_.push_back(std::make_shared<Reading>(std::move(*file), std::move(into), name, transfer, std::move(ended)));
  wake_readers_.notify_all();
  return transfer;
}

void StateCache::drop(const std::string& name, const Error& why) {
  LOG(kWarning, "a saved state is dropped: {}", why.message);
  const std::scoped_lock lock(mutex_);
  forget(name);
}

void StateCache::read_pieces(const std::stop_token& stop, std::span<std::byte> buffer) {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_readers_.wait(lock, stop, [&] { return !reading_.empty(); });
    if (reading_.empty()) return;
    const std::shared_ptr<Reading> reading = reading_.front();
    const uint32_t piece = reading->next++;
    ++reading->under_way;
    if (reading->next == reading->file.pieces()) reading_.pop_front();
    lock.unlock();
    const auto read = reading->file.read_piece(piece, buffer, reading->into);
    lock.lock();
    if (!read && !reading->failed) {
      reading->failed = true;
      std::erase(reading_, reading);
      lock.unlock();
      drop(reading->name, read.error());
      lock.lock();
    }
    --reading->under_way;
    if (reading->under_way > 0 || (!reading->failed && reading->next < reading->file.pieces())) continue;
    lock.unlock();
    end(*reading->transfer, !reading->failed, reading->ended);
    lock.lock();
  }
}

std::shared_ptr<const StateTransfer> StateCache::keep(StateOwner owner, std::vector<Token> tokens, StateBytes from,
                                                      Ended ended) {
  auto transfer = std::make_shared<StateTransfer>();
  const std::scoped_lock lock(mutex_);
  waiting_.push_back({std::move(owner), std::move(tokens), std::move(from), transfer, std::move(ended)});
  wake_writer_.notify_one();
  return transfer;
}

void StateCache::write_all(const std::stop_token& stop) {
  for (;;) {
    Waiting next;
    {
      std::unique_lock lock(mutex_);
      wake_writer_.wait(lock, stop, [&] { return !waiting_.empty(); });
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    end(*next.transfer, write(next), next.ended);
  }
}

bool StateCache::write(const Waiting& waiting) {
  const std::string name = state_name(key_, waiting.owner, waiting.tokens);
  // What the file has besides: the index, and up to a page of nothing.
  const uint64_t bytes = waiting.bytes.size() + waiting.tokens.size() * sizeof(Token) + DirectFile::kAlignment * 2;
  if (bytes > bytes_max_) return false;
  shrink(bytes_max_ - bytes);
  const auto written =
      StateFile::write(path_of(name), key_, {.owner = waiting.owner, .tokens = waiting.tokens}, waiting.bytes);
  if (!written) {
    if (!disk_fails_) LOG(kWarning, "states are not kept on disk: {}", written.error().message);
    disk_fails_ = true;
    return false;
  }
  disk_fails_ = false;
  const std::scoped_lock lock(mutex_);
  enter(name, Entry{waiting.owner, waiting.tokens, *written, fs::file_time_type::clock::now()});
  return true;
}

// With the lock held: a file that is in its place.
void StateCache::enter(const std::string& name, Entry entry) {
  // What this one has the beginning of is of no more use.
  for (auto each = entries_.begin(); each != entries_.end();) {
    const auto& [other, old] = *each++;
    const bool beginning = old.owner == entry.owner && old.tokens.size() <= entry.tokens.size() &&
                           common_prefix(old.tokens, entry.tokens) == static_cast<int>(old.tokens.size());
    if (beginning && other != name) forget(std::string(other));
  }
  const auto old = entries_.find(name);
  if (old != entries_.end()) bytes_ -= old->second.bytes;
  bytes_ += entry.bytes;
  entries_.insert_or_assign(name, std::move(entry));
  ++changes_;
}

// With the lock held.
void StateCache::forget(const std::string& name) {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return;
  std::error_code error;
  fs::remove(path_of(name), error);
  bytes_ -= entry->second.bytes;
  entries_.erase(entry);
  ++changes_;
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
