// Bringing a model into the store: collected in a folder of its own, verified, then moved into place in one step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/descriptor.h"
#include "base/result.h"
#include "store/manifest.h"
#include "store/store.h"

namespace hearth {

// What is known beforehand about a file that comes in.
struct ExpectedFile {
  std::string name;  // check_file_name holds
  std::optional<uint64_t> bytes;
  std::string sha256;  // lower-case hex, or empty
};

// One model on its way in. Holds the lock of its name until it is destroyed: a second process waits in begin().
// Whatever happens, models/ sees the whole model or nothing; an interrupted import leaves its files under partial/ and
// a later one with the same name finds them.
class Import {
 public:
  // Waits for another process that imports the same name; `waiting` is called every 100 ms meanwhile, false gives up
  // (kBusy).
  static Result<Import> begin(const Store& store, std::string name, const std::function<bool()>& waiting);

  // Where the bytes of a file are collected ("<file>.part"); a finished file of an earlier import is moved back to it,
  // so that there is one place to look. The file may be there with any content.
  Result<std::filesystem::path> part(const ExpectedFile& file) const;

  // Takes a complete part: checks size and digest and flushes it to disk. kCorrupt if they differ, and then the part is
  // deleted. `progress` gets bytes hashed; false cancels.
  Result<void> accept(const ExpectedFile& file, const std::function<bool(uint64_t)>& progress);

  // Writes the manifest and moves the model to models/. `source` is for the reader.
  Result<Manifest> commit(std::string source);

 private:
  Import(Store store, std::string name, Descriptor lock);
  [[nodiscard]] Result<void> remove_strangers() const;

  Store store_;
  std::filesystem::path folder_;
  Manifest manifest_;
  Descriptor lock_;
};

enum class CopyMode {
  kCopy,  // shares the blocks with the source where the file system can (reflink), else copies the bytes
  kLink,  // a hard link: no space, but later changes of the source change the model
};

// Copies a local file to a part. `progress` gets bytes done; false cancels.
Result<void> copy_to_part(const std::filesystem::path& from, const std::filesystem::path& part, CopyMode mode,
                          const std::function<bool(uint64_t)>& progress);

}  // namespace hearth
