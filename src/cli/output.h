// How commands write figures and tables on stdout.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::cli {

// "98.4 MB": decimal units, as disks and downloads are sold.
std::string human_bytes(uint64_t bytes);
// "1.5 GiB": binary units, for memory.
std::string human_memory(uint64_t bytes);

// "10G" is 10^10 bytes, as disks are sold; "10GiB" is 10 times 2^30. `option` is for the message.
Result<uint64_t> parse_size(std::string_view option, std::string_view text);

// Columns as wide as their widest cell, two spaces between; the first row is the header. Each row has the same number
// of cells.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace hearth::cli
