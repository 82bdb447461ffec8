// Numbers of bytes as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth {

// "98.4 MB": decimal units, as disks and downloads are sold.
std::string human_bytes(uint64_t bytes);
// "1.5 GiB": binary units, for memory.
std::string human_memory(uint64_t bytes);

// "10G" is 10^10 bytes, as disks are sold; "10GiB" is 10 times 2^30. `name`, of an option or field, is for the message.
Result<uint64_t> parse_size(std::string_view name, std::string_view text);

}  // namespace hearth
