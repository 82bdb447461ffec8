// The files of web/, which the build puts into the program (cmake/embed_files.cmake).
#pragma once

#include <span>
#include <string_view>

namespace hearth::serve {

struct PageFile {
  std::string_view name, content_type, tag;  // the tag is an ETag: quoted, of the content
  std::span<const unsigned char> bytes;
};

std::span<const PageFile> page_files();

}  // namespace hearth::serve
