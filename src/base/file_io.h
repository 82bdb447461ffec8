// Writing to disk so that errors say what to do, and renames that survive a power cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/result.h"

namespace hearth {

// The error of a failed system call (errno) on a path. A full disk is told apart: how much is free and what to do.
[[nodiscard]] std::unexpected<Error> disk_error(const std::filesystem::path& path, const char* action);

// Writes all bytes at an offset; `path` is for the message.
Result<void> write_at(int fd, uint64_t offset, std::span<const std::byte> bytes, const std::filesystem::path& path);

// Reads up to the size of `into` from an offset; fewer bytes only at the end of the file.
Result<size_t> read_at(int fd, uint64_t offset, std::span<std::byte> into, const std::filesystem::path& path);

// Flushes a file or a folder (so that names made or renamed in it are on disk).
Result<void> flush(const std::filesystem::path& path);

// Bytes this user may still write on the file system that holds `path` (which must exist).
Result<uint64_t> free_disk_bytes(const std::filesystem::path& path);

}  // namespace hearth
