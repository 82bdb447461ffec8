#include "model/sequence.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/checked.h"
#include "base/limits.h"

namespace hearth {
namespace {

// A recurrent state is remembered every so many positions, the newest few of them.
constexpr int kCheckpointInterval = 64;
constexpr size_t kCheckpointsMax = 8;

struct StateHeader {
  std::array<char, 4> magic;
  uint32_t version, kv_type, first_layer, end_layer, length;
};
constexpr std::array<char, 4> kMagic{'H', 'S', 'E', 'Q'};
constexpr uint32_t kVersion = 2;

}  // namespace

SequenceStore::SequenceStore(Backend& backend, const DecoderConfig& config, KvType kv_type)
    : backend_(backend), kv_type_(kv_type) {
  for (const LayerConfig& layer : config.layers) {
    KvLayer kv{
        .buffer = nullptr, .page_stride = 0, .offset = page_bytes_, .type = kv_type, .n_kv_heads = 0, .head_dim = 0};
    state_offsets_.push_back(-1);
    if (layer.mixer == Mixer::kAttention) {
      kv.n_kv_heads = layer.n_kv_heads;
      kv.head_dim = layer.head_dim;
      page_bytes_ += backend.kv_page_bytes(kv);
    } else {
      state_offsets_.back() = state_floats_;
      state_floats_ += int64_t{config.conv_taps - 1} * config.d_model;
    }
    kv_layers_.push_back(kv);
  }
}

int64_t SequenceStore::page_bytes(const Backend& backend, const DecoderConfig& config, KvType kv_type) {
  int64_t bytes = 0;
  for (const LayerConfig& layer : config.layers)
    if (layer.mixer == Mixer::kAttention)
      bytes += backend.kv_page_bytes({.type = kv_type, .n_kv_heads = layer.n_kv_heads, .head_dim = layer.head_dim});
  return bytes;
}

Result<std::unique_ptr<SequenceStore>> SequenceStore::create(Backend& backend, const DecoderConfig& config,
                                                             const SequenceOptions& options) {
  std::unique_ptr<SequenceStore> store(new SequenceStore(backend, config, options.kv_type));
  // Each sequence may leave its last page partly empty.
  const int n_pages = pages_for(options.positions_max) + options.sequences_max;
  store->pages_ = TRY(backend.allocate(std::max<int64_t>(1, n_pages * store->page_bytes_)));
  for (KvLayer& layer : store->kv_layers_) {
    layer.buffer = store->pages_.get();
    layer.page_stride = store->page_bytes_;
  }
  for (int32_t page = n_pages - 1; page >= 0; --page) store->free_pages_.push_back(page);
  store->page_references_.resize(static_cast<size_t>(n_pages));
  store->resident_.resize(static_cast<size_t>(n_pages));
  store->changed_.resize(static_cast<size_t>(n_pages));
  store->pages_max_ = n_pages;
  const int n_slots = store->state_floats_ == 0 ? 0 : options.sequences_max * static_cast<int>(1 + kCheckpointsMax);
  store->states_ = TRY(backend.allocate(std::max<int64_t>(4, n_slots * store->state_floats_ * 4)));
  for (int32_t slot = n_slots - 1; slot >= 0; --slot) store->free_slots_.push_back(slot);
  store->sequences_.resize(static_cast<size_t>(options.sequences_max));
  return store;
}

SequenceStore::Sequence& SequenceStore::at(SequenceId id) {
  CHECK(id >= 0 && static_cast<size_t>(id) < sequences_.size() && sequences_[static_cast<size_t>(id)].open);
  return sequences_[static_cast<size_t>(id)];
}
const SequenceStore::Sequence& SequenceStore::at(SequenceId id) const {
  return const_cast<SequenceStore*>(this)->at(id);
}

int SequenceStore::length(SequenceId id) const { return at(id).length; }

SequenceRows SequenceStore::rows(SequenceId id, int first_row, int count) const {
  const Sequence& sequence = at(id);
  return {.first_row = first_row,
          .count = count,
          .position = sequence.length,
          .pages = sequence.pages,
          .state_slot = sequence.slot,
          .sequence = id};
}

Result<SequenceId> SequenceStore::free_sequence() const {
  const auto free = std::ranges::find(sequences_, false, &Sequence::open);
  if (free == sequences_.end()) return fail(Code::kBusy, "all {} sequences are in use", sequences_.size());
  return static_cast<SequenceId>(free - sequences_.begin());
}

void SequenceStore::open_at(SequenceId id) {
  Sequence& sequence = sequences_[static_cast<size_t>(id)];
  sequence = {.open = true, .length = 0, .pages = {}, .slot = take_slot(), .checkpoints = {}};
  sequence.pages.reserve(page_references_.size());  // growing them allocates nothing
  if (sequence.slot >= 0) clear_slot(sequence.slot);
}

Result<SequenceId> SequenceStore::open() {
  const SequenceId id = TRY(free_sequence());
  open_at(id);
  note(SequenceOp::Kind::kOpen, id);
  return id;
}

void SequenceStore::release(SequenceId id) {
  Sequence& sequence = at(id);
  note(SequenceOp::Kind::kRelease, id);
  for (const int32_t page : sequence.pages) drop_page(page);
  if (sequence.slot >= 0) free_slots_.push_back(sequence.slot);
  for (const Checkpoint& checkpoint : sequence.checkpoints) free_slots_.push_back(checkpoint.slot);
  sequence = {};
}

void SequenceStore::drop_page(int32_t page) {
  if (--page_references_[static_cast<size_t>(page)] == 0) free_pages_.push_back(page);
}

int32_t SequenceStore::take_page() {
  const int32_t page = free_pages_.back();
  free_pages_.pop_back();
  page_references_[static_cast<size_t>(page)] = 1;
  if (!resident_[static_cast<size_t>(page)]) ++resident_pages_;
  resident_[static_cast<size_t>(page)] = true;
  return page;
}

void SequenceStore::limit_pages(int pages) {
  pages_max_ = std::min(pages, static_cast<int>(page_references_.size()));
  // Those at the end are taken next.
  for (auto page = free_pages_.begin(); page != free_pages_.end() && resident_pages_ > pages_max_; ++page) {
    if (!resident_[static_cast<size_t>(*page)]) continue;
    backend_.discard(*pages_, *page * page_bytes_, page_bytes_);
    resident_[static_cast<size_t>(*page)] = false;
    --resident_pages_;
  }
  // Memory that is still there is used first.
  std::ranges::stable_partition(free_pages_, [&](int32_t page) { return !resident_[static_cast<size_t>(page)]; });
}

Result<void> SequenceStore::reserve(SequenceId id, int count) {
  Sequence& sequence = at(id);
  const int have = static_cast<int>(sequence.pages.size());
  const int need = pages_for(sequence.length + count);
  const auto last = static_cast<size_t>(sequence.length / kKvPagePositions);
  const bool copy_last = count > 0 && sequence.length % kKvPagePositions != 0 &&
                         page_references_[static_cast<size_t>(sequence.pages[last])] > 1;
  const int take = std::max(0, need - have) + (copy_last ? 1 : 0);
  if (take > free_pages())
    return fail(Code::kLimit,
                "the KV cache is full: {} more positions need {} pages of {}, {} are free; use a larger --context",
                count, take, kKvPagePositions, free_pages());
  if (copy_last) {
    const int32_t shared = sequence.pages[last], own = take_page();
    backend_.copy(*pages_, shared * page_bytes_, *pages_, own * page_bytes_, page_bytes_);
    drop_page(shared);
    sequence.pages[last] = own;
  }
  while (static_cast<int>(sequence.pages.size()) < need) sequence.pages.push_back(take_page());
  for (size_t page = last; count > 0 && page < static_cast<size_t>(need); ++page)
    changed_[static_cast<size_t>(sequence.pages[page])] = true;
  return {};
}

std::vector<SequenceStore::Table> SequenceStore::tables() const {
  std::vector<Table> all;
  for (size_t i = 0; i < sequences_.size(); ++i)
    if (sequences_[i].open) all.push_back({static_cast<SequenceId>(i), sequences_[i].length, sequences_[i].pages});
  return all;
}

Result<void> SequenceStore::take_tables(std::span<const Table> tables) {
  if (state_floats_ > 0) return fail(Code::kUnsupported, "recurrent layers have no pages");
  std::vector<int32_t> references(page_references_.size());
  std::vector<bool> open(sequences_.size());
  for (const Table& table : tables) {
    const auto id = static_cast<size_t>(table.sequence);
    const bool fits =
        table.sequence >= 0 && id < open.size() && !open[id] && table.length >= 0 &&
        table.pages.size() <= references.size() &&
        static_cast<int64_t>(table.pages.size()) * kKvPagePositions >= table.length &&
        std::ranges::all_of(
            table.pages, [&](int32_t page) { return page >= 0 && static_cast<size_t>(page) < references.size(); });
    if (!fits)
      return fail(Code::kInvalidArgument, "sequence {} of {} with {} positions in {} of {} pages", table.sequence,
                  open.size(), table.length, table.pages.size(), references.size());
    open[id] = true;
    for (const int32_t page : table.pages) ++references[static_cast<size_t>(page)];
  }
  for (Sequence& sequence : sequences_) sequence = {};
  free_pages_.clear();
  for (size_t page = references.size(); page-- > 0;) {
    if (references[page] == 0) free_pages_.push_back(static_cast<int32_t>(page));
    if (references[page] > 0 && !resident_[page]) resident_[page] = true, ++resident_pages_;
  }
  page_references_ = std::move(references);
  for (const Table& table : tables) {
    open_at(table.sequence);
    at(table.sequence).length = table.length;
    at(table.sequence).pages.assign(table.pages.begin(), table.pages.end());
  }
  return {};
}

std::vector<int32_t> SequenceStore::take_changed_pages() {
  std::vector<int32_t> pages;
  for (size_t page = 0; page < changed_.size(); ++page)
    if (changed_[page]) pages.push_back(static_cast<int32_t>(page));
  changed_.assign(changed_.size(), false);
  return pages;
}

bool SequenceStore::read_page(int32_t page, std::span<std::byte> bytes) const {
  if (page < 0 || static_cast<size_t>(page) >= page_references_.size()) return false;
  backend_.download(*pages_, page * page_bytes_, bytes);
  return true;
}

bool SequenceStore::write_page(int32_t page, std::span<const std::byte> bytes) {
  if (page < 0 || static_cast<size_t>(page) >= page_references_.size() ||
      static_cast<int64_t>(bytes.size()) != page_bytes_)
    return false;
  backend_.upload(*pages_, page * page_bytes_, bytes);
  return true;
}

void SequenceStore::advance(SequenceId id, int count) {
  Sequence& sequence = at(id);
  note(SequenceOp::Kind::kAdvance, id, count);
  sequence.length += count;
  CHECK(pages_for(sequence.length) <= static_cast<int>(sequence.pages.size()));
  if (sequence.slot >= 0) checkpoint(sequence);
}

Result<SequenceId> SequenceStore::fork(SequenceId id) {
  const SequenceId copy = TRY(free_sequence());
  fork_to(id, copy);
  note(SequenceOp::Kind::kFork, id, copy);
  return copy;
}

void SequenceStore::fork_to(SequenceId id, SequenceId copy) {
  open_at(copy);
  Sequence& to = at(copy);
  const Sequence& from = at(id);
  to.length = from.length;
  to.pages.assign(from.pages.begin(), from.pages.begin() + pages_for(from.length));
  for (const int32_t page : to.pages) ++page_references_[static_cast<size_t>(page)];
  if (to.slot >= 0) {
    copy_slot(from.slot, to.slot);
    for (const Checkpoint& checkpoint : from.checkpoints) {
      to.checkpoints.push_back({checkpoint.position, take_slot()});
      copy_slot(checkpoint.slot, to.checkpoints.back().slot);
    }
  }
}

int SequenceStore::truncate(SequenceId id, int length) {
  Sequence& sequence = at(id);
  length = std::min(length, sequence.length);
  if (sequence.slot >= 0 && length < sequence.length) {
    while (!sequence.checkpoints.empty() && sequence.checkpoints.back().position > length) {
      free_slots_.push_back(sequence.checkpoints.back().slot);
      sequence.checkpoints.pop_back();
    }
    length = sequence.checkpoints.empty() ? 0 : sequence.checkpoints.back().position;
    if (sequence.checkpoints.empty())
      clear_slot(sequence.slot);
    else
      copy_slot(sequence.checkpoints.back().slot, sequence.slot);
  }
  sequence.length = length;
  while (static_cast<int>(sequence.pages.size()) > pages_for(length)) {
    drop_page(sequence.pages.back());
    sequence.pages.pop_back();
  }
  note(SequenceOp::Kind::kTruncate, id, length);
  return length;
}

Result<void> SequenceStore::apply(const SequenceOp& op) {
  using enum SequenceOp::Kind;
  const auto refuse = [&] {
    return fail(Code::kInvalidArgument, "sequence {} of {}: operation {} with {} cannot be done", op.sequence,
                sequences_.size(), static_cast<int>(op.kind), op.value);
  };
  const auto is_free = [&](SequenceId id) {
    return id >= 0 && static_cast<size_t>(id) < sequences_.size() && !is_open(id);
  };
  if (op.kind == kOpen ? !is_free(op.sequence) : !is_open(op.sequence)) return refuse();
  switch (op.kind) {
    case kOpen:
      open_at(op.sequence);
      return {};
    case kRelease:
      release(op.sequence);
      return {};
    case kFork:
      if (!is_free(op.value)) return refuse();
      fork_to(op.sequence, op.value);
      return {};
    case kTruncate:
      if (op.value < 0) return refuse();
      truncate(op.sequence, op.value);
      return {};
    case kAdvance: {
      const auto room = static_cast<int64_t>(at(op.sequence).pages.size()) * kKvPagePositions;
      if (op.value < 0 || at(op.sequence).length + int64_t{op.value} > room) return refuse();
      advance(op.sequence, op.value);
      return {};
    }
  }
  return refuse();
}

int32_t SequenceStore::take_slot() {
  if (state_floats_ == 0) return -1;
  CHECK(!free_slots_.empty());  // slots are counted for every sequence's state and checkpoints
  const int32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void SequenceStore::copy_slot(int32_t from, int32_t to) {
  backend_.copy(*states_, from * state_floats_ * 4, *states_, to * state_floats_ * 4, state_floats_ * 4);
}

void SequenceStore::clear_slot(int32_t slot) {
  const std::vector<std::byte> zeros(static_cast<size_t>(state_floats_ * 4));
  backend_.upload(*states_, slot * state_floats_ * 4, zeros);
}

void SequenceStore::checkpoint(Sequence& sequence) {
  const int last = sequence.checkpoints.empty() ? 0 : sequence.checkpoints.back().position;
  if (sequence.length - last < kCheckpointInterval) return;
  int32_t slot;
  if (sequence.checkpoints.size() == kCheckpointsMax) {
    slot = sequence.checkpoints.front().slot;
    sequence.checkpoints.erase(sequence.checkpoints.begin());
  } else {
    slot = take_slot();
  }
  copy_slot(sequence.slot, slot);
  sequence.checkpoints.push_back({sequence.length, slot});
}

StateBytes SequenceStore::bytes(SequenceId id, int first_layer, int end_layer) const {
  const Sequence& sequence = at(id);
  const StateHeader header{kMagic,
                           kVersion,
                           static_cast<uint32_t>(kv_type_),
                           static_cast<uint32_t>(first_layer),
                           static_cast<uint32_t>(end_layer),
                           static_cast<uint32_t>(sequence.length)};
  StateBytes out;
  out.backend_ = &backend_;
  out.pages_buffer_ = pages_.get();
  out.states_buffer_ = states_.get();
  out.header_.resize(sizeof header);
  std::memcpy(out.header_.data(), &header, sizeof header);
  const auto end = static_cast<size_t>(end_layer);
  const int64_t begin_offset = kv_layers_[static_cast<size_t>(first_layer)].offset;
  const int64_t end_offset = end < kv_layers_.size() ? kv_layers_[end].offset : page_bytes_;
  out.slice_bytes_ = static_cast<uint64_t>(end_offset - begin_offset);
  for (int page = 0; page < pages_for(sequence.length); ++page)
    out.pages_.push_back(sequence.pages[static_cast<size_t>(page)] * page_bytes_ + begin_offset);
  for (int layer = end_layer - 1; layer >= first_layer; --layer) {
    if (state_offsets_[static_cast<size_t>(layer)] < 0) continue;
    out.state_offset_ = (sequence.slot * state_floats_ + state_offsets_[static_cast<size_t>(layer)]) * 4;
    out.state_bytes_ += static_cast<uint64_t>(state_bytes(layer));  // they lie one after the other
  }
  return out;
}

template <typename Each>
void StateBytes::for_parts(uint64_t offset, uint64_t count, Each each) const {
  for (uint64_t done = 0; done < count;) {
    const uint64_t at = offset + done - header_.size(), page = slice_bytes_ == 0 ? 0 : at / slice_bytes_;
    const bool in_page = slice_bytes_ > 0 && page < pages_.size();
    const uint64_t within = in_page ? at % slice_bytes_ : at - pages_.size() * slice_bytes_;
    const uint64_t part = std::min(count - done, (in_page ? slice_bytes_ : state_bytes_) - within);
    CHECK(part > 0);
    each(in_page ? *pages_buffer_ : *states_buffer_,
         (in_page ? pages_[page] : state_offset_) + static_cast<int64_t>(within), done, part);
    done += part;
  }
}

void StateBytes::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset < header_.size()) {
    const auto part = std::span(header_).subspan(offset).first(std::min<size_t>(out.size(), header_.size() - offset));
    std::ranges::copy(part, out.begin());
    out = out.subspan(part.size());
    offset += part.size();
  }
  for_parts(offset, out.size(), [&](const Buffer& buffer, int64_t at, uint64_t done, uint64_t count) {
    backend_->download(buffer, at, out.subspan(done, count));
  });
}

