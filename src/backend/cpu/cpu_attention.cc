// KV pages and attention on the CPU.
//
// A page of one layer holds, per KV head, keys [head_dim][32] then values [32][head_dim]; i8 pages add 32 float scales after
// each. Keys lie with positions side by side, so that scores come out as lanes without sums across lanes.
//
// A query's result is defined by its position alone ("one answer"): pages in order, in segments of kSegmentPages that start from
// nothing and are merged in order. So segments can run on different threads (decoding a long context) or one after the other
// (prefill), and batch mix, chunking and thread count change nothing.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/math8.h"
#include "base/check.h"

namespace hearth::cpu {
namespace {

constexpr int kSegmentPages = 8;
constexpr int kSegmentPositions = kSegmentPages * kPagePositions;
constexpr int64_t kTileFloats =
    8192;  // queries of a tile: 32 KiB, so that they and one page stay in a first- or second-level cache
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Byte offsets within one KV head's part of a page.
struct HeadLayout {
  explicit HeadLayout(const KvLayer& layer)
      : i8(layer.type == KvType::kI8),
        half(int64_t{layer.head_dim} * kPagePositions * (i8 ? 1 : 2) + (i8 ? kPagePositions * 4 : 0)) {}
  bool i8;
  int64_t half;  // bytes of the keys (codes, then scales); the values' are as many
  [[nodiscard]] int64_t bytes() const { return 2 * half; }
  [[nodiscard]] int64_t scales(const KvLayer& layer) const { return int64_t{layer.head_dim} * kPagePositions; }
};

std::byte* head_data(const KvLayer& layer, int32_t page, int head) {
  return data(*layer.buffer) + page * layer.page_stride + layer.offset + head * HeadLayout(layer).bytes();
}

// One row of head_dim floats into slot `slot`; `stride` between its elements: 32 for keys, 1 for values.
void write_i8(const float* from, int head_dim, int64_t first, int64_t stride, int8_t* codes, float* scale) {
  uint32_t bits = 0;  // as integers, magnitudes compare the same and NaN is above all
  for (int d = 0; d < head_dim; ++d) bits = std::max(bits, std::bit_cast<uint32_t>(from[d]) & 0x7fffffffu);
  const auto largest = std::bit_cast<float>(bits);
  const bool usable = std::isfinite(largest) && largest >= kQuantizeMin;  // below it, 127 / largest is infinite
  *scale = usable ? largest / 127.0f : std::isfinite(largest) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  const float inverse = usable ? 127.0f / largest : 0.0f;
  for (int d = 0; d < head_dim; ++d)
    codes[first + d * stride] = usable ? static_cast<int8_t>(std::nearbyint(from[d] * inverse)) : int8_t{0};
}

void write_row(const Kernels& kernels, const KvLayer& layer, const float* k, const float* v, int32_t page, int slot,
               uint16_t* scratch) {
  const HeadLayout layout(layer);
  const int hd = layer.head_dim;
  for (int head = 0; head < layer.n_kv_heads; ++head, k += hd, v += hd) {
    std::byte* keys = head_data(layer, page, head);
    std::byte* values = keys + layout.half;
    if (layout.i8) {
      write_i8(k, hd, slot, kPagePositions, reinterpret_cast<int8_t*>(keys),
               reinterpret_cast<float*>(keys + layout.scales(layer)) + slot);
      write_i8(v, hd, int64_t{slot} * hd, 1, reinterpret_cast<int8_t*>(values),
               reinterpret_cast<float*>(values + layout.scales(layer)) + slot);
      continue;
    }
    kernels.f32_to_f16(k, hd, scratch);
    auto* to = reinterpret_cast<uint16_t*>(keys) + slot;
    for (int d = 0; d < hd; ++d) to[d * kPagePositions] = scratch[d];
    kernels.f32_to_f16(v, hd, reinterpret_cast<uint16_t*>(values) + int64_t{slot} * hd);
  }
}

// Running state of n queries: maximum, sum, output.
struct Partial {
  float *m, *l, *o;
  static int64_t floats(int64_t n, int head_dim) { return n * (2 + head_dim); }
  static Partial at(float* memory, int64_t n) { return {memory, memory + n, memory + 2 * n}; }
  void clear(int n, int head_dim) const {
    std::fill(m, m + n, kNothing);
    std::fill(l, l + n, 0.0f);
    std::fill(o, o + int64_t{n} * head_dim, 0.0f);
  }
};

// Adds a finished segment to the total: the recurrence of attend(), with a segment in the place of a page.
void merge(const Partial& total, const Partial& segment, int n, int head_dim) {
  for (int i = 0; i < n; ++i) {
    if (segment.m[i] == kNothing) continue;
    const float m = std::max(total.m[i], segment.m[i]);
    const float keep = exp_f32(total.m[i] - m), take = exp_f32(segment.m[i] - m);
    float* to = total.o + int64_t{i} * head_dim;
    const float* from = segment.o + int64_t{i} * head_dim;
    total.l[i] = total.l[i] * keep + segment.l[i] * take;
    for (int d = 0; d < head_dim; ++d) to[d] = to[d] * keep + from[d] * take;
    total.m[i] = m;
  }
}

// Queries of one sequence and one KV head: tokens [first, first + count) of the sequence's rows, all heads of the group each.
struct Tile {
  const Kernels* kernels;
  const KvLayer* layer;
  const SequenceRows* sequence;
  const AttentionParams* params;
  int kv_head, first, count, group;
  float* memory;

