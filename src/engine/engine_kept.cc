// What is kept of sequences that finished or were parked: in memory, on disk when memory gets short, and back.
#include <algorithm>

#include "engine/engine_active.h"

namespace hearth {
namespace {

// A shorter beginning is run again sooner than it is read.
constexpr int kWorthDisk = 128;
// Parked sequences are kept beside as many as options say, and fewer than there are spare ones.
constexpr size_t kMoreKept = 8;
constexpr size_t kWritesAtOnce = 4;

}  // namespace

StateOwner Engine::state_owner(const std::string& tenant, const std::string& precision) const {
  // The whole of a model is not named: so it is called what it was before there was less.
  return {tenant, fmt::format("{} {}{}{}", options_.model_digest, name(store_->kv_type()), precision == "8" ? "" : " ",
                              precision == "8" ? "" : precision)};
}

// What the cache's threads do when a transfer has ended.
StateCache::Ended Engine::waker() {
  return [this] {
    {
      const std::scoped_lock lock(mutex_);
      news_ = true;
    }
    wake_.notify_all();
  };
}

bool Engine::worth_saving(const Kept& kept) const {
  return options_.state_cache && !kept.adapter && !kept.saved && !kept.writing && !kept.arriving &&
         static_cast<int>(kept.tokens.size()) >= kWorthDisk;
}

// `snapshot` has the state, and is released once that is written.
void Engine::save(Kept& kept, SequenceId snapshot) {
  kept.writing = options_.state_cache->keep(state_owner(kept.tenant, kept.precision), kept.tokens,
                                            store_->bytes(snapshot), waker());
  written_.push_back({kept.writing, snapshot});
}

// The first from `index` on that can be: its pages are free at once, or when they are on disk.
bool Engine::release_kept(size_t index, bool save_state) {
  while (index < kept_.size() && kept_[index].arriving) ++index;
  if (index >= kept_.size()) return false;
  if (save_state && worth_saving(kept_[index]))
    save(kept_[index], kept_[index].sequence);
  else
    store_->release(kept_[index].sequence);
  kept_.erase(kept_.begin() + static_cast<ptrdiff_t>(index));
  return true;
}

// Its sequence is kept from now on; the tokens stay.
void Engine::keep(Active& active) {
  const int length = store_->length(active.sequence);
  const SequenceId sequence = std::exchange(active.sequence, -1);
  if (length == 0 || active.precision.empty()) return store_->release(sequence);
  kept_.push_back({sequence, active.request.tenant, active.request.adapter, active.precision,
                   std::vector<Token>(active.tokens.begin(), active.tokens.begin() + length)});
  if (kept_.size() <= static_cast<size_t>(options_.kept_max) + kMoreKept) return;
  release_kept(0);
  if (written_.size() > kWritesAtOnce) written_.front().transfer->wait();
}

// Finished sequences stay for a while: the next turn of the same conversation begins with their tokens.
void Engine::keep_or_release(Active& active) {
  active.tokens.resize(static_cast<size_t>(store_->length(active.sequence)));
  const auto begins_with = [](std::span<const Token> whole, std::span<const Token> part) {
    return part.size() <= whole.size() && std::ranges::equal(whole.first(part.size()), part);
  };
  bool there = false;
  for (size_t i = 0; i < kept_.size() && !there;) {
    const bool related = kept_[i].tenant == active.request.tenant && kept_[i].adapter == active.request.adapter &&
                         kept_[i].precision == active.precision && !kept_[i].arriving;
    there = related && begins_with(kept_[i].tokens, active.tokens);
    if (related && !there && begins_with(active.tokens, kept_[i].tokens))
      release_kept(i, false);
    else
      ++i;
  }
  if (there || options_.kept_max == 0) return store_->release(active.sequence);
  if (static_cast<int>(kept_.size()) >= options_.kept_max) release_kept(0);
  keep(active);
}

// When fewer pages are free, or on disk as well, than a context takes (but half of all where there are few, a quarter where there are many):
// what was used least recently is written, so that its pages can be taken at once. Not before, for flash memory wears.
void Engine::write_behind() {
  if (!options_.state_cache) return;
  constexpr size_t kAhead = 2;
  const int all = store_->pages_max();
  const int wanted = std::max(all / 4, std::min(all / 2, SequenceStore::pages_for(model_.decoder->context())));
  int ready = store_->free_pages();
  for (Kept& kept : kept_) {
    if (ready >= wanted || written_.size() >= kAhead) return;
    if (kept.arriving) continue;
    if (worth_saving(kept)) {
      const auto snapshot = store_->fork(kept.sequence);  // who goes on from it meanwhile writes to pages of its own
      if (!snapshot) return;
      save(kept, *snapshot);
    }
    ready += store_->pages(kept.sequence);
  }
}

// Notes which transfers have ended. Whether pages got free.
bool Engine::settle_transfers() {
  bool freed = false;
  for (size_t i = 0; i < kept_.size();) {
    Kept& kept = kept_[i++];
    if (kept.writing && kept.writing->ended()) {
      kept.saved = true;  // or cannot be: it is not tried again
      kept.writing.reset();
    }
    if (!kept.arriving || !kept.arriving->ended()) continue;
    ++(kept.arriving->succeeded() ? states_read_ : states_lost_);
    const bool lost = !kept.arriving->succeeded();
    kept.arriving.reset();
    if (!lost) continue;
    freed = true;
    release_kept(--i, false);
  }
  std::erase_if(written_, [&](const Written& written) {
    if (!written.transfer->ended()) return false;
    ++(written.transfer->succeeded() ? states_written_ : states_lost_);
    store_->release(written.sequence);
    freed = true;
    return true;
  });
  return freed;
}

// Whether something was given up, or is on disk now, so that there may be room. `at_once`: without waiting for the disk.
bool Engine::make_room(bool at_once) {
  if (settle_transfers()) return true;
  for (size_t i = 0; i < kept_.size(); ++i)
    if (!kept_[i].arriving && !kept_[i].writing && !worth_saving(kept_[i])) return release_kept(i, false);
  if (at_once) return false;
  release_kept(0);
  if (!written_.empty()) {
    written_.front().transfer->wait();
  } else {
    const auto arriving = std::ranges::find_if(kept_, [](const Kept& kept) { return kept.arriving != nullptr; });
    if (arriving == kept_.end()) return false;
    arriving->arriving->wait();
  }
  settle_transfers();
  return true;
}

void Engine::set_kv_pages_max(int pages) {
  {
    const std::scoped_lock lock(mutex_);
    wanted_pages_ = std::max(pages, SequenceStore::pages_for(model_.decoder->context()));
    news_ = true;
  }
  wake_.notify_all();
}

void Engine::limit_pages() {
  int pages = 0;
  {
    const std::scoped_lock lock(mutex_);
    pages = std::exchange(wanted_pages_, 0);
  }
  if (pages == 0) return;
  drain();
  retire_finished();
  keep_to_pages(pages);
}

// What is beyond goes to disk, or waits.
void Engine::keep_to_pages(int pages) {
  while (store_->used_pages() > pages) {
    if (make_room()) continue;
    const std::scoped_lock lock(mutex_);
    if (active_.size() < 2) break;
    park(last_active());
  }
  store_->limit_pages(pages);
}

// Whether the state of its beginning is on its way from disk; begun now if there is much more of it than in memory. What arrives is kept
// like any other. `ahead` of its turn: only where that takes no time.
bool Engine::fetch(Active& active, bool ahead) {
  if (!options_.state_cache || active.request.adapter) return false;
  if (active.request.prompt_logprobs && active.told + 1 < active.usage.prompt_tokens) return false;
  const Prefix prefix = longest_prefix(active);
  if (prefix.kept >= 0 && kept_[static_cast<size_t>(prefix.kept)].arriving) return true;
  const StateOwner owner = state_owner(active.request.tenant, state_precision(active));
  if (const uint64_t changes = options_.state_cache->changes(); active.looked_at != changes) {
    active.on_disk = options_.state_cache->longest_prefix(owner, active.tokens);
    active.looked_at = changes;
  }
  const StateCache::Found& found = active.on_disk;
  const auto length = static_cast<int>(found.tokens.size());
  if (found.length < prefix.length + kWorthDisk ||
      SequenceStore::pages_for(length) > store_->pages_max() - active_pages())
    return false;
  auto sequence = store_->open_for_import(length);
  while (!sequence && make_room(ahead)) sequence = store_->open_for_import(length);
  if (!sequence) return false;
  Kept kept{*sequence, active.request.tenant, nullptr, state_precision(active), found.tokens};
  kept.saved = true;
  kept.arriving = options_.state_cache->load(owner, found.name, store_->bytes(*sequence), waker());
  kept_.push_back(std::move(kept));
  return true;
}

}  // namespace hearth
