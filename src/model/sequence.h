// Sequence state: KV pages of 32 positions shared by reference count, and fixed-size states of recurrent layers.
//
// All operations are for one thread (the engine's). Token ids are not here: the engine keeps them and can always rebuild state.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/decoder_config.h"

namespace hearth {

using SequenceId = int32_t;

// What was done to the sequences of a store, for stores elsewhere that hold other layers of the same sequences.
struct SequenceOp {
  enum class Kind : uint8_t { kOpen, kRelease, kFork, kTruncate, kAdvance };
  Kind kind = Kind::kOpen;
  SequenceId sequence = 0;
  int32_t value = 0;  // kFork: the new sequence; kTruncate: the length reached; kAdvance: how many positions
  bool operator==(const SequenceOp&) const = default;
};

struct SequenceOptions {
  KvType kv_type = KvType::kF16;
  int positions_max = 0;  // in all sequences together, rounded up to pages
  int sequences_max = 1;
};

// The bytes of a sequence's state where they lie, for threads other than the store's: as exported, or to be filled on import. Valid until
// the sequence is written to or released; read() and write() from any thread, several at once.
class StateBytes {
 public:
  StateBytes() = default;
  [[nodiscard]] uint64_t size() const { return header_.size() + pages_.size() * slice_bytes_ + state_bytes_; }
  // [offset, offset + size of the span) is within size().
  void read(uint64_t offset, std::span<std::byte> out) const;
  // False if that is the header of another state: of another KV type, other layers or length.
  [[nodiscard]] bool write(uint64_t offset, std::span<const std::byte> bytes) const;

 private:
  friend class SequenceStore;
  // Calls each(buffer, its offset, offset in the span, bytes) for the parts behind the header.
  template <typename Each>
  void for_parts(uint64_t offset, uint64_t count, Each each) const;

  Backend* backend_ = nullptr;
  Buffer *pages_buffer_ = nullptr, *states_buffer_ = nullptr;
  std::vector<std::byte> header_;
  std::vector<int64_t> pages_;  // where in the buffer the layers' slice of each page begins
  uint64_t slice_bytes_ = 0;
  int64_t state_offset_ = 0;
  uint64_t state_bytes_ = 0;
};

class SequenceStore {
 public:
  // Memory for all pages is reserved now and taken as it is written.
  static Result<std::unique_ptr<SequenceStore>> create(Backend& backend, const DecoderConfig& config,
                                                       const SequenceOptions& options);

  // kBusy if sequences_max are open.
  Result<SequenceId> open();
  void release(SequenceId id);
  // Makes room so that `count` more positions can be written; pages shared with another sequence are copied first.
  // kLimit with the numbers if the pages do not suffice; nothing changes then.
  Result<void> reserve(SequenceId id, int count);
  // Records that `count` positions were written.
  void advance(SequenceId id, int count);
  // A second sequence with the same content. Cost: nothing per full page; recurrent states are copied.
  Result<SequenceId> fork(SequenceId id);
  // Forgets positions from `length` on and returns the length reached: less than asked for where a recurrent layer has no
  // checkpoint at that point; the caller runs the tokens in between again. Room that was reserved beyond is given back.
  int truncate(SequenceId id, int length);
  // State of layers [first, end) as bytes for import() into a store of the same model, KV type and range.
  // Format: header {magic, version, kv type, layers, length}, then page by page those layers' parts, then recurrent states; little endian.
  [[nodiscard]] Result<std::vector<std::byte>> export_state(SequenceId id, int first_layer, int end_layer) const;
  // A new sequence from exported bytes; several ranges of layers of one sequence are imported one after the other into `into`.
  Result<SequenceId> import_state(std::span<const std::byte> bytes, SequenceId into = -1);
  // The same in pieces: a new sequence of so many positions, whose bytes() have to be filled before anything else is done with it but
  // release(). kBusy, kLimit as open() and reserve().
  Result<SequenceId> open_for_import(int length);
  [[nodiscard]] StateBytes bytes(SequenceId id) const { return bytes(id, 0, static_cast<int>(kv_layers_.size())); }

  // From now on each change is also appended to `ops`, which outlives the store; null: no longer.
  void record(std::vector<SequenceOp>* ops) { recorded_ = ops; }
  // Does what another store has done, or what it asks for, which is not trusted: kInvalidArgument if these sequences do not allow it.
  Result<void> apply(const SequenceOp& op);
  [[nodiscard]] bool is_open(SequenceId id) const {
    return id >= 0 && static_cast<size_t>(id) < sequences_.size() && sequences_[static_cast<size_t>(id)].open;
  }

