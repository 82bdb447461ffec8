#include "model/weight_stream.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "base/check.h"
#include "model/decoder.h"
#include "model/pack.h"

namespace hearth {
namespace {

constexpr uint64_t kPage = DirectFile::kAlignment;
constexpr uint64_t kPieceBytes = 1 << 20;  // of one read
constexpr int kReaders = 8;                // reads under way at once
constexpr int kShares = 64;                // sizes of slots that are tried
constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr double kGoldenRatio = 0.6180339887498949;

uint64_t down(uint64_t bytes) { return bytes / kPage * kPage; }
uint64_t up(uint64_t bytes) { return down(bytes + kPage - 1); }

uint64_t sum(const std::vector<uint64_t>& bytes) { return std::accumulate(bytes.begin(), bytes.end(), uint64_t{0}); }

// Of a layer's matrices those that together are at most so large, large ones first.
std::vector<bool> some(const std::vector<uint64_t>& matrices, uint64_t bytes_max) {
  std::vector<size_t> order(matrices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return matrices[i]; });
  std::vector<bool> chosen(matrices.size());
  for (const size_t i : order)
    if (matrices[i] <= bytes_max) chosen[i] = true, bytes_max -= matrices[i];
  return chosen;
}

uint64_t bytes_of(const std::vector<uint64_t>& matrices, const std::vector<bool>& chosen) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < matrices.size(); ++i) bytes += chosen[i] ? matrices[i] : 0;
  return bytes;
}

// With slots of so many bytes as much as goes is streamed.
StreamPlan with_slots(std::span<const std::vector<uint64_t>> layers, uint64_t total, uint64_t slot_bytes) {
  StreamPlan plan;
  for (const auto& matrices : layers) {
    plan.streamed.push_back(some(matrices, slot_bytes));
    const uint64_t bytes = bytes_of(matrices, plan.streamed.back());
    plan.slot_bytes = std::max(plan.slot_bytes, bytes);
    plan.read_bytes += bytes;
  }
  plan.resident_bytes = total - plan.read_bytes + kStreamSlots * plan.slot_bytes;
  return plan;
}

[[noreturn]] void end_program(const Error& error) {
  fmt::print(stderr, "hearth: weights can no longer be read: {}\n", error.message);
  std::_Exit(info(Code::kIo).exit_code);
}

// Of an embedding that is not the head, too, a step reads some rows: their pages come and go as the kernel sees fit.
bool stays_mapped(const Checkpoint& checkpoint, std::string_view name) {
  return name == kEmbedding && (checkpoint.find_tensor("output.weight") || checkpoint.find_tensor("lm_head.weight"));
}

// The matrices of a pack, with those of layers apart.
struct Matrix {
  int layer = -1;
  std::vector<std::span<const std::byte>> slices;
  // In memory, where every slice begins with the page in which it begins in the file.
  uint64_t bytes = 0;
};
std::vector<Matrix> matrices_of(const Checkpoint& pack) {
  const std::byte* file = pack.files().front().bytes().data();
  std::vector<Matrix> all;
  for (const TensorRef& tensor : pack.tensors()) {
    if (tensor.panels.empty() || stays_mapped(pack, tensor.name)) continue;  // the decoder copies vectors
    all.push_back({.layer = layer_of(tensor.name), .slices = tensor.panels});
    for (const auto slice : tensor.panels) {
      const auto begin = static_cast<uint64_t>(slice.data() - file);
      all.back().bytes += up(begin + slice.size()) - down(begin);
    }
  }
  return all;
}

Result<StreamPlan> plan_of(std::span<const Matrix> matrices, uint64_t bytes_max) {
  std::vector<std::vector<uint64_t>> layers;
  uint64_t others = 0;
  for (const Matrix& matrix : matrices) {
    if (matrix.layer < 0) {
      others += matrix.bytes;
      continue;
    }
    layers.resize(std::max(layers.size(), static_cast<size_t>(matrix.layer) + 1));
    layers[static_cast<size_t>(matrix.layer)].push_back(matrix.bytes);
  }
  return plan_stream(layers, others, bytes_max);
}

}  // namespace

Result<StreamPlan> plan_stream(std::span<const std::vector<uint64_t>> layers, uint64_t others, uint64_t bytes_max) {
  uint64_t total = others, largest = 0;
  for (const auto& matrices : layers) total += sum(matrices), largest = std::max(largest, sum(matrices));
  StreamPlan plan = with_slots(layers, total, 0);
  for (int share = 1; plan.resident_bytes > bytes_max && share <= kShares; ++share)
    plan = with_slots(layers, total, largest * static_cast<uint64_t>(share) / kShares);
  if (plan.resident_bytes > bytes_max)
    return fail(Code::kLimit,
                "{} bytes for the weights are too few: the least is {}, two layers and what every token needs",
                bytes_max, plan.resident_bytes);
  // What is left over keeps some more matrices, of layers that are evenly spread.
  std::vector<size_t> order(layers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [](size_t i) { return std::fmod(static_cast<double>(i) * kGoldenRatio, 1.0); });
  for (const size_t i : order)
    for (size_t m = 0; m < layers[i].size(); ++m)
      if (plan.streamed[i][m] && plan.resident_bytes + layers[i][m] <= bytes_max) {
        plan.streamed[i][m] = false;
        plan.resident_bytes += layers[i][m], plan.read_bytes -= layers[i][m];
      }
  return plan;
}

