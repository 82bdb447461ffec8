// Mixtures larger than memory: experts are read when rows were routed to them, and those used most stay (expert_slots.h).
//
// Nothing is guessed: what a layer's rows need is known before the first of it is computed, those that are in memory are computed
// first while the others arrive, and each is read at most once for a layer's rows, however many they are.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/process_memory.h"
#include "model/expert_slots.h"
#include "model/piece_reader.h"

namespace hearth {

// A slice of a matrix in the file, with the weight that reads it once there is one.
struct FileSlice {
  uint64_t begin = 0, end = 0;
  Weight* weight = nullptr;
  int slice = 0;
};

// What is read of slices in one go: whole pages, together where they lie side by side.
struct FileRun {
  uint64_t begin = 0, end = 0;
  size_t n_slices = 0;  // the next so many
};
std::vector<FileRun> runs_of(std::span<const FileSlice> slices);
uint64_t bytes_of(std::span<const FileRun> runs);

// An expert of a layer: its slices of gate, up and down, by their place in the file.
struct FileExpert {
  std::vector<FileSlice> slices;
  std::vector<FileRun> runs;
};

class ExpertCache final : public ExpertSource {
 public:
  // `file`: mapped; there are experts that were not read. `layers`: the experts of each, none where there is no mixture. Reader and
  // file outlive this.
  ExpertCache(PieceReader& reader, std::span<const std::byte> file, std::vector<std::vector<FileExpert>> layers,
              uint64_t slot_bytes);

  // Memory for so many experts; what is in slots that go is given back to the kernel, before more is taken. Between steps.
  Result<void> resize(uint64_t n_slots);
  // The weight that reads one of the slices from now on.
  void attach(size_t layer, size_t expert, uint64_t begin, Weight& weight, int slice);
  void detach();

  void request(int layer, int rows, std::span<const int> rows_of) override;
  std::span<const int> ready() override;

  // Any thread.
  [[nodiscard]] uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t misses() const { return misses_.load(std::memory_order_relaxed); }

 private:
  void read_more();
  [[nodiscard]] std::byte* at(size_t slot) const;

  PieceReader& reader_;
  std::span<const std::byte> file_;
  std::vector<std::vector<FileExpert>> layers_;
  std::vector<size_t> first_;  // of each layer, among all experts
  uint64_t slot_bytes_;
  size_t per_chunk_;  // slots whose memory comes and goes together
  ExpertSlots slots_;
  std::vector<PageMemory> chunks_;
  std::vector<PieceReader::Load> loads_;  // of each slot

  size_t layer_ = 0;
  std::vector<int> present_, missing_, reading_, given_;  // of the layer's experts that are needed
  size_t next_missing_ = 0;
  std::atomic<uint64_t> hits_{0}, misses_{0};
};

}  // namespace hearth
