#include "model/expert_cache.h"

#include <algorithm>

#include "base/check.h"

namespace hearth {
namespace {

constexpr uint64_t kPage = PieceReader::kPage;
// Of a chunk at least: large pages are what direct reads and kernels like, and only whole ones go back to the kernel at once.
constexpr uint64_t kChunkBytes = 8 << 20;

size_t total(const std::vector<std::vector<FileExpert>>& layers) {
  size_t n = 0;
  for (const auto& experts : layers) n += experts.size();
  return n;
}

// Where it was read to.
void place(const FileExpert& expert, std::byte* at) {
  const FileSlice* slice = expert.slices.data();
  for (const FileRun& run : expert.runs) {
    for (size_t i = 0; i < run.n_slices; ++i, ++slice)
      if (slice->weight)
        slice->weight->place(slice->slice, {at + (slice->begin - run.begin), slice->end - slice->begin});
    at += run.end - run.begin;
  }
}

}  // namespace

std::vector<FileRun> runs_of(std::span<const FileSlice> slices) {
  std::vector<FileRun> runs;
  for (const FileSlice& slice : slices) {
    const uint64_t begin = slice.begin / kPage * kPage, end = (slice.end + kPage - 1) / kPage * kPage;
    if (runs.empty() || begin < runs.back().begin || begin > runs.back().end)
      runs.push_back({.begin = begin, .end = end, .n_slices = 1});
    else
      runs.back().end = std::max(runs.back().end, end), ++runs.back().n_slices;
  }
  return runs;
}

uint64_t bytes_of(std::span<const FileRun> runs) {
  uint64_t bytes = 0;
  for (const FileRun& run : runs) bytes += run.end - run.begin;
  return bytes;
}

ExpertCache::ExpertCache(PieceReader& reader, std::span<const std::byte> file,
                         std::vector<std::vector<FileExpert>> layers, uint64_t slot_bytes)
    : reader_(reader),
      file_(file),
      layers_(std::move(layers)),
      slot_bytes_(slot_bytes),
      per_chunk_(static_cast<size_t>(std::max<uint64_t>(1, kChunkBytes / slot_bytes))),
      slots_(total(layers_)) {
  size_t most = 0, n = 0;
  for (const auto& experts : layers_) {
    first_.push_back(n);
    n += experts.size();
    most = std::max(most, experts.size());
  }
  for (auto* list : {&present_, &missing_, &reading_, &given_}) list->reserve(most);
}

Result<void> ExpertCache::resize(uint64_t n_slots) {
  CHECK(reading_.empty() && next_missing_ == missing_.size());
  const auto n = static_cast<size_t>(n_slots);
  // Chunks that are full both before and afterwards stay.
  const size_t kept = std::min(n, slots_.size()) / per_chunk_;
  slots_.resize(kept * per_chunk_);
  chunks_.resize(kept);
  for (size_t first = kept * per_chunk_; first < n; first += per_chunk_)
    chunks_.push_back(
        TRY(PageMemory::allocate_huge(static_cast<int64_t>(std::min(per_chunk_, n - first) * slot_bytes_))));
  slots_.resize(n);
  loads_.assign(n, {});
  for (const auto& layer : layers_)
    for (const FileExpert& expert : layer)
      for (const FileSlice& each : expert.slices)
        if (each.weight) each.weight->place(each.slice, file_.subspan(each.begin, each.end - each.begin));
  return {};
}

void ExpertCache::attach(size_t layer, size_t expert, uint64_t begin, Weight& weight, int slice) {
  auto& slices = layers_[layer][expert].slices;
  const auto found = std::ranges::find(slices, begin, &FileSlice::begin);
  CHECK(found != slices.end());
  found->weight = &weight;
  found->slice = slice;
}

void ExpertCache::detach() {
  for (auto& layer : layers_)
    for (FileExpert& expert : layer)
      for (FileSlice& each : expert.slices) each.weight = nullptr;
}

std::byte* ExpertCache::at(size_t slot) const {
  return chunks_[slot / per_chunk_].data() + slot % per_chunk_ * slot_bytes_;
}

void ExpertCache::request(int layer, int rows, std::span<const int> rows_of) {
  CHECK(reading_.empty() && next_missing_ == missing_.size());
  layer_ = static_cast<size_t>(layer);
  CHECK(rows_of.size() == layers_[layer_].size());
  slots_.pass(static_cast<double>(rows) / static_cast<double>(layers_.size()));
  present_.clear(), missing_.clear();
  next_missing_ = 0;
  for (size_t i = 0; i < rows_of.size(); ++i) {
    if (rows_of[i] == 0) continue;
    const size_t expert = first_[layer_] + i;
    slots_.use(expert, rows_of[i]);
    const auto slot = slots_.find(expert);
    (slot ? present_ : missing_).push_back(static_cast<int>(i));
    if (slot) slots_.hold(*slot);
  }
  hits_.fetch_add(present_.size(), std::memory_order_relaxed);
  misses_.fetch_add(missing_.size(), std::memory_order_relaxed);
  read_more();
}

// As many of the missing as there are slots for.
void ExpertCache::read_more() {
  for (; next_missing_ < missing_.size(); ++next_missing_) {
    const int index = missing_[next_missing_];
    const auto slot = slots_.take(first_[layer_] + static_cast<size_t>(index));
    if (!slot) return;
    std::byte* to = at(*slot);
    for (const FileRun& run : layers_[layer_][static_cast<size_t>(index)].runs) {
      reader_.request(loads_[*slot], run.begin, {to, run.end - run.begin}, PieceReader::Turn::kNow);
      to += run.end - run.begin;
    }
    reading_.push_back(index);
  }
}

std::span<const int> ExpertCache::ready() {
  auto slot_of = [&](int index) { return *slots_.find(first_[layer_] + static_cast<size_t>(index)); };
  for (const int index : given_) slots_.let_go(slot_of(index));
  given_.clear();
  given_.swap(present_);
  if (given_.empty()) {
    read_more();
    if (reading_.empty()) return {};
    reader_.wait([&] {
      std::erase_if(reading_, [&](int index) {
        const bool there = loads_[slot_of(index)].missing == 0;
        if (there) given_.push_back(index);
        return there;
      });
      return !given_.empty();
    });
  }
  for (const int index : given_) place(layers_[layer_][static_cast<size_t>(index)], at(slot_of(index)));
  return given_;
}

}  // namespace hearth