Result<StreamPlan> WeightStream::plan(const Checkpoint& checkpoint, Backend& backend, uint64_t bytes_max) {
  if (checkpoint.packed()) return plan_of(matrices_of(checkpoint), bytes_max);
  std::vector<Matrix> matrices;
  for (const PlannedTensor& tensor : TRY(Decoder::plan(checkpoint, backend)))
    if (const WeightSource& source = tensor.matrix; !source.data.empty() && !stays_mapped(checkpoint, tensor.name))
      matrices.push_back({.layer = layer_of(tensor.name),
                          .slices = {},
                          .bytes = static_cast<uint64_t>(backend.weight_bytes(source)) + kPage * source.data.size()});
  return plan_of(matrices, bytes_max);
}

Result<std::unique_ptr<WeightStream>> WeightStream::create(const Checkpoint& pack, Backend& backend,
                                                           uint64_t bytes_max) {
  CHECK(pack.packed() && pack.files().size() == 1);
  std::unique_ptr<WeightStream> stream(new WeightStream(pack));
  stream->plan_ = TRY(plan(pack, backend, bytes_max));
  stream->file_ = TRY(DirectFile::open(pack.files().front().path()));
  TRY(stream->lay_out());
  for (int i = 0; i < kReaders; ++i) stream->readers_.emplace_back([raw = stream.get()] { raw->work(); });
  const std::lock_guard lock(stream->mutex_);
  for (size_t i = 0; i < std::min<size_t>(kStreamSlots, stream->streamed_.size()); ++i)
    stream->request(stream->streamed_[i]);
  return stream;
}

WeightStream::~WeightStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  readers_.clear();
}

// Gives every part its place and reads those that stay.
Result<void> WeightStream::lay_out() {
  const std::byte* file = pack_.files().front().bytes().data();
  memory_ = TRY(PageMemory::allocate_huge(static_cast<int64_t>(plan_.resident_bytes)));
  layers_.resize(plan_.streamed.size());
  for (size_t i = 0; i < layers_.size(); ++i)
    if (std::ranges::find(plan_.streamed[i], true) != plan_.streamed[i].end()) streamed_.push_back(i);
  std::vector<uint64_t> used(layers_.size());  // of each layer's slot
  std::vector<size_t> seen(layers_.size());
  std::byte* next = memory_.data() + kStreamSlots * plan_.slot_bytes;
  for (const Matrix& matrix : matrices_of(pack_)) {
    const auto layer = static_cast<size_t>(matrix.layer);
    const bool streams = matrix.layer >= 0 && plan_.streamed[layer][seen[layer]++];
    for (const auto slice : matrix.slices) {
      const auto begin = static_cast<uint64_t>(slice.data() - file), end = begin + slice.size();
      Part part{.begin = begin, .end = end};
      if (streams) {
        const auto turn = static_cast<uint64_t>(std::ranges::lower_bound(streamed_, layer) - streamed_.begin());
        part.at = memory_.data() + turn % kStreamSlots * plan_.slot_bytes + used[layer];
        used[layer] += up(end) - down(begin);
        layers_[layer].parts.push_back(parts_.size());
      } else {
        part.at = next;
        next += up(end) - down(begin);
        for (const Piece& piece : pieces(part, layer)) TRY(file_.read(piece.offset, {piece.at, piece.bytes}));
      }
      parts_.push_back(part);
    }
  }
  CHECK(next <= memory_.data() + memory_.bytes());
  return {};
}

std::span<const std::byte> WeightStream::place(std::span<const std::byte> mapped) const {
  const auto begin = static_cast<uint64_t>(mapped.data() - pack_.files().front().bytes().data());
  const auto part = std::ranges::find(parts_, begin, &Part::begin);
  if (part == parts_.end()) return mapped;
  CHECK(part->end == begin + mapped.size());
  return {part->at + (begin - down(begin)), mapped.size()};
}

std::vector<WeightStream::Piece> WeightStream::pieces(const Part& part, size_t layer) {
  std::vector<Piece> all;
  const uint64_t first = down(part.begin), end = up(part.end);
  for (uint64_t offset = first; offset < end; offset += kPieceBytes)
    all.push_back({offset, std::min(kPieceBytes, end - offset), part.at + (offset - first), layer});
  return all;
}

// The lock is held.
void WeightStream::request(size_t index) {
  Layer& layer = layers_[index];
  CHECK(!layer.wanted);
  layer.wanted = true;
  for (const size_t part : layer.parts)
    for (const Piece& piece : pieces(parts_[part], index)) wanted_.push_back(piece), ++layer.missing;
  wake_.notify_all();
}

void WeightStream::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || !wanted_.empty(); });
    if (stop_) return;
    const Piece piece = wanted_.front();
    wanted_.pop_front();
    lock.unlock();
    if (const auto done = file_.read(piece.offset, {piece.at, piece.bytes}); !done) end_program(done.error());
    lock.lock();
    if (--layers_[piece.layer].missing == 0) arrived_.notify_all();
  }
}

void WeightStream::acquire(int index) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  if (layer.parts.empty()) return;
  std::unique_lock lock(mutex_);
  CHECK(layer.wanted);
  arrived_.wait(lock, [&] { return layer.missing == 0; });
}

void WeightStream::release(int index) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  if (layer.parts.empty()) return;
  const std::lock_guard lock(mutex_);
  layer.wanted = false;
  const auto turn =
      static_cast<size_t>(std::ranges::lower_bound(streamed_, static_cast<size_t>(index)) - streamed_.begin());
  // The next that uses this slot; after the last of them the first again.
  request(streamed_[turn + kStreamSlots < streamed_.size() ? turn + kStreamSlots : turn % kStreamSlots]);
}

}  // namespace hearth
