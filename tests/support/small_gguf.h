// A small valid GGUF file for tests that need a file, not a model.
#pragma once

#include <cstddef>
#include <string>

namespace hearth::test {

// Its one tensor has `floats` elements of noise; `name` is in its metadata, so different names give different files.
std::string small_gguf(const std::string& name, size_t floats = 8);

}  // namespace hearth::test
