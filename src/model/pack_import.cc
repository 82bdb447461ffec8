#include "model/pack_import.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "base/check.h"
#include "base/file_io.h"
#include "model/arch/all.h"
#include "model/gguf_writer.h"
#include "store/sha256.h"

namespace hearth {
namespace {

// Writes begin at multiples of this in the file, so that its pages in memory can be large ones.
constexpr uint64_t kWriteBytes = 2 << 20;
constexpr int64_t kPanelsAtOnce = 64;

uint64_t aligned(uint64_t offset, uint64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

struct Home {
  SegmentKind kind;
  int layer = -1;
};

// "blk.3.attn_q.weight" belongs to layer 3.
Home home_of(std::string_view name) {
  if (name.starts_with("blk.")) {
    Home home{.kind = name.find("_exps.") == name.npos ? SegmentKind::kLayer : SegmentKind::kExpert};
    home.layer = layer_of(name);
    return home;
  }
  if (name.starts_with("rope_")) return {.kind = SegmentKind::kRope};
  return {.kind = name == "token_embd.weight" ? SegmentKind::kEmbedding : SegmentKind::kHead};
}

// Where a segment comes in the file: a layer's experts follow the layer.
std::array<int, 3> order_of(const PackSegment& segment) {
  const bool layer = segment.kind == SegmentKind::kLayer || segment.kind == SegmentKind::kExpert;
  return {static_cast<int>(layer ? SegmentKind::kLayer : segment.kind), segment.layer, segment.expert};
}

Result<std::vector<std::pair<std::string, std::string>>> text_of(const Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, std::string>> files;
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    GgufWriter writer;
    for (const MetadataEntry& entry : checkpoint.metadata().entries()) writer.set(entry.key, entry.value);
    const auto bytes = writer.bytes();
    files.emplace_back(kPackMetadataFile, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    return files;
  }
  for (const std::string_view name : hf_text_files()) {
    auto text = checkpoint.text_file(name);
    if (text) files.emplace_back(name, std::move(*text));
    if (!text && text.error().code != Code::kNotFound) return std::unexpected(text.error());
  }
  return files;
}

}  // namespace

std::span<const std::string_view> hf_text_files() {
  static constexpr std::array<std::string_view, 5> kNames{"config.json", "tokenizer.json", "tokenizer_config.json",
                                                          "special_tokens_map.json", "generation_config.json"};
  return kNames;
}

// Collects a segment's bytes, hashes them and writes them.
class PackPlan::SegmentWriter {
 public:
  SegmentWriter(int fd, const std::filesystem::path& path) : fd_(fd), path_(path), buffer_(kWriteBytes) {}

  void begin(uint64_t offset) {
    at_ = offset;
    used_ = 0;
    hash_.emplace();
  }
  Result<void> append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto free = TRY(room());
      const size_t count = std::min(bytes.size(), free.size());
      std::copy_n(bytes.begin(), count, free.begin());
      used_ += count;
      bytes = bytes.subspan(count);
    }
    return {};
  }
  // Zeros up to a place in the segment; `offset` in the file.
  Result<void> pad_to(uint64_t offset) {
    constexpr std::array<std::byte, kPanelAlignment> kZeros{};
    CHECK(offset >= at_ + used_ && offset - at_ - used_ <= kZeros.size());
    return append(std::span(kZeros).first(offset - at_ - used_));
  }
  // Panels [begin, end), packed where they are written from if they fit.
  Result<void> append_panels(const WeightSource& source, size_t slice, int64_t begin, int64_t end, Plane plane) {
    const TypeInfo& type = info(source.type);
    const auto panel = static_cast<size_t>(plane == Plane::kLow ? type.panel.low_bytes(source.cols)
                                                                : type.panel.panel_bytes(source.cols));
    while (begin < end) {
      const auto free = TRY(room());
      const auto count = std::min<int64_t>(end - begin, static_cast<int64_t>(free.size() / panel));
      if (count == 0) {
        scratch_.resize(panel);
        pack_panels(type, source.data[slice], source.rows, source.cols, begin, begin + 1, scratch_.data(), plane);
        TRY(append(scratch_));
        ++begin;
        continue;
      }
      pack_panels(type, source.data[slice], source.rows, source.cols, begin, begin + count, free.data(), plane);
      used_ += static_cast<size_t>(count) * panel;
      begin += count;
    }
    return {};
  }
  Result<Digest> finish() {
    TRY(write());
    return digest_from_hex(hash_->hex());
  }