  [[nodiscard]] int n() const { return count * group; }
  [[nodiscard]] int head_dim() const { return layer->head_dim; }
  [[nodiscard]] int position(int token) const { return sequence->position + first + token; }
  [[nodiscard]] int first_key(int token) const {
    return params->window > 0 ? std::max(0, position(token) - params->window + 1) : 0;
  }
  [[nodiscard]] int first_segment() const { return first_key(0) / kSegmentPositions; }
  [[nodiscard]] int end_segment() const { return position(count - 1) / kSegmentPositions + 1; }

  // Scratch: queries, keys and values of a page, ranges.
  static int64_t scratch_floats(int64_t n, int head_dim) {
    return n * head_dim + 2 * int64_t{head_dim} * kPagePositions + 2 * n;
  }
  [[nodiscard]] float* queries() const { return memory; }
  [[nodiscard]] float* keys() const { return memory + int64_t{n()} * head_dim(); }
  [[nodiscard]] float* values() const { return keys() + int64_t{head_dim()} * kPagePositions; }
  [[nodiscard]] int* begins() const { return reinterpret_cast<int*>(values() + int64_t{head_dim()} * kPagePositions); }
  [[nodiscard]] int* ends() const { return begins() + n(); }

  void load_queries(const Rows& q) const {
    const int hd = head_dim();
    for (int t = 0; t < count; ++t) {
      const float* from = floats(q) + (sequence->first_row + first + t) * q.stride + int64_t{kv_head} * group * hd;
      std::memcpy(queries() + int64_t{t} * group * hd, from, static_cast<size_t>(group * hd) * sizeof(float));
    }
  }

  void load_page(int32_t page) const {
    const HeadLayout layout(*layer);
    const int64_t n = int64_t{head_dim()} * kPagePositions;
    const std::byte* k = head_data(*layer, page, kv_head);
    const std::byte* v = k + layout.half;
    if (layout.i8) {
      kernels->i8_keys_to_f32(reinterpret_cast<const int8_t*>(k), reinterpret_cast<const float*>(k + n), n, keys());
      kernels->i8_values_to_f32(reinterpret_cast<const int8_t*>(v), reinterpret_cast<const float*>(v + n), head_dim(),
                                n, values());
    } else {
      kernels->f16_to_f32(reinterpret_cast<const uint16_t*>(k), n, keys());
      kernels->f16_to_f32(reinterpret_cast<const uint16_t*>(v), n, values());
    }
  }

  void attend_segment(int segment, const Partial& state) const {
    const int last = position(count - 1);
    const int end_page = std::min((segment + 1) * kSegmentPages, last / kPagePositions + 1);
    for (int page = std::max(segment * kSegmentPages, first_key(0) / kPagePositions); page < end_page; ++page) {
      const int start = page * kPagePositions;
      for (int i = 0; i < n(); ++i) {
        begins()[i] = std::clamp(first_key(i / group) - start, 0, kPagePositions);
        ends()[i] = std::clamp(position(i / group) + 1 - start, 0, kPagePositions);
      }
      load_page(sequence->pages[static_cast<size_t>(page)]);
      kernels->attend({.q = queries(),
                       .q_stride = head_dim(),
                       .n = n(),
                       .head_dim = head_dim(),
                       .k = keys(),
                       .v = values(),
                       .begin = begins(),
                       .end = ends(),
                       .scale = params->scale,
                       .soft_cap = params->soft_cap,
                       .m = state.m,
                       .l = state.l,
                       .o = state.o,
                       .o_stride = head_dim()});
    }
  }

