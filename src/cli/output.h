// How commands write figures and tables on stdout.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_size.h"

namespace hearth::cli {

// Columns as wide as their widest cell, two spaces between; the first row is the header. Each row has the same number
// of cells.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace hearth::cli