 private:
  // What is free up to the next place where a write begins; written first if that is nothing.
  Result<std::span<std::byte>> room() {
    const auto limit = static_cast<size_t>(kWriteBytes - at_ % kWriteBytes);
    if (used_ == limit) {
      TRY(write());
      return std::span(buffer_).first(static_cast<size_t>(kWriteBytes - at_ % kWriteBytes));
    }
    return std::span(buffer_).subspan(used_, limit - used_);
  }
  Result<void> write() {
    const auto bytes = std::span(buffer_).first(used_);
    hash_->update(bytes);
    TRY(write_at(fd_, at_, bytes, path_));
    begin_flush(fd_, at_, used_);
    at_ += used_;
    used_ = 0;
    return {};
  }

  int fd_;
  const std::filesystem::path& path_;
  std::vector<std::byte> buffer_, scratch_;
  uint64_t at_ = 0;  // in the file, of the buffer's beginning
  size_t used_ = 0;
  std::optional<Sha256> hash_;
};

void PackPlan::add(SegmentKind kind, int layer, int expert, PackPlace& place, Piece piece) {
  PackSegment wanted{.kind = kind, .layer = layer, .expert = expert};
  const auto at = std::ranges::lower_bound(manifest_.segments, order_of(wanted), {}, order_of);
  const auto index = at - manifest_.segments.begin();
  if (at == manifest_.segments.end() || order_of(*at) != order_of(wanted)) {
    manifest_.segments.insert(at, wanted);
    pieces_.emplace(pieces_.begin() + index);
  }
  PackSegment& segment = manifest_.segments[static_cast<size_t>(index)];
  piece.offset = place.offset = aligned(segment.bytes, kPanelAlignment);
  segment.bytes = piece.offset + piece.bytes;
  pieces_[static_cast<size_t>(index)].push_back(piece);
}

Result<PackPlan> PackPlan::create(const Checkpoint& checkpoint, Backend& backend, const Digest& source) {
  PackPlan plan;
  PackManifest& manifest = plan.manifest_;
  plan.header_.source_sha256 = source;
  plan.tensors_ = TRY(Decoder::plan(checkpoint, backend));
  manifest.model = checkpoint.path().filename().string().substr(0, 200);
  std::ranges::replace_if(manifest.model, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c & 0x80; }, '?');
  manifest.family = std::string(TRY(find_family(checkpoint))->name);
  manifest.source = checkpoint.kind();
  for (auto& [name, text] : TRY(text_of(checkpoint))) {
    PackPlace place;
    plan.add(SegmentKind::kText, -1, -1, place, {.bytes = text.size(), .index = plan.text_.size()});
    manifest.text.push_back({.name = name, .offset = place.offset, .bytes = text.size()});
    plan.text_.push_back(std::move(text));
  }
  for (const PlannedTensor& planned : plan.tensors_) {
    PackTensor tensor{.name = planned.name, .shape = planned.shape, .n_dims = planned.n_dims};
    const size_t slices = planned.matrix.data.size();
    tensor.panels = slices > 0;
    if (tensor.panels) tensor.type = planned.matrix.type;
    tensor.at.resize(std::max<size_t>(slices, 1));
    const uint64_t bytes = TRY(slice_bytes(tensor));
    const Home home = home_of(planned.name);
    for (size_t i = 0; i < tensor.at.size(); ++i) {
      const int expert = home.kind == SegmentKind::kExpert ? static_cast<int>(i) : -1;
      plan.add(home.kind, home.layer, expert, tensor.at[i], {.bytes = bytes, .tensor = &planned, .index = i});
    }
    manifest.tensors.push_back(std::move(tensor));
  }
  // Segments were inserted as they came; now they have their numbers.
  for (size_t t = 0; t < manifest.tensors.size(); ++t) {
    const Home home = home_of(manifest.tensors[t].name);
    for (size_t i = 0; i < manifest.tensors[t].at.size(); ++i) {
      const PackSegment wanted{.kind = home.kind,
                               .layer = home.layer,
                               .expert = home.kind == SegmentKind::kExpert ? static_cast<int>(i) : -1};
      manifest.tensors[t].at[i].segment = static_cast<uint32_t>(
          std::ranges::lower_bound(manifest.segments, order_of(wanted), {}, order_of) - manifest.segments.begin());
    }
  }
  // The manifest lies before the segments and holds their offsets, so its length and they depend on each other.
  for (uint64_t first = 0, need = kPackSegmentAlignment; first < need;) {
    first = need;
    plan.place_segments(first);
    plan.header_.manifest_bytes = to_json(manifest).size();
    need = aligned(kPackHeaderBytes + plan.header_.manifest_bytes, kPackSegmentAlignment);
  }
  plan.header_.manifest_offset = kPackHeaderBytes;
  return plan;
}

