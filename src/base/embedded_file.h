// A file that the build puts into the program (cmake/embed_files.cmake).
#pragma once

#include <span>
#include <string_view>

namespace hearth {

struct EmbeddedFile {
  std::string_view name, content_type, tag;  // the tag is an ETag: quoted, of the content
  std::span<const unsigned char> bytes;
};

}  // namespace hearth
