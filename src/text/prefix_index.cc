#include "text/prefix_index.h"

#include <algorithm>

namespace hearth {

void PrefixIndex::build(const std::vector<std::string>& texts, std::vector<Token> ids) {
  texts_ = &texts;
  sorted_ = std::move(ids);
  std::erase_if(sorted_, [&](Token id) { return text_of(id).empty(); });
  std::sort(sorted_.begin(), sorted_.end(), [&](Token a, Token b) {
    const int order = text_of(a).compare(text_of(b));
    return order < 0 || (order == 0 && a < b);
  });
  const auto same = [&](Token a, Token b) { return text_of(a) == text_of(b); };
  sorted_.erase(std::unique(sorted_.begin(), sorted_.end(), same), sorted_.end());
  for (const Token id : sorted_) ++first_byte_[static_cast<uint8_t>(text_of(id)[0]) + 1u];
  for (size_t i = 1; i < first_byte_.size(); ++i) first_byte_[i] += first_byte_[i - 1];
}

PrefixIndex::Range PrefixIndex::narrow(Range range, size_t depth, uint8_t byte) const {
  const auto byte_at = [&](Token token) { return static_cast<uint8_t>(text_of(token)[depth]); };
  const auto begin = sorted_.begin() + range.begin;
  const auto end = sorted_.begin() + range.end;
  const auto low = std::partition_point(begin, end, [&](Token token) { return byte_at(token) < byte; });
  const auto high = std::partition_point(low, end, [&](Token token) { return byte_at(token) <= byte; });
  return {static_cast<uint32_t>(low - sorted_.begin()), static_cast<uint32_t>(high - sorted_.begin())};
}

}  // namespace hearth