void PackPlan::place_segments(uint64_t first_offset) {
  uint64_t offset = first_offset;
  for (PackSegment& segment : manifest_.segments) {
    segment.offset = offset;
    offset = aligned(offset + segment.bytes, kPackSegmentAlignment);
    header_.file_bytes = segment.offset + segment.bytes;
  }
}

Result<void> PackPlan::write_piece(const Piece& piece, uint64_t segment_offset, SegmentWriter& writer) const {
  if (!piece.tensor) return writer.append(std::as_bytes(std::span(text_[piece.index])));
  const WeightSource& source = piece.tensor->matrix;
  if (source.data.empty()) return writer.append(std::as_bytes(std::span(piece.tensor->floats)));
  const auto slice = source.data[piece.index];
  const int64_t n_panels = (source.rows + kPanelRows - 1) / kPanelRows;
  const auto row = static_cast<int64_t>(slice.size()) / source.rows;
  auto append = [&](Plane plane) -> Result<void> {
    for (int64_t begin = 0; begin < n_panels; begin += kPanelsAtOnce) {
      const int64_t end = std::min(begin + kPanelsAtOnce, n_panels);
      TRY(writer.append_panels(source, piece.index, begin, end, plane));
      const auto from = static_cast<size_t>(begin * kPanelRows * row),
                 to = static_cast<size_t>(std::min(source.rows, end * kPanelRows) * row);
      if (source.consumed) source.consumed(slice.subspan(from, to - from));
    }
    return {};
  };
  TRY(append(Plane::kHigh));
  const PanelFormat& format = info(source.type).panel;
  if (!format.has_low) return {};
  TRY(writer.pad_to(segment_offset + piece.offset + static_cast<uint64_t>(format.low_offset(n_panels, source.cols))));
  return append(Plane::kLow);
}

Result<void> PackPlan::write(int fd, const std::filesystem::path& path, int n_threads,
                             const std::function<bool(uint64_t)>& progress) {
  // The longest first, so that the threads end together.
  std::vector<size_t> order(manifest_.segments.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, std::greater(), [&](size_t i) { return manifest_.segments[i].bytes; });
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<bool> stop{false};
  std::mutex ending;
  Result<void> result;
  auto write_segment = [&](size_t index, SegmentWriter& writer, int thread) -> Result<void> {
    PackSegment& segment = manifest_.segments[index];
    writer.begin(segment.offset);
    for (const Piece& piece : pieces_[index]) {
      if (stop.load()) return {};
      TRY(writer.pad_to(segment.offset + piece.offset));
      TRY(write_piece(piece, segment.offset, writer));
      done_bytes += piece.bytes;
      if (thread == 0 && progress && !progress(done_bytes.load())) return fail(Code::kCancelled, "cancelled");
    }
    segment.sha256 = TRY(writer.finish());
    return {};
  };
  auto work = [&](int thread) {
    SegmentWriter writer(fd, path);
    for (size_t i = next++; i < order.size() && !stop.load(); i = next++) {
      if (auto written = write_segment(order[i], writer, thread); !written) {
        const std::scoped_lock lock(ending);
        if (result) result = std::move(written);
        stop = true;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    for (int thread = 1; thread < n_threads; ++thread) others.emplace_back(work, thread);
    work(0);
  }
  TRY(std::move(result));
  const std::string manifest = to_json(manifest_);
  CHECK(manifest.size() == header_.manifest_bytes);
  Sha256 hash;
  hash.update(std::as_bytes(std::span(manifest)));
  header_.manifest_sha256 = TRY(digest_from_hex(hash.hex()));
  TRY(write_at(fd, header_.manifest_offset, std::as_bytes(std::span(manifest)), path));
  return write_at(fd, 0, to_bytes(header_), path);
}

}  // namespace hearth
