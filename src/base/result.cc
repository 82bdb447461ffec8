#include "base/result.h"

#include <array>

namespace hearth {
namespace {
constexpr std::array kErrorTable{
    CodeInfo{Code::kInvalidArgument, "invalid_argument", 2, 400},
    CodeInfo{Code::kMalformed, "malformed", 65, 400},
    CodeInfo{Code::kUnsupported, "unsupported", 69, 501},
    CodeInfo{Code::kNotFound, "not_found", 66, 404},
    CodeInfo{Code::kLimit, "limit", 75, 413},
    CodeInfo{Code::kIo, "io", 74, 500},
    CodeInfo{Code::kCorrupt, "corrupt", 65, 500},
    CodeInfo{Code::kBusy, "busy", 75, 429},
    CodeInfo{Code::kCancelled, "cancelled", 130, 499},
    CodeInfo{Code::kInternal, "internal", 70, 500},
};
}  // namespace

const CodeInfo& info(Code code) { return kErrorTable[static_cast<size_t>(code)]; }

std::unexpected<Error> within(std::string_view where, Error error) {
  error.message = fmt::format("{}: {}", where, error.message);
  return std::unexpected(std::move(error));
}

}  // namespace hearth