bool StateBytes::write(uint64_t offset, std::span<const std::byte> bytes) const {
  if (offset < header_.size()) {
    const auto part = std::span(header_).subspan(offset).first(std::min<size_t>(bytes.size(), header_.size() - offset));
    if (!std::ranges::equal(part, bytes.first(part.size()))) return false;
    bytes = bytes.subspan(part.size());
    offset += part.size();
  }
  for_parts(offset, bytes.size(), [&](Buffer& buffer, int64_t at, uint64_t done, uint64_t count) {
    backend_->upload(buffer, at, bytes.subspan(done, count));
  });
  return true;
}

Result<std::vector<std::byte>> SequenceStore::export_state(SequenceId id, int first_layer, int end_layer) const {
  if (first_layer < 0 || first_layer >= end_layer || end_layer > static_cast<int>(kv_layers_.size()))
    return fail(Code::kInvalidArgument, "layers {} to {} of {} cannot be exported", first_layer, end_layer,
                kv_layers_.size());
  const StateBytes state = bytes(id, first_layer, end_layer);
  std::vector<std::byte> out(state.size());
  state.read(0, out);
  return out;
}

int64_t SequenceStore::state_bytes(int layer) const {
  const auto next = std::ranges::find_if(state_offsets_.begin() + layer + 1, state_offsets_.end(),
                                         [](int64_t offset) { return offset >= 0; });
  const int64_t end = next == state_offsets_.end() ? state_floats_ : *next;
  return (end - state_offsets_[static_cast<size_t>(layer)]) * 4;
}

