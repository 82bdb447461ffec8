#include "model/weight_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/limits.h"
#include "model/arch/all.h"
#include "model/decoder.h"
#include "model/pack.h"

namespace hearth {
namespace {

constexpr uint64_t kPage = PieceReader::kPage;
constexpr int kShares = 64;            // sizes of slots that are tried
constexpr uint64_t kLeastExperts = 2;  // one is computed while another one arrives
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

// Of an embedding that is not the head, too, a step reads some rows: their pages come and go as the kernel sees fit.
bool stays_mapped(const Checkpoint& checkpoint, std::string_view name) {
  return name == kEmbedding && (checkpoint.find_tensor("output.weight") || checkpoint.find_tensor("lm_head.weight"));
}

bool is_expert(std::string_view name) { return layer_of(name) >= 0 && name.contains("_exps."); }

Result<void> check_layer(int layer) {
  if (layer < static_cast<int>(limits::kLayers)) return {};
  return fail(Code::kLimit, "a tensor of layer {}; there may be {}", layer, limits::kLayers);
}

// The least that works is what is left when all that can be is streamed, in the largest slots.
StreamPlan plan_layers(const WeightSizes& sizes, uint64_t bytes_max) {
  const auto& layers = sizes.layers;
  uint64_t total = sizes.others, largest = 0;
  for (const auto& matrices : layers) total += sum(matrices), largest = std::max(largest, sum(matrices));
  StreamPlan plan = with_slots(layers, total, 0);
  for (int share = 1; plan.resident_bytes > bytes_max && share <= kShares; ++share)
    plan = with_slots(layers, total, largest * static_cast<uint64_t>(share) / kShares);
  if (plan.resident_bytes > bytes_max) return plan;
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

// Adds the slots of experts: `least`, and what else there is room for.
void add_experts(const ExpertSizes& experts, uint64_t least, uint64_t bytes_max, StreamPlan& plan) {
  const uint64_t room = bytes_max - std::min(bytes_max, plan.resident_bytes);
  plan.expert_slots = std::clamp(room / experts.slot_bytes, least, experts.n);
  plan.expert_slot_bytes = experts.slot_bytes;
  plan.resident_bytes += plan.expert_slots * experts.slot_bytes;
  // As many as are used, of those that are not there; in doubles, since products of sizes from files may be large.
  const double part = 1.0 - static_cast<double>(plan.expert_slots) / static_cast<double>(experts.n);
  plan.read_bytes +=
      static_cast<uint64_t>(std::ceil(part * static_cast<double>(experts.layers * experts.used * experts.slot_bytes)));
}

// What the slices of a pack are of.
struct PackWeights {
  struct Matrix {
    int layer = -1;
    std::vector<FileSlice> slices;
  };
  std::vector<Matrix> matrices;
  std::vector<std::vector<FileExpert>> experts;  // of each layer
};

Result<PackWeights> weights_of(const Checkpoint& pack) {
  const std::byte* file = pack.files().front().bytes().data();
  PackWeights all;
  for (const TensorRef& tensor : pack.tensors()) {
    if (tensor.panels.empty() || stays_mapped(pack, tensor.name)) continue;  // the decoder copies vectors
    std::vector<FileSlice> slices;
    for (const auto slice : tensor.panels) {
      const auto begin = static_cast<uint64_t>(slice.data() - file);
      slices.push_back({.begin = begin, .end = begin + slice.size()});
    }
    const int layer = layer_of(tensor.name);
    TRY(check_layer(layer));
    if (!is_expert(tensor.name)) {
      all.matrices.push_back({.layer = layer, .slices = std::move(slices)});
      continue;
    }
    all.experts.resize(std::max(all.experts.size(), static_cast<size_t>(layer) + 1));
    auto& experts = all.experts[static_cast<size_t>(layer)];
    if (experts.empty()) experts.resize(slices.size());
    if (experts.size() != slices.size())
      return fail(Code::kMalformed, "tensor '{}' is of {} experts, another one of its layer of {}", tensor.name,
                  slices.size(), experts.size());
    for (size_t i = 0; i < slices.size(); ++i) experts[i].slices.push_back(slices[i]);
  }
  for (auto& layer : all.experts)
    for (FileExpert& expert : layer) {
      std::ranges::sort(expert.slices, {}, &FileSlice::begin);
      expert.runs = runs_of(expert.slices);
    }
  return all;
}

uint64_t bytes_of(std::span<const FileSlice> slices) {
  uint64_t bytes = 0;
  for (const FileSlice& slice : slices) bytes += up(slice.end) - down(slice.begin);
  return bytes;
}

void add_matrix(int layer, uint64_t bytes, WeightSizes& sizes) {
  if (layer < 0) {
    sizes.others += bytes;
    return;
  }
  sizes.layers.resize(std::max(sizes.layers.size(), static_cast<size_t>(layer) + 1));
  sizes.layers[static_cast<size_t>(layer)].push_back(bytes);
}

WeightSizes sizes_of(const PackWeights& weights, uint64_t used) {
  WeightSizes sizes;
  for (const auto& matrix : weights.matrices) add_matrix(matrix.layer, bytes_of(matrix.slices), sizes);
  sizes.experts.used = used;
  for (const auto& layer : weights.experts) {
    sizes.experts.layers += layer.empty() ? 0 : 1;
    sizes.experts.n += layer.size();
    for (const FileExpert& expert : layer) {
      sizes.experts.bytes += bytes_of(expert.runs);
      sizes.experts.slot_bytes = std::max(sizes.experts.slot_bytes, bytes_of(expert.runs));
    }
  }
  return sizes;
}

// Of the pack that will be made of a checkpoint, to some pages.
Result<WeightSizes> sizes_to_be(const Checkpoint& checkpoint, Backend& backend, uint64_t used) {
  WeightSizes sizes;
  sizes.experts.used = used;
  std::vector<uint64_t> slots;  // of an expert of each layer
  for (const PlannedTensor& tensor : TRY(Decoder::plan(checkpoint, backend))) {
    const WeightSource& source = tensor.matrix;
    if (source.data.empty() || stays_mapped(checkpoint, tensor.name)) continue;
    const auto bytes = static_cast<uint64_t>(backend.weight_bytes(source)), n = uint64_t{source.data.size()};
    const int layer = layer_of(tensor.name);
    if (!is_expert(tensor.name)) {
      add_matrix(layer, bytes + kPage * n, sizes);
      continue;
    }
    slots.resize(std::max(slots.size(), static_cast<size_t>(layer) + 1));
    uint64_t& slot = slots[static_cast<size_t>(layer)];
    if (slot == 0) sizes.experts.n += n, ++sizes.experts.layers, sizes.experts.bytes += kPage * n;
    slot += (slot == 0 ? kPage : 0) + bytes / n;
    sizes.experts.bytes += bytes;
    sizes.experts.slot_bytes = std::max(sizes.experts.slot_bytes, up(slot));
  }
  return sizes;
}

Result<uint64_t> experts_used(const Checkpoint& checkpoint) {
  const Family* family = TRY(find_family(checkpoint));
  const DecoderConfig config = TRY(family->configure(ModelKeys(checkpoint)));
  return static_cast<uint64_t>(std::max(config.n_experts_used, 0));
}

}  // namespace

Result<StreamPlan> plan_stream(const WeightSizes& sizes, uint64_t bytes_max) {
  const ExpertSizes& experts = sizes.experts;
  StreamPlan plan = plan_layers(sizes, std::numeric_limits<uint64_t>::max());
  plan.expert_slots = experts.n;
  plan.resident_bytes += experts.bytes;
  if (plan.resident_bytes <= bytes_max) return plan;
  // Room for the experts of one row, so that they are read at once; if that is too much, for the least.
  for (const uint64_t wanted : {experts.used, kLeastExperts}) {
    const uint64_t least = std::min(wanted, experts.n), reserved = least * experts.slot_bytes;
    plan = plan_layers(sizes, bytes_max - std::min(bytes_max, reserved));
    if (experts.n > 0) add_experts(experts, least, bytes_max, plan);
    if (plan.resident_bytes <= bytes_max) return plan;
  }
  return fail(Code::kLimit,
              "{} bytes for the weights are too few: the least is {}, two layers{} and what every token needs",
              bytes_max, plan.resident_bytes, experts.n > 0 ? ", two experts" : "");
}

Result<StreamPlan> WeightStream::plan(const Checkpoint& checkpoint, Backend& backend, uint64_t bytes_max) {
  const uint64_t used = TRY(experts_used(checkpoint));
  if (!checkpoint.packed()) return plan_stream(TRY(sizes_to_be(checkpoint, backend, used)), bytes_max);
  const PackWeights weights = TRY(weights_of(checkpoint));
  return plan_stream(sizes_of(weights, used), bytes_max);
}

Result<std::unique_ptr<WeightStream>> WeightStream::create(const Checkpoint& pack, uint64_t bytes_max) {
  CHECK(pack.packed() && pack.files().size() == 1);
  std::unique_ptr<WeightStream> stream(new WeightStream(pack));
  stream->reader_ = TRY(PieceReader::open(pack.files().front().path()));
  TRY(stream->find_matrices());
  TRY(stream->set_bytes_max(bytes_max));
  return stream;
}

Result<void> WeightStream::find_matrices() {
  PackWeights weights = TRY(weights_of(pack_));
  sizes_ = sizes_of(weights, TRY(experts_used(pack_)));
  layers_.resize(sizes_.layers.size());
  for (auto& [layer, slices] : weights.matrices) {
    if (layer >= 0) layers_[static_cast<size_t>(layer)].matrices.push_back(matrices_.size());
    for (size_t i = 0; i < slices.size(); ++i)
      places_.push_back({.begin = slices[i].begin, .expert = false, .index = matrices_.size(), .slice = i});
    matrices_.push_back({.layer = layer, .slices = std::move(slices), .memory = {}});
  }
  for (size_t layer = 0; layer < weights.experts.size(); ++layer)
    for (size_t i = 0; i < weights.experts[layer].size(); ++i)
      for (const FileSlice& slice : weights.experts[layer][i].slices)
        places_.push_back({.begin = slice.begin, .expert = true, .index = layer, .slice = i});
  std::ranges::sort(places_, {}, &Place::begin);
  if (sizes_.experts.n > 0)
    experts_ = std::make_unique<ExpertCache>(*reader_, pack_.files().front().bytes(), std::move(weights.experts),
                                             sizes_.experts.slot_bytes);
  return {};
}

Result<void> WeightStream::set_bytes_max(uint64_t bytes_max) {
  plan_ = TRY(plan_stream(sizes_, bytes_max));
  reader_->wait([&] { return std::ranges::all_of(layers_, [](const Layer& each) { return each.load.missing == 0; }); });
  const bool all_mapped = plan_.read_bytes == 0;
  // First what goes, then what comes. What streamed layers have had is read again.
  slots_ = {};
  streamed_.clear();
  std::vector<bool> stays(matrices_.size(), !all_mapped);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.turn.reset();
    for (size_t m = 0; m < layer.matrices.size(); ++m)
      if (plan_.streamed[i][m]) stays[layer.matrices[m]] = false, layer.turn = streamed_.size();
    if (layer.turn) streamed_.push_back(i);
  }
  for (size_t i = 0; i < matrices_.size(); ++i)
    if (!stays[i]) matrices_[i].memory = {};
  const MappedFile& file = pack_.files().front();
  if (!all_mapped) file.release(0, file.bytes().size());
  if (experts_) TRY(experts_->resize(all_mapped ? 0 : plan_.expert_slots));

