// The parts of the report's page (web/report/ and the theme of web/), which the build puts into the program.
#pragma once

#include <span>

#include "base/embedded_file.h"

namespace hearth::compress {

std::span<const EmbeddedFile> report_files();

}  // namespace hearth::compress
