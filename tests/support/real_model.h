// The tiny real model that `./dev test` fetches, for tests on a file as it is found in the world.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace hearth::test {

// $HEARTH_TEST_MODEL, or the tiny model of the store; empty if it was not fetched.
inline std::optional<std::filesystem::path> real_model() {
  namespace fs = std::filesystem;
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value == nullptr ? "" : value);
  };
  fs::path path = environment("HEARTH_TEST_MODEL");
  if (path.empty()) {
    fs::path home = environment("HEARTH_HOME");
    if (home.empty() && !environment("XDG_DATA_HOME").empty()) home = environment("XDG_DATA_HOME") / "hearth";
    if (home.empty()) home = environment("HOME") / ".local" / "share" / "hearth";
    path = home / "models" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  }
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  return path;
}

}  // namespace hearth::test
