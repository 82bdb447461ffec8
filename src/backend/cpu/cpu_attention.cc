// KV pages and attention on the CPU.
//
// A query's result is defined by its position alone ("one answer"): pages in order, in segments of kSegmentPages that
// start from nothing and are merged in order. So segments can run on different threads (decoding a long context) or
// one after the other (prefill), and batch mix, chunking and thread count change nothing.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace hearth::cpu {
namespace {

static_assert(kPagePositions == kKvPagePositions);
constexpr int kSegmentPages = 8;
constexpr int kSegmentPositions = kSegmentPages * kPagePositions;
// Queries of a tile: 32 KiB, so that they, their outputs and one page stay in a second-level cache.
constexpr int64_t kTileFloats = 8192;

// Up to so many rows of a sequence, its segments are shared out; beyond, its tiles are.
constexpr int kFewTokens = 8;

PageLayout layout_of(const KvLayer& layer) {
  return {layer.type == KvType::kF16 ? 16 : layer.type == KvType::kI8 ? 8 : 4, layer.head_dim};
}

std::byte* head_data(const KvLayer& layer, int32_t page, int head) {
  return data(*layer.buffer) + page * layer.page_stride + layer.offset + head * layout_of(layer).bytes();
}

// One position's key and value of one KV head.
void write_halves(const Kernels& kernels, const PageLayout& layout, const float* k, const float* v, int slot,
                  uint16_t* scratch, std::byte* page) {
  const int64_t dim = layout.head_dim;
  kernels.f32_to_f16(k, dim, scratch);
  auto* keys = reinterpret_cast<uint16_t*>(page) + slot;
  for (int64_t d = 0; d < dim; ++d) keys[d * kPagePositions] = scratch[d];
  kernels.f32_to_f16(v, dim, reinterpret_cast<uint16_t*>(page + layout.values()) + int64_t{slot} * layout.padded());
}

void write_codes(const Kernels& kernels, const PageLayout& layout, const float* k, const float* v, int slot,
                 int8_t* scratch, std::byte* page) {
  const int64_t dim = layout.head_dim;
  std::fill(scratch + dim, scratch + layout.padded(), int8_t{0});
  reinterpret_cast<float*>(page + layout.key_scales())[slot] = kernels.quantize_i8(k, dim, scratch);
  for (int64_t four = 0; four < layout.key_words(); ++four) {
    const int8_t* c = scratch + 4 * four;
    const int8_t in_order[4] = {c[0], c[2], c[1], c[3]};
    std::memcpy(page + (four * kPagePositions + slot) * 4, in_order, sizeof in_order);
  }
  reinterpret_cast<float*>(page + layout.value_scales())[slot] = kernels.quantize_i8(v, dim, scratch);
  auto* values = reinterpret_cast<int8_t*>(page + layout.values()) + int64_t{slot / 4} * layout.padded() * 4;
  for (int64_t d = 0; d < dim; ++d) values[4 * d + kPlaceInFour[slot % 4]] = scratch[d];
}

// Keys come rotated, values are rotated here.
void write_nibbles(const Kernels& kernels, const PageLayout& layout, const float* k, const float* v, int slot,
                   float* scratch, std::byte* page) {
  const int64_t dim = layout.head_dim, padded = layout.padded();
  int8_t codes[kGroupElements];
  auto bits = [&](int64_t i) { return static_cast<uint32_t>(codes[i]) & 15u; };
  auto load = [&](const float* from) {
    std::copy(from, from + dim, scratch);
    std::fill(scratch + dim, scratch + int64_t{layout.groups()} * kGroupElements, 0.0f);
  };
  load(k);
  for (int64_t group = 0; group < layout.groups(); ++group) {
    reinterpret_cast<uint16_t*>(page + layout.key_scales())[group * kPagePositions + slot] =
        kernels.quantize_i4(scratch + group * kGroupElements, codes);
    auto* words = reinterpret_cast<uint32_t*>(page) + group * 4 * kPagePositions + slot;
    for (int64_t eight = 0; eight < 4 && group * 4 + eight < layout.key_words(); ++eight, words += kPagePositions) {
      *words = 0;
      for (int i = 0; i < 8; ++i) *words |= bits(8 * eight + i) << place_in_word(i);
    }
  }
  load(v);
  if (hadamard_block(layout.head_dim) > 0) kernels.hadamard(scratch, dim, hadamard_block(layout.head_dim));
  const int shift = place_in_word(slot % 8);
  for (int64_t group = 0; group < layout.groups(); ++group) {
    const int64_t first = group * kGroupElements;
    reinterpret_cast<uint16_t*>(page + layout.value_scales())[group * kPagePositions + slot] =
        kernels.quantize_i4(scratch + first, codes);
    auto* words = reinterpret_cast<uint32_t*>(page + layout.values()) + slot / 8 * padded + first;
    for (int64_t i = 0; i < std::min<int64_t>(kGroupElements, padded - first); ++i)
      words[i] = (words[i] & ~(15u << shift)) | bits(i) << shift;
  }
}

// Running state of n queries: maximum, sum, output.
struct Partial {
  float *m, *l, *o;
  static int64_t floats(int64_t n, int padded) { return n * (2 + padded); }
  static Partial at(float* memory, int64_t n) { return {memory, memory + n, memory + 2 * n}; }
  void clear(int n, int padded) const {
    std::fill(m, m + n, kNoScore);
    std::fill(l, l + n, 0.0f);
    std::fill(o, o + int64_t{n} * padded, 0.0f);
  }
};

// Queries of one sequence and one KV head: tokens [first, first + count) of the sequence's rows, all heads of the
// group each.
struct Tile {
  const Kernels* kernels;
  const KvLayer* layer;
  const SequenceRows* sequence;
  const AttentionParams* params;
  int kv_head, first, count, group;
  int segments_ahead;  // from a segment to the one this thread is likely to do next
  std::byte* memory;

