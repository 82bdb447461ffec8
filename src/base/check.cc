#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace hearth::detail {
void check_failed(std::string_view condition, const char* file, int line) {
  std::fprintf(stderr, "hearth: internal error at %s:%d: %.*s does not hold; please report this\n", file, line,
               static_cast<int>(condition.size()), condition.data());
  std::abort();
}
}  // namespace hearth::detail
