// Forms with files, as browsers and clients send them (RFC 7578).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::serve {

struct FormPart {
  std::string_view name, file_name, content;  // views into the body
};

// `content_type`: the header, with its boundary. kMalformed says what is missing; kLimit over limits::kFormParts.
Result<std::vector<FormPart>> read_form(std::string_view content_type, std::string_view body);

}  // namespace hearth::serve