Result<SequenceId> SequenceStore::import_state(std::span<const std::byte> bytes, SequenceId into) {
  StateHeader header;
  if (bytes.size() < sizeof header)
    return fail(Code::kMalformed, "sequence state: {} bytes, the header alone has {}", bytes.size(), sizeof header);
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kMagic || header.version != kVersion)
    return fail(Code::kMalformed, "sequence state: not one, or of another version");
  if (header.kv_type != static_cast<uint32_t>(kv_type_))
    return fail(Code::kInvalidArgument, "sequence state: its KV type differs from this one's");
  if (header.first_layer >= header.end_layer || header.end_layer > kv_layers_.size() ||
      header.length > limits::kContext)
    return fail(Code::kMalformed, "sequence state: layers {} to {}, length {}", header.first_layer, header.end_layer,
                header.length);
  const int length = static_cast<int>(header.length);
  const bool fresh = into < 0;
  if (fresh)
    into = TRY(open_for_import(length));
  else if (at(into).length != length)
    return fail(Code::kInvalidArgument, "sequence state: {} positions, the sequence has {}", length, at(into).length);
  const StateBytes place = this->bytes(into, static_cast<int>(header.first_layer), static_cast<int>(header.end_layer));
  if (place.size() == bytes.size() && place.write(0, bytes)) return into;
  if (fresh) release(into);
  return fail(Code::kMalformed, "sequence state: {} bytes, {} positions of these layers have {}", bytes.size(), length,
              place.size());
}

Result<SequenceId> SequenceStore::open_for_import(int length) {
  const SequenceId id = TRY(open());
  if (auto room = reserve(id, length); !room) {
    release(id);
    return std::unexpected(room.error());
  }
  at(id).length = length;
  return id;
}

}  // namespace hearth
