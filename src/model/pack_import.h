// Making a pack of a model's files: planned first, so that its size is known before a byte is written.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/pack.h"

namespace hearth {

class PackPlan {
 public:
  // Everything is checked as Decoder::load checks it; no weight is read yet. The checkpoint outlives the plan.
  static Result<PackPlan> create(const Checkpoint& checkpoint, Backend& backend, const Digest& source);

  [[nodiscard]] uint64_t file_bytes() const { return header_.file_bytes; }
  // Writes the whole file, in pieces and on several threads, and lets go of the pages of the checkpoint that were read. Memory:
  // some MiB per thread. `progress` is called on the calling thread; false cancels. `path` is for messages.
  Result<void> write(int fd, const std::filesystem::path& path, int n_threads,
                     const std::function<bool(uint64_t done_bytes)>& progress);

 private:
  // A slice of a matrix, a vector, or a text file, in a segment.
  struct Piece {
    uint64_t offset = 0, bytes = 0;
    const PlannedTensor* tensor = nullptr;  // null: text
    size_t index = 0;                       // slice, or text file
  };
  class SegmentWriter;

  void add(SegmentKind kind, int layer, int expert, PackPlace& place, Piece piece);
  void place_segments(uint64_t first_offset);
  Result<void> write_piece(const Piece& piece, uint64_t segment_offset, SegmentWriter& writer) const;

  PackHeader header_;
  PackManifest manifest_;
  std::vector<PlannedTensor> tensors_;
  std::vector<std::string> text_;
  std::vector<std::vector<Piece>> pieces_;  // of each segment, by offset
};

// The names of the small files that are a model's text side, of a folder as Hugging Face lays it out.
std::span<const std::string_view> hf_text_files();

}  // namespace hearth
