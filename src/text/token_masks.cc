#include "text/token_masks.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>

#include "base/limits.h"
#include "text/grammar_machine.h"
#include "text/token_trie.h"

namespace hearth {
namespace {

using Bits = std::vector<uint64_t>;
using MachineState = GrammarMachine::State;

constexpr uint64_t kMaskWork = 500'000;  // of the machine, for one mask: some 20 ms, which only a hostile grammar takes

void set_bit(Bits& bits, Token token) { bits[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64); }

// The characters of several bytes in UTF-8: sequences of ranges.
using Sequence = std::array<ByteRange, 4>;
constexpr Sequence kNearSpacesChars[] = {{{{0xC2, 0xC2}, {0x80, 0xBF}}},
                                         {{{0xE1, 0xE3}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                         {{{0xEF, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}}};
constexpr Sequence kBeyondAsciiChars[] = {{{{0xC3, 0xDF}, {0x80, 0xBF}}},
                                          {{{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
                                          {{{0xE4, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                          {{{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
                                          {{{0xEE, 0xEE}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                          {{{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                          {{{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
                                          {{{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}}};

}  // namespace

// The vocabulary is divided into tries by the kinds of characters that its tokens have (their bits are the places in ascii_kinds):
// each token is in the first that has all its kinds. What is all small letters, say, is then often taken by the branch.
constexpr CharKinds kSmallLetters = 0x3, kLetters = 0xF, kWords = 0x5F, kSpaces = 0x20, kAscii = 0x3FF;
constexpr std::array<CharKinds, 9> kTrieKinds{kSmallLetters,
                                              kLetters,
                                              kWords,
                                              kSpaces | kSmallLetters,
                                              kSpaces | kLetters,
                                              kAscii,
                                              kAscii | kBeyondAscii,
                                              kAscii | kBeyondAscii | kNearSpaces,
                                              kAscii | kBeyondAscii | kNearSpaces | kNoKind};
constexpr size_t kPlainTries = kTrieKinds.size() - 1;  // of tokens that strings of JSON hold as they are

// What a token adds to the text. Control tokens are marked, so that only grammars which name them let them in.
std::string text_of_token(const Tokenizer& tokenizer, Token token, bool first) {
  std::string text = tokenizer.bytes(token, false, first);
  const auto& kinds = tokenizer.data().kinds;
  if (!text.empty() || kinds.empty() || kinds[static_cast<size_t>(token)] != TokenKind::kControl) return text;
  text = tokenizer.bytes(token, true, false);
  return text.empty() ? text : Grammar::kControlMark + text;
}

struct MaskVocabulary {
  explicit MaskVocabulary(const Tokenizer& of);

  const Tokenizer& tokenizer;
  size_t n_words;
  std::array<TokenTrie, kTrieKinds.size()> tries;
  Bits all_plain;
  size_t n_plain = 0;
  bool first_differs = false;      // the first token loses a space,
  std::vector<Token> keeps_space;  // but not these
};

MaskVocabulary::MaskVocabulary(const Tokenizer& of)
    : tokenizer(of), n_words((static_cast<size_t>(of.n_vocab()) + 63) / 64), all_plain(n_words) {
  std::array<std::vector<std::pair<std::string, Token>>, kTrieKinds.size()> texts;
  for (Token token = 0; token < of.n_vocab(); ++token) {
    if (of.ends_generation(token)) continue;
    std::string text = text_of_token(of, token, false);
    if (text.empty()) continue;
    if (text.front() == ' ') {
      const bool loses = of.bytes(token, false, true).size() != text.size();
      first_differs = first_differs || loses;
      if (!loses) keeps_space.push_back(token);
    }
    const CharKinds kinds = kinds_of(text);
    size_t trie = 0;
    while ((kinds & ~kTrieKinds[trie]) != 0) ++trie;
    texts[trie].emplace_back(std::move(text), token);
  }
  for (size_t i = 0; i < tries.size(); ++i) {
    std::sort(texts[i].begin(), texts[i].end());
    tries[i] = TokenTrie::build(texts[i]);
    if (i == kPlainTries) break;
    n_plain += tries[i].tokens.size();
    for (const Token token : tries[i].tokens) set_bit(all_plain, token);
  }
}

namespace {

// A mask with few tokens is kept as a list.
struct Mask {
  bool known = false;
  Bits bits;
  std::vector<Token> tokens;
};

// Of the tokens of a trie, ranges: in order and apart from each other.
struct Ranks {
  const std::vector<Token>* of = nullptr;
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  size_t n = 0;
  void add(uint32_t begin, uint32_t end) {
    n += end - begin;
    if (!ranges.empty() && ranges.back().second == begin) {
      ranges.back().second = end;
    } else if (begin < end) {
      ranges.emplace_back(begin, end);
    }
  }
  [[nodiscard]] Ranks others() const {
    Ranks all;
    all.of = of;
    uint32_t done = 0;
    for (const auto& [begin, end] : ranges) {
      all.add(done, begin);
      done = end;
    }
    all.add(done, static_cast<uint32_t>(of->size()));
    return all;
  }
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [begin, end] : ranges) {
      for (uint32_t i = begin; i < end; ++i) visit((*of)[i]);
    }
  }
};

}  // namespace

// One grammar's machine and masks, shared by the constraints with an equal grammar.
class MaskMachine {
 public:
  MaskMachine(std::shared_ptr<const Grammar> of, const MaskVocabulary& vocabulary)
      : grammar(std::move(of)), machine(grammar->tables()), vocabulary_(vocabulary) {}

  const std::shared_ptr<const Grammar> grammar;
  std::mutex mutex;  // for all below
  GrammarMachine machine;
  bool retired = false;  // too large; the next one begins anew

  // `first`: the token opens the text.
  const Mask& mask(MachineState state, bool first);
  [[nodiscard]] bool full() const {
    return machine.n_bytes() + n_mask_bytes_ + onward_.capacity() * sizeof(Onward) > limits::kMaskCacheBytes;
  }

 private:
  // Where a state goes by all characters of a kind, whichever they are.
  struct Onward {
    MachineState next = GrammarMachine::kDead;
    CharKinds looked = 0;          // looked at; of these,
    CharKinds live = 0, dead = 0;  // those that lead to `next`, and those that lead nowhere
  };

  void fill(MachineState state, bool first, Mask& mask);
  void walk(const TokenTrie& trie, MachineState state, bool first, bool found, Ranks& fitting);
  std::optional<size_t> chars_that_fit(MachineState state, CharKinds kinds, size_t chars_max);
  bool all_below_fit(MachineState state, const TokenTrie::Node& node);
  void look_onward(MachineState state, CharKinds kinds);
  std::optional<MachineState> after_kind(MachineState state, CharKinds kind);
  std::optional<MachineState> after_ranges(MachineState state, std::span<const ByteRange> ranges, bool each);

  const MaskVocabulary& vocabulary_;
  std::vector<Mask> masks_;
  std::vector<Onward> onward_;
  Mask first_mask_;
  size_t n_mask_bytes_ = 0;
};

// The one state that the ranges lead to, `each` of them or one after the other; nothing if there are several.
std::optional<MachineState> MaskMachine::after_ranges(MachineState state, std::span<const ByteRange> ranges,
                                                      bool each) {
  const auto& class_of = machine.tables().class_of;
  MachineState from = state;
  std::optional<MachineState> to;
  for (const ByteRange range : ranges) {
    if (range.high == 0) break;
    if (!each) to.reset();
    for (int c = class_of[range.low]; c <= class_of[range.high]; ++c) {
      const MachineState next = machine.next_by_class(from, static_cast<uint8_t>(c));
      if (to && *to != next) return std::nullopt;
      to = next;
    }
    if (!each) from = *to;
  }
  return to;
}

std::optional<MachineState> MaskMachine::after_kind(MachineState state, CharKinds kind) {
  if ((kind & (kBeyondAscii | kNearSpaces)) == 0) {
    return after_ranges(state, ascii_kinds()[static_cast<size_t>(__builtin_ctz(kind))], true);
  }
  std::optional<MachineState> to;
  for (const Sequence& sequence :
       kind == kNearSpaces ? std::span<const Sequence>(kNearSpacesChars) : kBeyondAsciiChars) {
    const auto next = after_ranges(state, sequence, false);
    if (!next || (to && *to != *next)) return std::nullopt;
    to = next;
  }
  return to;
}

// Up to the first kind that does not go where those before it go.
void MaskMachine::look_onward(MachineState state, CharKinds kinds) {
  if (onward_.size() <= static_cast<size_t>(state)) onward_.resize(machine.n_states());
  for (unsigned rest = kinds & ~onward_[static_cast<size_t>(state)].looked; rest != 0; rest &= rest - 1) {
    const auto kind = static_cast<CharKinds>(rest & -rest);
    const auto next = after_kind(state, kind);
    Onward& onward = onward_[static_cast<size_t>(state)];
    onward.looked |= kind;
    if (!next) return;
    if (*next == GrammarMachine::kDead) {
      onward.dead |= kind;
      continue;
    }
    if (onward.live == 0) onward.next = *next;
    if (onward.next != *next) return;
    onward.live |= kind;
  }
}

// How many characters of these kinds may come, where it does not matter which; nothing where it does.
std::optional<size_t> MaskMachine::chars_that_fit(MachineState state, CharKinds kinds, size_t chars_max) {
  for (size_t n = 0; n < chars_max; ++n) {
    look_onward(state, kinds);
    const Onward& onward = onward_[static_cast<size_t>(state)];
    if ((kinds & ~onward.dead) == 0) return n;
    if ((kinds & ~onward.live) != 0) return std::nullopt;
    if (onward.next == state) break;
    state = onward.next;
  }
  return chars_max;
}

// Whether all characters that a node counts go on from the state. No for some that do: they are walked.
bool MaskMachine::all_below_fit(MachineState state, const TokenTrie::Node& node) {
  return (node.kinds_below & kNoKind) == 0 &&
         chars_that_fit(state, node.kinds_below, node.chars_below) == size_t{node.chars_below};
}

// `found`: there are ways on, in other tries.
void MaskMachine::walk(const TokenTrie& trie, MachineState from, bool first, bool found, Ranks& fitting) {
  constexpr uint32_t kFewNodes = 12;  // are walked sooner than looked at
  std::array<MachineState, TokenTrie::kBytesMax + 1> at;
  at[0] = from;
  const uint64_t work_max = machine.work() + kMaskWork;
  const auto& class_of = machine.tables().class_of;
  const TokenTrie::Node* nodes = trie.nodes.data();
  for (const TokenTrie::Root& root : trie.roots) {
    // By a table of their own: most first bytes lead nowhere, and their nodes lie far apart.
    const MachineState behind_root = first && root.byte == ' ' ? from : machine.next(from, root.byte);
    if (behind_root == GrammarMachine::kDead) continue;
    const uint32_t end = nodes[root.node].skip;
    for (uint32_t i = root.node; i < end;) {
      const TokenTrie::Node& node = nodes[i];
      const MachineState before = at[node.depth];
      const MachineState state = i == root.node ? behind_root : machine.next_by_class(before, class_of[node.byte]);
      // Out of work, single bytes are still tried until there is a way on.
      const bool stops = machine.work() > work_max && (node.depth > 0 || found || fitting.n > 0);
      if (state == GrammarMachine::kDead || stops) {
        i = node.skip;
        continue;
      }
      at[node.depth + 1u] = state;
      const bool begins_char = node.byte >= 0xC0;
      const bool whole =
          node.skip == i + 1 || (node.skip - i > kFewNodes && all_below_fit(begins_char ? before : state, node));
      const uint32_t next = whole ? node.skip : i + 1;
      fitting.add(node.rank, nodes[next].rank);
      i = next;
    }
  }
}

void MaskMachine::fill(MachineState state, bool first, Mask& mask) {
  std::array<Ranks, kTrieKinds.size()> fitting;
  size_t n = 0;
  for (size_t i = 0; i < kTrieKinds.size(); ++i) {
    const TokenTrie& trie = vocabulary_.tries[i];
    const bool plain = !first && i < kPlainTries && !trie.tokens.empty();
    const auto n_chars = plain ? chars_that_fit(state, kTrieKinds[i], trie.up_to.size() - 1) : std::nullopt;
    fitting[i].of = n_chars ? &trie.by_length : &trie.tokens;
    if (n_chars) {
      fitting[i].add(0, trie.up_to[*n_chars]);
    } else {
      walk(trie, state, first, n > 0, fitting[i]);
    }
    n += fitting[i].n;
  }
  const std::vector<Token>& ends = vocabulary_.tokenizer.data().end_of_generation;
  const bool complete = machine.complete(state);
  if (!first && n < vocabulary_.n_words) {
    for (const Ranks& ranks : fitting) ranks.for_each([&](Token token) { mask.tokens.push_back(token); });
    if (complete) mask.tokens.insert(mask.tokens.end(), ends.begin(), ends.end());
    return;
  }
  Bits& bits = mask.bits;
  const auto set = [&](Token token) { set_bit(bits, token); };
  const auto clear = [&](Token token) { bits[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (token % 64)); };
  const bool most = (n - fitting[kPlainTries].n) * 2 > vocabulary_.n_plain;  // fewer are missing than there are
  bits = most ? vocabulary_.all_plain : Bits(vocabulary_.n_words);
  for (size_t i = 0; i < kTrieKinds.size(); ++i) {
    if (most && i < kPlainTries) {
      fitting[i].others().for_each(clear);
    } else {
      fitting[i].for_each(set);
    }
  }
  for (const Token token : first ? vocabulary_.keeps_space : std::vector<Token>()) {
    MachineState next = state;
    for (const char c : vocabulary_.tokenizer.bytes(token, false, true))
      next = machine.next(next, static_cast<uint8_t>(c));
    next == GrammarMachine::kDead ? clear(token) : set(token);
  }
  for (const Token token : complete ? ends : std::vector<Token>()) set(token);
}

const Mask& MaskMachine::mask(MachineState state, bool first) {
  if (!first && masks_.size() <= static_cast<size_t>(state)) masks_.resize(static_cast<size_t>(state) + 1);
  Mask& mask = first ? first_mask_ : masks_[static_cast<size_t>(state)];
  if (mask.known) return mask;
  mask.known = true;
  fill(state, first, mask);
  n_mask_bytes_ += sizeof(Mask) + mask.bits.size() * sizeof(uint64_t) + mask.tokens.size() * sizeof(Token);
  return mask;
}

class MaskCache {
 public:
  // The machine of an equal grammar, or a new one in the place of the least recently taken.
  std::shared_ptr<MaskMachine> take(const std::shared_ptr<const Grammar>& grammar, const MaskVocabulary& vocabulary) {
    const std::scoped_lock lock(mutex_);
    const auto same = [&](const std::shared_ptr<MaskMachine>& machine) {
      return machine->grammar == grammar || machine->grammar->tables() == grammar->tables();
    };
    auto found = std::find_if(machines_.begin(), machines_.end(), same);
    if (found != machines_.end()) {
      const std::scoped_lock machine_lock((*found)->mutex);
      if ((*found)->full()) (*found)->retired = true;
    }
    if (found != machines_.end() && (*found)->retired) {
      machines_.erase(found);
      found = machines_.end();
    }
    if (found == machines_.end()) {
      if (machines_.size() >= limits::kMaskGrammars) machines_.erase(machines_.begin());
      machines_.push_back(std::make_shared<MaskMachine>(grammar, vocabulary));
    } else {
      std::rotate(found, found + 1, machines_.end());
    }
    return machines_.back();
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<MaskMachine>> machines_;  // least recently taken first
};

TokenMasks::TokenMasks(const Tokenizer& tokenizer)
    : vocabulary_(std::make_unique<const MaskVocabulary>(tokenizer)), cache_(std::make_unique<MaskCache>()) {}
TokenMasks::~TokenMasks() = default;
const Tokenizer& TokenMasks::tokenizer() const { return vocabulary_->tokenizer; }

struct Constraint::State {
  TokenMasks* masks;
  std::shared_ptr<MaskMachine> machine;
  MachineState at;
  bool first;  // nothing has been said, and the tokenizer takes a space from what is said first
  bool ended = false;
  std::string text;  // so far, to go on with another machine
  Bits allowed;

  // What the token adds to the text; nothing if it is no token of text.
  [[nodiscard]] std::optional<std::string> text_of(Token token) const {
    std::string added = text_of_token(masks->tokenizer(), token, false);
    if (added.empty() || added.size() > TokenTrie::kBytesMax) return std::nullopt;
    if (first) added = text_of_token(masks->tokenizer(), token, true);
    return added;
  }
  // Needs the machine's lock.
  [[nodiscard]] MachineState after(std::string_view added) const {
    MachineState state = at;
    for (const char c : added) state = machine->machine.next(state, static_cast<uint8_t>(c));
    return state;
  }
  // A machine that grew too large is left to those that still use it.
  void leave_full_machine() {
    {
      const std::scoped_lock lock(machine->mutex);
      if (!machine->full()) return;
    }
    machine = masks->cache_->take(machine->grammar, *masks->vocabulary_);
    const std::scoped_lock lock(machine->mutex);
    at = machine->machine.start();
    for (const char c : text) at = machine->machine.next(at, static_cast<uint8_t>(c));
  }
};

Constraint::Constraint(std::shared_ptr<const Grammar> grammar, TokenMasks& masks) {
  auto machine = masks.cache_->take(grammar, *masks.vocabulary_);
  const MachineState start = machine->machine.start();
  state_.reset(new State{&masks, std::move(machine), start, masks.vocabulary_->first_differs, false, {}, {}});
}
Constraint::~Constraint() = default;
Constraint::Constraint(const Constraint& other) : state_(std::make_unique<State>(*other.state_)) {}
Constraint& Constraint::operator=(const Constraint& other) {
  if (this != &other) *state_ = *other.state_;
  return *this;
}

std::span<const uint64_t> Constraint::allowed() {
  State& state = *state_;
  state.leave_full_machine();
  const std::scoped_lock lock(state.machine->mutex);
  state.allowed.assign(state.masks->vocabulary_->n_words, 0);
  if (state.ended) return state.allowed;
  const Mask& mask = state.machine->mask(state.at, state.first);
  if (!mask.bits.empty()) state.allowed = mask.bits;
  for (const Token token : mask.tokens) set_bit(state.allowed, token);
  return state.allowed;
}

bool Constraint::accepts(Token token) {
  State& state = *state_;
  const Tokenizer& tokenizer = state.masks->tokenizer();
  if (state.ended || token < 0 || token >= tokenizer.n_vocab()) return false;
  if (tokenizer.ends_generation(token)) return complete();
  const std::optional<std::string> text = state.text_of(token);
  const std::scoped_lock lock(state.machine->mutex);
  return text && state.after(*text) != GrammarMachine::kDead;
}

bool Constraint::accept(Token token) {
  State& state = *state_;
  if (!accepts(token)) return false;
  if (state.masks->tokenizer().ends_generation(token)) return state.ended = true;
  const std::string text = state.text_of(token).value_or("");
  const std::scoped_lock lock(state.machine->mutex);
  state.at = state.after(text);
  state.text += text;
  state.first = false;
  return true;
}

bool Constraint::complete() const {
  const std::scoped_lock lock(state_->machine->mutex);
  return state_->machine->machine.complete(state_->at);
}

}  // namespace hearth