  // For a copy of a store without recurrent layers in another store of the same layers and options, page by page.
  struct Table {
    SequenceId sequence = 0;
    int32_t length = 0;
    std::vector<int32_t> pages;
    bool operator==(const Table&) const = default;
  };
  [[nodiscard]] std::vector<Table> tables() const;  // of all open sequences
  // Becomes a store with these sequences, and no others; what the pages hold stays as it is. kInvalidArgument if they cannot be.
  Result<void> take_tables(std::span<const Table> tables);
  // Pages in which there may be something new since this was last asked.
  [[nodiscard]] std::vector<int32_t> take_changed_pages();
  // `bytes` are page_bytes(). False: there is no such page.
  bool read_page(int32_t page, std::span<std::byte> bytes) const;
  bool write_page(int32_t page, std::span<const std::byte> bytes);

  [[nodiscard]] int length(SequenceId id) const;
  // What a backend needs to know to run `count` further rows; valid until the next operation on the sequence.
  [[nodiscard]] SequenceRows rows(SequenceId id, int first_row, int count) const;
  [[nodiscard]] const KvLayer& kv(int layer) const { return kv_layers_[static_cast<size_t>(layer)]; }
  [[nodiscard]] Buffer& states() const { return *states_; }
  [[nodiscard]] int64_t state_stride() const { return state_floats_; }  // floats per slot
  [[nodiscard]] int64_t state_offset(int layer) const { return state_offsets_[static_cast<size_t>(layer)]; }
  [[nodiscard]] int pages(SequenceId id) const { return static_cast<int>(at(id).pages.size()); }  // shared ones, too
  [[nodiscard]] int used_pages() const { return static_cast<int>(page_references_.size() - free_pages_.size()); }
  // That may be taken.
  [[nodiscard]] int free_pages() const {
    return std::max(0, std::min(static_cast<int>(free_pages_.size()), pages_max_ - used_pages()));
  }
  [[nodiscard]] int pages_max() const { return pages_max_; }
  [[nodiscard]] int resident_pages() const { return resident_pages_; }  // that have memory
  [[nodiscard]] int sequences_max() const { return static_cast<int>(sequences_.size()); }
  // No more than so many are taken from now on, those in use stay; and what free ones have of memory beyond that goes back to the system.
  void limit_pages(int pages);
  static int pages_for(int positions) { return (positions + kKvPagePositions - 1) / kKvPagePositions; }
  [[nodiscard]] int64_t page_bytes() const { return page_bytes_; }
  [[nodiscard]] KvType kv_type() const { return kv_type_; }

  // Bytes one page of 32 positions takes over all layers.
  static int64_t page_bytes(const Backend& backend, const DecoderConfig& config, KvType kv_type);

 private:
  struct Checkpoint {
    int position;
    int32_t slot;
  };
  struct Sequence {
    bool open = false;
    int length = 0;
    std::vector<int32_t> pages;
    int32_t slot = -1;                    // recurrent state
    std::vector<Checkpoint> checkpoints;  // oldest first
  };

  SequenceStore(Backend& backend, const DecoderConfig& config, KvType kv_type);
  void note(SequenceOp::Kind kind, SequenceId id, int32_t value = 0) {
    if (recorded_) recorded_->push_back({kind, id, value});
  }
  void open_at(SequenceId id);
  void fork_to(SequenceId id, SequenceId copy);
  [[nodiscard]] Result<SequenceId> free_sequence() const;
  Sequence& at(SequenceId id);
  [[nodiscard]] const Sequence& at(SequenceId id) const;
  void drop_page(int32_t page);
  int32_t take_page();
  [[nodiscard]] StateBytes bytes(SequenceId id, int first_layer, int end_layer) const;
  int32_t take_slot();
  void copy_slot(int32_t from, int32_t to);
  void clear_slot(int32_t slot);
  void checkpoint(Sequence& sequence);
  [[nodiscard]] int64_t state_bytes(int layer) const;  // of a recurrent layer

  Backend& backend_;
  KvType kv_type_;
  std::vector<KvLayer> kv_layers_;  // n_kv_heads 0 for recurrent layers
  int64_t page_bytes_ = 0;
  std::unique_ptr<Buffer> pages_, states_;
  std::vector<int32_t> page_references_, free_pages_, free_slots_;
  std::vector<bool> resident_;  // pages that were written to, and not given back
  int resident_pages_ = 0, pages_max_ = 0;
  int64_t state_floats_ = 0;
  std::vector<int64_t> state_offsets_;  // floats, -1 for attention layers
  std::vector<Sequence> sequences_;
  std::vector<SequenceOp>* recorded_ = nullptr;
  std::vector<bool> changed_;  // pages
};

}  // namespace hearth
