// A clear end instead of a crash when a mapped file is cut short, or can no longer be read, by someone else's doing.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace hearth {

// From now on SIGBUS on an address inside a MappedFile names the file on stderr and ends the process with the exit code of
// Code::kIo; any other SIGBUS does what it did. For programs: it takes the process's handler, so the library leaves it to
// its caller (who may map and handle SIGBUS himself). Call once, early.
void guard_mapped_files();

// What MappedFile tells the guard. Any thread. Beyond 1,024 mappings at once further ones are not known to it.
void note_mapping(std::span<const std::byte> bytes, const std::string& path);
void forget_mapping(const std::byte* data);

}  // namespace hearth