  [[nodiscard]] int n() const { return count * group; }
  [[nodiscard]] int padded() const { return layout_of(*layer).padded(); }
  [[nodiscard]] int position(int token) const { return sequence->position + first + token; }
  [[nodiscard]] int first_key(int token) const {
    return params->window > 0 ? std::max(0, position(token) - params->window + 1) : 0;
  }
  [[nodiscard]] int first_segment() const { return first_key(0) / kSegmentPositions; }
  [[nodiscard]] int end_segment() const { return position(count - 1) / kSegmentPositions + 1; }

  // Scratch: the kernel's, queries, two states, ranges; all of it multiples of 64 bytes up to the queries.
  static int64_t kernel_bytes(const PageLayout& layout, int64_t n) {
    return (attend_scratch_bytes(layout, n) + 63) / 64 * 64;
  }
  static int64_t scratch_bytes(const PageLayout& layout, int64_t n) {
    return kernel_bytes(layout, n) + 4 * (n * layout.padded() + 2 * Partial::floats(n, layout.padded()) + 2 * n) + 64;
  }
  [[nodiscard]] float* queries() const {
    return reinterpret_cast<float*>(memory + kernel_bytes(layout_of(*layer), n()));
  }
  [[nodiscard]] Partial state(int index) const {
    return Partial::at(queries() + int64_t{n()} * padded() + index * Partial::floats(n(), padded()), n());
  }
  [[nodiscard]] int* ranges() const { return reinterpret_cast<int*>(state(2).m); }

  void load_queries(const Rows& q) const {
    const int64_t dim = layer->head_dim;
    float* to = queries();
    for (int t = 0; t < count; ++t) {
      const float* from = floats(q) + (sequence->first_row + first + t) * q.stride + kv_head * group * dim;
      for (int h = 0; h < group; ++h, from += dim, to += padded()) {
        std::memcpy(to, from, static_cast<size_t>(dim) * sizeof(float));
        std::fill(to + dim, to + padded(), 0.0f);
      }
    }
  }

