#include "text/special_tokens.h"

#include <algorithm>

namespace hearth {

void SpecialTokens::build(const std::vector<std::string>& texts, const std::vector<Token>& ids) {
  struct Origin {
    int32_t parent;
    uint32_t depth;
    uint8_t byte;
  };
  size_t n_bytes = 0;
  for (const Token id : ids) n_bytes += texts[static_cast<size_t>(id)].size();
  texts_ = &texts;
  children_.reserve(n_bytes);
  nodes_.assign(1, {});
  std::vector<Origin> origins{{0, 0, 0}};
  for (const Token id : ids) {
    const std::string& text = texts[static_cast<size_t>(id)];
    int32_t node = 0;
    for (size_t i = text.size(); i-- > 0;) {
      const auto byte = static_cast<uint8_t>(text[i]);
      int32_t child = children_.find(static_cast<uint32_t>(node), byte).value;
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        children_.insert(static_cast<uint32_t>(node), byte, {0, child});
        nodes_.emplace_back();
        origins.push_back({node, static_cast<uint32_t>(text.size() - i), byte});
      }
      node = child;
    }
    if (node != 0 && nodes_[static_cast<size_t>(node)].longest == kNoToken)
      nodes_[static_cast<size_t>(node)].longest = id;
  }
  root_.assign(256, 0);
  for (uint32_t byte = 0; byte < 256; ++byte) root_[byte] = std::max(0, children_.find(0, byte).value);

  // Failure links, shallow nodes first.
  std::vector<int32_t> order(nodes_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return origins[static_cast<size_t>(a)].depth < origins[static_cast<size_t>(b)].depth;
  });
  for (const int32_t i : order) {
    const Origin& origin = origins[static_cast<size_t>(i)];
    Node& node = nodes_[static_cast<size_t>(i)];
    if (origin.depth > 1) node.failure = step(nodes_[static_cast<size_t>(origin.parent)].failure, origin.byte);
    if (node.longest == kNoToken) node.longest = nodes_[static_cast<size_t>(node.failure)].longest;
  }
}

int32_t SpecialTokens::step(int32_t node, uint8_t byte) const {
  while (node != 0) {
    const int32_t child = children_.find(static_cast<uint32_t>(node), byte).value;
    if (child >= 0) return child;
    node = nodes_[static_cast<size_t>(node)].failure;
  }
  return root_[byte];
}

std::vector<SpecialTokens::Match> SpecialTokens::find_all(std::string_view text) const {
  std::vector<Match> found;
  if (nodes_.size() <= 1) return found;
  int32_t node = 0;
  for (size_t i = text.size(); i-- > 0;) {
    node = step(node, static_cast<uint8_t>(text[i]));
    const Token token = nodes_[static_cast<size_t>(node)].longest;
    if (token != kNoToken) found.push_back({i, token});
  }
  std::reverse(found.begin(), found.end());
  size_t free_from = 0;
  size_t n_kept = 0;
  for (const Match& match : found) {
    if (match.begin < free_from) continue;
    free_from = match.begin + (*texts_)[static_cast<size_t>(match.token)].size();
    found[n_kept++] = match;
  }
  found.resize(n_kept);
  return found;
}

}  // namespace hearth
