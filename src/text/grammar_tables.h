// A grammar compiled: rules as small automata over bytes that call each other. Inside this room only.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace hearth {

enum class GrammarOp : uint8_t {
  kBytes,   // reads one byte by one of `b` edges from `a`
  kSplit,   // goes on at any of `b` targets from `a`
  kCall,    // reads a rule whose first state is `a`, goes on at `b`
  kLoop,    // reads a rule again and again as loop `a` says, goes on at `b`
  kReturn,  // the end of a rule
  kLink,    // while building only: goes on at `a`
};

struct GrammarState {
  GrammarOp op = GrammarOp::kReturn;
  uint32_t a = 0, b = 0;
  bool operator==(const GrammarState&) const = default;
};

struct GrammarEdge {
  uint8_t low = 0, high = 0;  // inclusive
  uint32_t target = 0;
  bool operator==(const GrammarEdge&) const = default;
};

inline constexpr uint32_t kNoBound = std::numeric_limits<uint32_t>::max();

// The frames of a running loop hold its count, so a large bound costs nothing.
struct GrammarLoop {
  uint32_t entry = 0;
  uint32_t min = 0, max = kNoBound;
  bool operator==(const GrammarLoop&) const = default;
};

struct GrammarTables {
  std::vector<GrammarState> states;
  std::vector<GrammarEdge> edges;
  std::vector<uint32_t> targets;
  std::vector<GrammarLoop> loops;
  uint32_t start = 0;
  // How many rules deep a text must still go from a state to the end of its rule; kNoBound: no text gets there.
  std::vector<uint32_t> need;
  // Bytes that no edge tells apart share a class.
  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> byte_of;  // a byte of each class
  bool operator==(const GrammarTables&) const = default;
};

}  // namespace hearth