  void attend_segment(int segment, const Partial& to) const {
    to.clear(n(), padded());
    const int begin_page = std::max(segment * kSegmentPages, first_key(0) / kPagePositions);
    const int end_page = std::min((segment + 1) * kSegmentPages, position(count - 1) / kPagePositions + 1);
    std::array<const std::byte*, kSegmentPages + kPagesAhead> pages;
    const int n_pages = end_page - begin_page;
    int n_listed = 0;
    auto list = [&](int page) {
      if (page < static_cast<int>(sequence->pages.size()))
        pages[static_cast<size_t>(n_listed++)] = head_data(*layer, sequence->pages[static_cast<size_t>(page)], kv_head);
    };
    for (int page = begin_page; page < end_page; ++page) list(page);
    for (int i = 0; i < kPagesAhead; ++i) list((segment + segments_ahead) * kSegmentPages + i);
    int *begin = ranges(), *end = begin + n();
    for (int i = 0; i < n(); ++i) {
      begin[i] = first_key(i / group) - begin_page * kPagePositions;
      end[i] = position(i / group) + 1 - begin_page * kPagePositions;
    }
    kernels->attend({.layout = layout_of(*layer),
                     .pages = pages.data(),
                     .n_pages = n_pages,
                     .n_listed = n_listed,
                     .n = n(),
                     .q = queries(),
                     .begin = begin,
                     .end = end,
                     .scale = params->scale,
                     .soft_cap = params->soft_cap,
                     .m = to.m,
                     .l = to.l,
                     .o = to.o,
                     .scratch = memory});
  }

  // The earlier segments' state with a later one's.
  void merge(const Partial& total, const Partial& part) const {
    kernels->merge({n(), padded(), total.m, total.l, total.o, part.m, part.l, part.o});
  }

  void store(const Partial& total, const Rows& out) const {
    const int64_t dim = layer->head_dim;
    const int block = layer->type == KvType::kI4 ? hadamard_block(layer->head_dim) : 0;  // of rotated values
    for (int64_t i = 0; i < n(); ++i) {
      float* to =
          floats(out) + (sequence->first_row + first + i / group) * out.stride + (kv_head * group + i % group) * dim;
      const float* from = total.o + i * padded();
      const float inverse = 1.0f / total.l[i];
      for (int64_t d = 0; d < dim; ++d) to[d] = from[d] * inverse + 0.0f;  // no zero is negative
      if (block > 0) kernels->hadamard(to, dim, block);                    // which is its own inverse
    }
  }

