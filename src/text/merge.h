// The loop of byte pair encoding: of all neighbours that may merge, always the best pair, the leftmost of equals
// (Sennrich et al. 2016, section 3.2; a heap instead of their full scans). O(n log n) in the symbols, whatever they
// are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hearth {

struct MergeSymbol {
  int32_t id;              // of the vocabulary, or what the caller makes of it
  uint32_t begin;          // bytes [begin, begin + n_bytes) of the text
  uint32_t n_bytes;        // 0: merged into the symbol before it
  int32_t previous, next;  // -1 at the ends
};

// What a pair becomes; priority: the smallest merges first.
struct MergeResult {
  uint32_t priority = 0;
  int32_t id = -1;  // -1: the pair does not merge
};

// Buffers of one encoder, kept between words.
struct MergeSpace {
  struct Candidate {
    uint64_t order;    // priority, then place
    uint32_t n_bytes;  // of both symbols when it was found
    int32_t id;
  };
  std::vector<MergeSymbol> symbols;
  std::vector<Candidate> heap;

  void clear() {
    symbols.clear();
    heap.clear();
  }
  void push_symbol(int32_t id, uint32_t begin, uint32_t n_bytes) {
    const auto at = static_cast<int32_t>(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({id, begin, n_bytes, at - 1, -1});
  }

  // merge_of(left symbol, right symbol) -> MergeResult. Afterwards the symbols that are left have n_bytes > 0.
  template <typename MergeOf>
  void merge_all(const MergeOf& merge_of) {
    const auto worse = [](const Candidate& a, const Candidate& b) { return a.order > b.order; };
    const auto candidate = [&](int32_t left, int32_t right) {
      const MergeSymbol& a = symbols[static_cast<size_t>(left)];
      const MergeSymbol& b = symbols[static_cast<size_t>(right)];
      const MergeResult merged = merge_of(a, b);
      return Candidate{static_cast<uint64_t>(merged.priority) << 32 | static_cast<uint32_t>(left),
                       a.n_bytes + b.n_bytes, merged.id};
    };
    const auto try_push = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      const Candidate found = candidate(left, right);
      if (found.id < 0) return;
      heap.push_back(found);
      std::push_heap(heap.begin(), heap.end(), worse);
    };
    for (int32_t right = 1; right < static_cast<int32_t>(symbols.size()); ++right) {
      const Candidate found = candidate(right - 1, right);
      if (found.id >= 0) heap.push_back(found);
    }
    std::make_heap(heap.begin(), heap.end(), worse);
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), worse);
      const Candidate best = heap.back();
      heap.pop_back();
      const auto left_at = static_cast<int32_t>(best.order & 0xFFFFFFFF);
      MergeSymbol& left = symbols[static_cast<size_t>(left_at)];
      if (left.n_bytes == 0 || left.next < 0) continue;
      MergeSymbol& right = symbols[static_cast<size_t>(left.next)];
      if (left.n_bytes + right.n_bytes != best.n_bytes) continue;  // one of them has grown since
      left.id = best.id;
      left.n_bytes = best.n_bytes;
      left.next = right.next;
      right.n_bytes = 0;
      if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = left_at;
      try_push(left.previous, left_at);
      try_push(left_at, left.next);
    }
  }
};

}  // namespace hearth
