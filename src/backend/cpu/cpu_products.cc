// Matrix products on the CPU: whatever runs together shares one loop, divided by cost, so that a step waits seldom.
#include <algorithm>
#include <array>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/math8.h"
#include "base/check.h"

namespace hearth::cpu {
namespace {

// What a panel costs, in bytes read: its own, and the multiplications with m columns beside them.
int64_t panel_cost(const CpuWeight& weight, int m) {
  return weight.panel_bytes() + weight.format().low_bytes(weight.cols()) + m * weight.cols();
}

// Of a tile of gate, and as many of up: they stay in a second-level cache.
constexpr int64_t kTileFloats = 16 << 10;
static_assert(kTileFloats >= kColumnsMax * kGroup);

// Panels that are handed out together: their rows are one group of the next product's input, and kernels take four at
// once.
constexpr int64_t kUnitPanels = kGroup / kPanelRows;
int64_t units_of(const CpuWeight& weight) { return (weight.n_panels() + kUnitPanels - 1) / kUnitPanels; }

// Many columns are cut into blocks, as kernels cut them anyway: a thread stays with one block while it goes through the
// units of the matrix, so the block stays in its cache.
int64_t n_blocks(int m) { return (m + kColumnsMax - 1) / kColumnsMax; }
struct Block {
  int first_column, columns;
  int64_t begin, end;  // units
};
// Calls body(block) for units [begin, end) of all blocks' one after the other.
void for_blocks(int m, int64_t units, int64_t begin, int64_t end, FunctionRef<void(const Block&)> body) {
  const int64_t blocks = n_blocks(m);
  while (begin < end) {
    const int64_t index = begin / units, stop = std::min(end, (index + 1) * units);
    const auto first = static_cast<int>(index * m / blocks), next = static_cast<int>((index + 1) * m / blocks);
    body({first, next - first, begin - index * units, stop - index * units});
    begin = stop;
  }
}

bool all_float(std::initializer_list<const CpuWeight*> weights) {
  return std::ranges::all_of(weights, [](const CpuWeight* each) { return each->format().is_float(); });
}

// `panel_cost` is of one panel with all m columns.
Share share_of(int64_t units, int m, int64_t panel_cost) {
  return {units * n_blocks(m), std::max<int64_t>(1, kUnitPanels * panel_cost / n_blocks(m))};
}

}  // namespace

void CpuBackend::share_out(std::span<const Share> shares, FunctionRef<void(size_t, int64_t, int64_t, int)> body) {
  int64_t total = 0, units = 0;
  for (const Share& share : shares) total += share.units * share.unit_cost, units += share.units;
  // Small enough that a thread that is held up holds up little; large enough that handing out costs little.
  constexpr int64_t kPieceCost = 96 << 10;
  const int64_t most = pool_.n_threads() * int64_t{24}, least = pool_.n_threads() * int64_t{4};
  const int64_t pieces = std::min(units, std::clamp(total / kPieceCost, least, most));
  pool_.parallel_for(pieces, 1, [&](int64_t begin, int64_t end, int thread) {
    // A unit belongs to the piece that its first byte lies in.
    const int64_t low = begin * total / pieces, high = end * total / pieces;
    int64_t before = 0;
    for (size_t i = 0; i < shares.size() && before < high; ++i) {
      const Share& share = shares[i];
      auto first_at = [&](int64_t cost) {
        return std::clamp<int64_t>((cost - before + share.unit_cost - 1) / share.unit_cost, 0, share.units);
      };
      const int64_t from = low <= before ? 0 : first_at(low), to = first_at(high);
      if (from < to) body(i, from, to, thread);
      before += share.units * share.unit_cost;
    }
  });
}

void CpuBackend::multiply_panels(const Operand& in, const CpuWeight& weight, int slice, int64_t panel_begin,
                                 int64_t panel_end, float* out, int64_t out_stride, const Epilogue& epilogue,
                                 int thread) {
  std::byte* scratch = aligned(thread_scratch_[static_cast<size_t>(thread)], matmul_scratch_bytes(in.k));
  const int64_t first_row = panel_begin * kPanelRows;
  find_matmul(kernels_, weight.format())(
      weight.format(), {.panels = weight.panel(slice, panel_begin),
                        .panel_stride = weight.panel_bytes(),
                        .low = weight.low_panel(slice, panel_begin),
                        .rows = weight.rows() - first_row,
                        .k = in.k,
                        .panel_begin = 0,
                        .panel_end = panel_end - panel_begin,
                        .m = in.m,
                        .x = in.x,
                        .x_stride = in.stride,
                        .xq = in.codes,
                        .out = out,
                        .out_stride = out_stride,
                        .epilogue = {epilogue.bias ? epilogue.bias + first_row : nullptr, epilogue.accumulate},
                        .scratch = scratch});
}

void CpuBackend::multiply(std::span<const Product> products) {
  shares_.clear();
  int64_t k = 0;
  for (const Product& product : products) k = std::max(k, product.in->k);
  reserve(thread_scratch_, matmul_scratch_bytes(k) + kCacheLine);
  for (const Product& product : products)
    shares_.push_back(share_of(units_of(*product.weight), product.in->m, panel_cost(*product.weight, product.in->m)));
  share_out(shares_, [&](size_t index, int64_t begin, int64_t end, int thread) {
    const Product& p = products[index];
    for_blocks(p.in->m, units_of(*p.weight), begin, end, [&](const Block& block) {
      const int64_t from = block.begin * kUnitPanels, to = std::min(block.end * kUnitPanels, p.weight->n_panels());
      multiply_panels(p.in->rows(block.first_column, block.columns), *p.weight, p.slice, from, to,
                      p.out + block.first_column * p.out_stride + from * kPanelRows, p.out_stride, p.epilogue, thread);
    });
  });
}

// Units of kUnitPanels panels of both matrices: multiplied into this thread's scratch, joined and quantised from there.
void CpuBackend::gated_units(const GatedProduct& product, Activation activation, int first_column, int columns,
                             int64_t begin, int64_t end, int thread) {
  const Operand in = product.in->rows(first_column, columns);
  const int64_t rows = product.gate->rows(), n_panels = product.gate->n_panels();
  const int64_t step = std::max<int64_t>(1, kTileFloats / (in.m * kGroup));
  for (int64_t unit = begin; unit < end; unit += step) {
    const int64_t from = unit * kUnitPanels, to = std::min(n_panels, std::min(end, unit + step) * kUnitPanels);
    const int64_t first = from * kPanelRows, width = std::min(rows, to * kPanelRows) - first;
    float* gate = thread_floats_[static_cast<size_t>(thread)].at_least(2 * in.m * width);
    float* up = gate + in.m * width;
    multiply_panels(in, *product.gate, product.slice, from, to, gate, width, {}, thread);
    multiply_panels(in, *product.up, product.slice, from, to, up, width, {}, thread);
    for (int r = 0; r < in.m; ++r) {
      float* row = gate + r * width;
      const int64_t to_row = first_column + r;
      kernels_.glu(activation, row, up + r * width, width, product.out ? product.out + to_row * rows + first : row);
      if (product.codes.codes) kernels_.quantize_rows(row, width, 1, product.codes.part(to_row, first, width));
    }
  }
}

void CpuBackend::multiply_gated(std::span<const GatedProduct> products, Activation activation) {
  shares_.clear();
  int64_t k = 0;
  for (const GatedProduct& product : products) k = std::max(k, product.in->k);
  reserve(thread_scratch_, matmul_scratch_bytes(k) + kCacheLine);
  reserve(thread_floats_, 2 * kTileFloats);
  for (const GatedProduct& product : products)
    shares_.push_back(share_of(units_of(*product.gate), product.in->m,
                               panel_cost(*product.gate, product.in->m) + panel_cost(*product.up, product.in->m)));
  share_out(shares_, [&](size_t index, int64_t begin, int64_t end, int thread) {
    const GatedProduct& product = products[index];
    for_blocks(product.in->m, units_of(*product.gate), begin, end, [&](const Block& block) {
      gated_units(product, activation, block.first_column, block.columns, block.begin, block.end, thread);
    });
  });
}

void CpuBackend::linear(const LinearInput& in, std::span<const LinearPart> parts) {
  constexpr size_t kPartsMax = 8;
  CHECK(parts.size() <= kPartsMax);
  std::array<Product, kPartsMax> products;
  Operand operand;
  bool any_float = false, any_codes = false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearPart& part = parts[i];
    const auto* weight = static_cast<const CpuWeight*>(part.weight);
    CHECK(weight->cols() == in.x.cols && weight->rows() == part.out.cols);
    (weight->format().is_float() ? any_float : any_codes) = true;
    products[i] = {.in = &operand,
                   .weight = weight,
                   .slice = 0,
                   .out = floats(part.out),
                   .out_stride = part.out.stride,
                   .epilogue = {part.bias ? floats(*part.bias) : nullptr, part.accumulate}};
  }
  operand = prepare(in, any_float, any_codes);
  multiply({products.data(), parts.size()});
}