  for (Slot& slot : slots_) slot.memory = TRY(PageMemory::allocate_huge(static_cast<int64_t>(plan_.slot_bytes)));
  PieceReader::Load load;
  std::vector<uint64_t> used(layers_.size());  // of each layer's slot
  for (size_t i = 0; i < matrices_.size(); ++i) {
    Matrix& matrix = matrices_[i];
    const auto bytes = bytes_of(matrix.slices);
    if (all_mapped) {
      matrix.at = nullptr;
    } else if (!stays[i]) {
      const auto layer = static_cast<size_t>(matrix.layer);
      matrix.at = slots_[*layers_[layer].turn % kStreamSlots].memory.data() + used[layer];
      used[layer] += bytes;
    } else if (matrix.memory.bytes() == 0) {
      matrix.memory = TRY(PageMemory::allocate_huge(static_cast<int64_t>(bytes)));
      matrix.at = matrix.memory.data();
      read(matrix, load);
    }
  }
  reader_->wait([&] { return load.missing == 0; });
  for (const Matrix& matrix : matrices_) place(matrix);
  for (size_t i = 0; i < std::min<size_t>(kStreamSlots, streamed_.size()); ++i) fetch(slots_[i], streamed_[i]);
  return {};
}

void WeightStream::attach(Weight& weight, std::span<const std::span<const std::byte>> slices) {
  const std::byte* file = pack_.files().front().bytes().data();
  for (size_t i = 0; i < slices.size(); ++i) {
    const auto begin = static_cast<uint64_t>(slices[i].data() - file);
    const auto found = std::ranges::lower_bound(places_, begin, {}, &Place::begin);
    if (found == places_.end() || found->begin != begin) return;  // it stays mapped
    if (found->expert) {
      experts_->attach(found->index, found->slice, begin, weight, static_cast<int>(i));
      continue;
    }
    Matrix& matrix = matrices_[found->index];
    matrix.slices[found->slice].weight = &weight;
    matrix.slices[found->slice].slice = static_cast<int>(i);
    if (i + 1 == slices.size()) place(matrix);
  }
}

void WeightStream::detach() {
  for (Matrix& matrix : matrices_)
    for (FileSlice& slice : matrix.slices) slice.weight = nullptr;
  if (experts_) experts_->detach();
}

void WeightStream::place(const Matrix& matrix) const {
  const std::byte* at = matrix.at;
  for (const FileSlice& slice : matrix.slices) {
    const std::byte* begin =
        at ? at + (slice.begin - down(slice.begin)) : pack_.files().front().bytes().data() + slice.begin;
    if (slice.weight) slice.weight->place(slice.slice, {begin, slice.end - slice.begin});
    if (at) at += up(slice.end) - down(slice.begin);
  }
}

void WeightStream::read(const Matrix& matrix, PieceReader::Load& load) {
  std::byte* at = matrix.at;
  for (const FileSlice& slice : matrix.slices) {
    const uint64_t begin = down(slice.begin), bytes = up(slice.end) - begin;
    reader_->request(load, begin, {at, bytes}, PieceReader::Turn::kAhead);
    at += bytes;
  }
}

void WeightStream::fetch(Slot& slot, size_t index) {
  if (slot.layer == index) return;
  slot.layer = index;
  Layer& layer = layers_[index];
  for (size_t m = 0; m < layer.matrices.size(); ++m)
    if (plan_.streamed[index][m]) read(matrices_[layer.matrices[m]], layer.load);
}

void WeightStream::acquire(int index) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  if (!layer.turn) return;
  Slot& slot = slots_[*layer.turn % kStreamSlots];
  auto arrived = [&] { return layers_[*slot.layer].load.missing == 0; };
  if (slot.layer != static_cast<size_t>(index)) {  // not the one that was expected
    reader_->wait(arrived);
    fetch(slot, static_cast<size_t>(index));
  }
  reader_->wait(arrived);
}

void WeightStream::release(int index) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  if (!layer.turn) return;
  // The next that uses this slot; after the last of them the first again.
  const size_t next = *layer.turn + kStreamSlots;
  fetch(slots_[*layer.turn % kStreamSlots], streamed_[next < streamed_.size() ? next : *layer.turn % kStreamSlots]);
}

}  // namespace hearth