  void attend_all(const Rows& out) const {
    const Partial total = state(0), part = state(1);
    for (int segment = first_segment(); segment < end_segment(); ++segment) {
      attend_segment(segment, segment == first_segment() ? total : part);
      if (segment != first_segment()) merge(total, part);
    }
    store(total, out);
  }
};

// A work item is one segment of a decode row's cache, or a whole tile of prefill.
struct Item {
  Tile tile;
  int segment;      // -1: all, one after the other
  int64_t partial;  // offset of the results of the tile's segments
  int* left;        // segments of the tile not done yet
};

// The items of a step, tiles of at most `shape.count` tokens; returns the floats that the segments' results need.
// `left` has room for one count per tile of split rows.
int64_t plan_items(const Tile& shape, std::span<const SequenceRows> sequences, std::vector<Item>& items, int* left) {
  items.clear();
  int64_t partial_floats = 0;
  for (const SequenceRows& sequence : sequences) {
    const bool split = sequence.count <= kFewTokens && sequence.position >= kSegmentPositions;
    const int tiles = (sequence.count + shape.count - 1) / shape.count;
    for (int index = tiles - 1; index >= 0; --index) {  // late tokens see the most: what is long is begun first
      const int first = index * shape.count;
      for (int head = 0; head < shape.layer->n_kv_heads; ++head) {
        Tile tile = shape;
        tile.sequence = &sequence;
        tile.kv_head = head;
        tile.first = first;
        tile.count = std::min(shape.count, sequence.count - first);
        if (!split) {
          items.push_back({tile, -1, 0, nullptr});
          continue;
        }
        const int segments = tile.end_segment() - tile.first_segment();
        *left = segments;
        for (int segment = tile.first_segment(); segment < tile.end_segment(); ++segment)
          items.push_back({tile, segment, partial_floats, left});
        ++left;
        partial_floats += segments * Partial::floats(tile.n(), tile.padded());
      }
    }
  }
  return partial_floats;
}

// One segment; whoever does a tile's last puts them together, in order.
void run_segment(const Item& item, float* partials, const Rows& out) {
  const Tile& tile = item.tile;
  const int64_t each = Partial::floats(tile.n(), tile.padded());
  const int first = tile.first_segment();
  auto partial = [&](int segment) { return Partial::at(partials + item.partial + (segment - first) * each, tile.n()); };
  tile.attend_segment(item.segment, partial(item.segment));
  if (std::atomic_ref(*item.left).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (int segment = first + 1; segment < tile.end_segment(); ++segment) tile.merge(partial(first), partial(segment));
  tile.store(partial(first), out);
}

}  // namespace

int64_t CpuBackend::kv_page_bytes(const KvLayer& layer) const { return layout_of(layer).bytes() * layer.n_kv_heads; }

void CpuBackend::write_kv_row(const KvLayer& layer, Rows k, Rows v, int row, int32_t page, int slot, int thread) {
  const PageLayout layout = layout_of(layer);
  float* scratch = thread_floats_[static_cast<size_t>(thread)].at_least(int64_t{layout.groups()} * kGroupElements);
  const float *keys = floats(k) + row * k.stride, *values = floats(v) + row * v.stride;
  for (int head = 0; head < layer.n_kv_heads; ++head, keys += layer.head_dim, values += layer.head_dim) {
    std::byte* to = head_data(layer, page, head);
    if (layout.bits == 4) {
      write_nibbles(kernels_, layout, keys, values, slot, scratch, to);
    } else if (layout.bits == 8) {
      write_codes(kernels_, layout, keys, values, slot, reinterpret_cast<int8_t*>(scratch), to);
    } else {
      write_halves(kernels_, layout, keys, values, slot, reinterpret_cast<uint16_t*>(scratch), to);
    }
  }
}

void CpuBackend::attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences,
                           const AttentionParams& params, Rows out) {
  const PageLayout layout = layout_of(layer);
  const int group = static_cast<int>(q.cols / layer.head_dim) / layer.n_kv_heads;
  const int tile_tokens = static_cast<int>(std::max<int64_t>(1, kTileFloats / (int64_t{layout.padded()} * group)));

  thread_local std::vector<Item> items;
  thread_local std::vector<int> left;
  left.resize(sequences.size() * kFewTokens * static_cast<size_t>(layer.n_kv_heads));
  const int64_t partial_floats =
      plan_items(Tile{&kernels_, &layer, nullptr, &params, 0, 0, tile_tokens, group, pool_.n_threads(), nullptr},
                 sequences, items, left.data());
  float* partials = partials_.at_least(partial_floats);
  const int64_t scratch_bytes = Tile::scratch_bytes(layout, int64_t{tile_tokens} * group);
  reserve(thread_scratch_, scratch_bytes + kCacheLine);
  auto run = [&](Item item, int thread) {
    std::byte* memory = thread_scratch_[static_cast<size_t>(thread)].at_least(scratch_bytes + 64);
    item.tile.memory = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
    item.tile.load_queries(q);
    if (item.segment >= 0) return run_segment(item, partials, out);
    item.tile.attend_all(out);
  };
  const std::vector<Item>& work = items;
  // Too little to wake the workers for: few positions, few rows.
  int64_t cost = 0;
  for (const SequenceRows& s : sequences) cost += int64_t{s.count} * (s.position + s.count) * q.cols / 16;
  if (cost < kWorthSharingNs) {
    for (const Item& item : work) run(item, 0);
  } else {
    pool_.parallel_for(static_cast<int64_t>(work.size()), 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) run(work[static_cast<size_t>(i)], thread);
    });
  }
}

}  // namespace hearth::cpu