void CpuBackend::feed_forward(const LinearInput& in, const FeedForwardParams& params, Rows out, bool accumulate) {
  const auto *gate = static_cast<const CpuWeight*>(params.gate), *up = static_cast<const CpuWeight*>(params.up),
             *down = static_cast<const CpuWeight*>(params.down);
  CHECK(gate->cols() == in.x.cols && gate->rows() == up->rows() && down->cols() == gate->rows());
  const bool floats_in = gate->format().is_float() || up->format().is_float();
  const Operand operand = prepare(in, floats_in, !all_float({gate, up}));
  const Operand hidden = hidden_rows(in.x.n, *down);
  const GatedProduct gated{&operand, gate, up, 0, const_cast<float*>(hidden.x), hidden.codes};
  multiply_gated({&gated, 1}, activation_of(params.glu));
  const Product product{&hidden, down, 0, floats(out), out.stride, {nullptr, accumulate}};
  multiply({&product, 1});
}

// Room for the input of `down`, in the form it wants.
Operand CpuBackend::hidden_rows(int m, const CpuWeight& down) {
  const int64_t k = down.cols();
  Operand hidden{.x = nullptr, .stride = k, .k = k, .m = m};
  if (down.format().is_float())
    hidden.x = reinterpret_cast<float*>(aligned(hidden_, m * k * 4));
  else
    hidden.codes = QuantizedRows::in(aligned(hidden_, m * QuantizedRows::bytes_per_row(k)), m, k);
  return hidden;
}

}  // namespace hearth::cpu
