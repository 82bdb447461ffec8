#include "text/token_index.h"

#include <array>
#include <bit>
#include <cstring>
#include <random>

#include "base/check.h"

namespace hearth {
namespace {

__extension__ using Wide = unsigned __int128;

uint64_t key_of_process() {
  static const uint64_t key = [] {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32) ^ device() ^ 0x9E3779B97F4A7C15u;
  }();
  return key;
}

// Both halves of a 64 by 64 bit product, folded.
uint64_t fold(uint64_t a, uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_of(std::string_view text) {
  constexpr uint64_t kOdd = 0xD6E8FEB86659FD93u;
  uint64_t hash = key_of_process() ^ (text.size() * kOdd);
  for (; text.size() >= 8; text.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    hash = fold(hash ^ word, kOdd);
  }
  uint64_t rest = 0;
  if (!text.empty()) std::memcpy(&rest, text.data(), text.size());
  return fold(fold(hash ^ rest, kOdd) ^ key_of_process(), kOdd);
}

// Twice as many places as entries at least.
size_t capacity_for(size_t n) { return std::bit_ceil(n * 2 + 2); }

}  // namespace

void TokenIndex::insert_all() {
  CHECK(slots_.empty());
  const size_t n = texts_->size();
  slots_.resize(capacity_for(n));
  std::array<uint64_t, 16> hashes;
  for (size_t i = 0; i < n + hashes.size(); ++i) {
    uint64_t& hash = hashes[i % hashes.size()];
    if (i >= hashes.size()) insert(static_cast<Token>(i - hashes.size()), hash);
    if (i >= n) continue;
    hash = hash_of((*texts_)[i]);
    __builtin_prefetch(&slots_[hash & (slots_.size() - 1)], 1);
  }
}

void TokenIndex::insert(Token id, uint64_t hash) {
  const std::string& text = (*texts_)[static_cast<size_t>(id)];
  if (text.empty()) return;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    Slot& slot = slots_[at];
    if (slot.id == kNoToken) {
      slot = {tag, id};
      n_bytes_max_ = std::max(n_bytes_max_, text.size());
      return;
    }
    if (slot.tag == tag && (*texts_)[static_cast<size_t>(slot.id)] == text) {
      unique_ = false;
      return;
    }
  }
}

void TokenIndex::prefetch(std::string_view text) const {
  __builtin_prefetch(&slots_[hash_of(text) & (slots_.size() - 1)]);
}

Token TokenIndex::find(std::string_view text) const {
  if (text.empty() || text.size() > n_bytes_max_) return kNoToken;
  const uint64_t hash = hash_of(text);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.id == kNoToken) return kNoToken;
    if (slot.tag == tag && (*texts_)[static_cast<size_t>(slot.id)] == text) return slot.id;
  }
}

void PairTable::reserve(size_t n) {
  CHECK(slots_.empty());
  slots_.resize(capacity_for(n));
}

size_t PairTable::start(uint64_t key) const {
  return fold(key ^ key_of_process(), 0xD6E8FEB86659FD93u) & (slots_.size() - 1);
}

void PairTable::prefetch(uint32_t left, uint32_t right) const {
  __builtin_prefetch(&slots_[start(static_cast<uint64_t>(left) << 32 | right)], 1);
}

void PairTable::insert(uint32_t left, uint32_t right, Entry entry) {
  const uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  for (size_t at = start(key);; at = (at + 1) & (slots_.size() - 1)) {
    Slot& slot = slots_[at];
    if (slot.entry.value < 0) {
      slot = {key, entry};
      return;
    }
    if (slot.key == key) return;
  }
}

PairTable::Entry PairTable::find(uint32_t left, uint32_t right) const {
  if (slots_.empty()) return {};
  const uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  for (size_t at = start(key);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.entry.value < 0 || slot.key == key) return slot.entry;
  }
}

}  // namespace hearth
