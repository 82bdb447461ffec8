#include "engine/schedule.h"

#include <algorithm>

namespace hearth {

std::vector<Share> compose_step(std::span<const Runnable> runnables, int rows_max, int prefill_max, size_t first) {
  std::vector<Share> shares;
  int left = rows_max;
  const size_t n = runnables.size();
  for (size_t i = 0; i < n && left > 0; ++i) {
    const size_t index = (first + i) % n;
    if (runnables[index].prefill || runnables[index].waiting == 0) continue;
    shares.push_back({static_cast<int>(index), 1});
    --left;
  }
  for (size_t i = 0; i < n && left > 0; ++i) {
    if (!runnables[i].prefill || runnables[i].waiting == 0) continue;
    shares.push_back({static_cast<int>(i), std::min({runnables[i].waiting, left, prefill_max})});
    break;
  }
  return shares;
}

}  // namespace hearth
