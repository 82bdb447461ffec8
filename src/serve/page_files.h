// The files of web/, which the build puts into the program (cmake/embed_files.cmake).
#pragma once

#include <span>

#include "base/embedded_file.h"

namespace hearth::serve {

std::span<const EmbeddedFile> page_files();

}  // namespace hearth::serve
