#include "engine/draft_index.h"

#include <algorithm>
#include <bit>

namespace hearth {
namespace {

constexpr size_t kTableMin = 256;
constexpr int kPlacesMax = 32;  // looked at for one n-gram

}  // namespace

size_t DraftIndex::Chains::slot(const Token* gram_begin) const {
  uint64_t hash = 0;
  for (size_t i = 0; i < gram; ++i) hash = (hash ^ static_cast<uint32_t>(gram_begin[i])) * 0x9e3779b97f4a7c15u;
  return (hash >> 32) & (newest.size() - 1);
}

void DraftIndex::Chains::add(std::span<const Token> tokens, size_t place) {
  older.push_back(0);
  if (place < gram) return;
  uint32_t& head = newest[slot(tokens.data() + place - gram)];
  older.back() = head;
  head = static_cast<uint32_t>(place);
}

void DraftIndex::append(std::span<const Token> tokens) {
  tokens = tokens.last(std::min(tokens.size(), tokens_max_));
  if (tokens_.size() + tokens.size() > tokens_max_) {  // what is oldest goes
    const size_t kept = std::min(tokens_.size(), tokens_max_ / 2);
    tokens_.erase(tokens_.begin(), tokens_.end() - static_cast<ptrdiff_t>(kept));
    tokens = tokens.last(std::min(tokens.size(), tokens_max_ - kept));
    rebuild();
  }
  for (const Token token : tokens) {
    if (tokens_.size() >= long_.newest.size()) rebuild();
    for (Chains* chains : {&long_, &short_}) chains->add(tokens_, tokens_.size());
    tokens_.push_back(token);
  }
}

// Tables for twice as many tokens as there are.
void DraftIndex::rebuild() {
  const size_t slots = std::max(kTableMin, std::bit_ceil(2 * tokens_.size()));
  tokens_.reserve(std::min(slots, tokens_max_));
  for (Chains* chains : {&long_, &short_}) {
    chains->newest.assign(slots, 0);
    chains->older.clear();
    chains->older.reserve(std::min(slots, tokens_max_));
    for (size_t place = 0; place < tokens_.size(); ++place) chains->add(tokens_, place);
  }
}

DraftIndex::Match DraftIndex::find(std::span<const Token> text) const {
  Match best;
  look(long_, text, best);
  if (best.length == 0) look(short_, text, best);
  return best;
}

void DraftIndex::look(const Chains& chains, std::span<const Token> text, Match& best) const {
  if (text.size() < chains.gram || tokens_.empty()) return;
  uint32_t place = chains.newest[chains.slot(text.data() + text.size() - chains.gram)];
  for (int i = 0; i < kPlacesMax && place != 0 && best.length < kMatchMax; ++i, place = chains.older[place]) {
    const size_t most = std::min({size_t{kMatchMax}, size_t{place}, text.size()});
    size_t length = 0;
    while (length < most && tokens_[place - 1 - length] == text[text.size() - 1 - length]) ++length;
    if (length >= chains.gram && static_cast<int>(length) > best.length) best = {static_cast<int>(length), place};
  }
}

void DraftIndex::copy(const Match& match, std::span<Token> out) const {
  const size_t there = tokens_.size() - match.place;
  for (size_t i = 0; i < out.size(); ++i) out[i] = i < there ? tokens_[match.place + i] : out[i - there];
}

}  // namespace hearth