  void store(const Partial& total, const Rows& out) const {
    const int hd = head_dim();
    for (int i = 0; i < n(); ++i) {
      float* to = floats(out) + (sequence->first_row + first + i / group) * out.stride +
                  int64_t{kv_head * group + i % group} * hd;
      for (int d = 0; d < hd; ++d) to[d] = total.o[int64_t{i} * hd + d] / total.l[i];
    }
  }
};

// A work item is one segment of a decode row's cache, or a whole tile of prefill.
struct Item {
  Tile tile;
  int segment;      // -1: all, one after the other
  int64_t partial;  // offset of the segment's result
};

// The items of a step, tiles of at most `shape.count` tokens; returns the floats that the segments' results need.
int64_t plan_items(const Tile& shape, std::span<const SequenceRows> sequences, std::vector<Item>& items) {
  constexpr int kFewTokens = 4;
  items.clear();
  int64_t partial_floats = 0;
  for (const SequenceRows& sequence : sequences) {
    const bool split = sequence.count <= kFewTokens && sequence.position >= kSegmentPositions;
    for (int first = 0; first < sequence.count; first += shape.count) {
      for (int head = 0; head < shape.layer->n_kv_heads; ++head) {
        Tile tile = shape;
        tile.sequence = &sequence;
        tile.kv_head = head;
        tile.first = first;
        tile.count = std::min(shape.count, sequence.count - first);
        if (!split) {
          items.push_back({tile, -1, 0});
          continue;
        }
        for (int segment = tile.first_segment(); segment < tile.end_segment(); ++segment) {
          items.push_back({tile, segment, partial_floats});
          partial_floats += Partial::floats(tile.n(), tile.head_dim());
        }
      }
    }
  }
  return partial_floats;
}

}  // namespace

int64_t CpuBackend::kv_page_bytes(const KvLayer& layer) const { return HeadLayout(layer).bytes() * layer.n_kv_heads; }

void CpuBackend::kv_write(const KvLayer& layer, Rows k, Rows v, std::span<const SequenceRows> sequences) {
  for (const SequenceRows& sequence : sequences) {
    for_rows(sequence.count, 2 * k.cols, [&](int i) {
      thread_local std::vector<uint16_t> scratch;
      scratch.resize(static_cast<size_t>(layer.head_dim));
      const int position = sequence.position + i;
      const int64_t row = sequence.first_row + i;
      write_row(kernels_, layer, floats(k) + row * k.stride, floats(v) + row * v.stride,
                sequence.pages[static_cast<size_t>(position / kPagePositions)], position % kPagePositions,
                scratch.data());
    });
  }
}

void CpuBackend::attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences,
                           const AttentionParams& params, Rows out) {
  const int hd = layer.head_dim;
  const int group = static_cast<int>(q.cols / hd) / layer.n_kv_heads;
  const int tile_tokens = static_cast<int>(std::max<int64_t>(1, kTileFloats / (int64_t{hd} * group)));

  thread_local std::vector<Item> items;
  const int64_t partial_floats =
      plan_items(Tile{&kernels_, &layer, nullptr, &params, 0, 0, tile_tokens, group, nullptr}, sequences, items);
  float* partials = partials_.at_least(partial_floats);
  const int64_t n_max = int64_t{tile_tokens} * group;
  const int64_t state = Partial::floats(n_max, hd);
  auto tile_of = [&](const Item& item, int thread) {
    Tile tile = item.tile;
    tile.memory = thread_floats_[static_cast<size_t>(thread)].at_least(Tile::scratch_floats(n_max, hd) + 2 * state);
    return tile;
  };
  auto run = [&](const Item& item, int thread) {
    const Tile tile = tile_of(item, thread);
    tile.load_queries(q);
    if (item.segment >= 0) {
      const Partial result = Partial::at(partials + item.partial, tile.n());
      result.clear(tile.n(), hd);
      return tile.attend_segment(item.segment, result);
    }
    float* memory = tile.memory + Tile::scratch_floats(n_max, hd);
    const Partial total = Partial::at(memory, tile.n()), part = Partial::at(memory + state, tile.n());
    const int first = tile.first_segment(), end = tile.end_segment();
    total.clear(tile.n(), hd);
    for (int segment = first; segment < end; ++segment) {
      const Partial& target = segment == first ? total : part;
      if (segment != first) part.clear(tile.n(), hd);
      tile.attend_segment(segment, target);
      if (segment != first) merge(total, part, tile.n(), hd);
    }
    tile.store(total, out);
  };
  const std::vector<Item>& work = items;
  // Too little to wake the workers for: few positions, few rows.
  int64_t cost = 0;
  for (const SequenceRows& s : sequences) cost += int64_t{s.count} * (s.position + s.count) * q.cols / 8;
  if (cost < 20'000) {
    for (const Item& item : work) run(item, 0);
  } else {
    pool_.parallel_for(static_cast<int64_t>(work.size()), 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) run(work[static_cast<size_t>(i)], thread);
    });
  }
  // Segments that ran apart are merged in order.
  for (size_t i = 0; i < work.size(); ++i) {
    if (work[i].segment < 0) continue;
    const Tile tile = tile_of(work[i], 0);
    const Partial total = Partial::at(partials + work[i].partial, tile.n());
    const int last = tile.end_segment() - 1;
    while (work[i].segment < last) {
      ++i;
      merge(total, Partial::at(partials + work[i].partial, tile.n()), tile.n(), hd);
    }
    tile.store(total, out);
  }
}

}  // namespace hearth::cpu
