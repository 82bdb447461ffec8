// How commands write figures and tables on stdout.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hearth::cli {

// "98.4 MB": decimal units, as disks and downloads are sold.
std::string human_bytes(uint64_t bytes);
// "1.5 GiB": binary units, for memory.
std::string human_memory(uint64_t bytes);

// Columns as wide as their widest cell, two spaces between; the first row is the header. Each row has the same number
// of cells.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace hearth::cli
