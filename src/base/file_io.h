// Writing to disk so that errors say what to do, and renames that survive a power cut.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/result.h"

namespace hearth {

// The error of a failed system call (errno) on a path. A full disk is told apart: how much is free and what to do.
[[nodiscard]] std::unexpected<Error> disk_error(const std::filesystem::path& path, const char* action);

// Writes all bytes at an offset; `path` is for the message.
Result<void> write_at(int fd, uint64_t offset, std::span<const std::byte> bytes, const std::filesystem::path& path);

// Lets the disk begin with bytes that were written, so that a flush at the end waits for less. A hint; never fails.
void begin_flush(int fd, uint64_t offset, uint64_t bytes);

// Reads up to the size of `into` from an offset; fewer bytes only at the end of the file.
Result<size_t> read_at(int fd, uint64_t offset, std::span<std::byte> into, const std::filesystem::path& path);

// Flushes a file or a folder (so that names made or renamed in it are on disk).
Result<void> flush(const std::filesystem::path& path);

// A moment, or when a file was last written (empty if it is not there), in UTC: 2026-01-31T12:00:00Z.
std::string utc_text(std::chrono::system_clock::time_point time);
std::string written_utc(const std::filesystem::path& path);

// Bytes this user may still write on the file system that holds `path` (which must exist).
Result<uint64_t> free_disk_bytes(const std::filesystem::path& path);

}  // namespace hearth
