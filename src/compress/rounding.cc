#include "compress/rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "compress/float_product.h"
#include "compress/grid.h"
#include "tensor/element.h"

namespace hearth::compress {
namespace {

// Columns whose errors are fed back within a row at once; those of earlier spans come as a product of matrices.
constexpr int64_t kSpan = kGroup * kSuperGroups;

// A part of a row while it is rounded.
struct Span {
  int64_t first = 0;
  int n = 0;
  const float* weights;                        // of the row
  const float* counts;                         // D
  const float* factors;                        // U of the part, [n][n]; null: no feedback
  std::array<float, kSpan> target{}, error{};  // w + fed-back errors; w - q
};

// Rounds the rows of one matrix, a span of columns after the other.
class RowRounder {
 public:
  RowRounder(const TypeInfo& type, int64_t k) : type_(type), format_(type.panel), grid_(type.panel), k_(k) {}

  [[nodiscard]] RowCodes empty_row() const {
    const auto n = static_cast<size_t>(k_), blocks = n / static_cast<size_t>(format_.block);
    const size_t supers = format_.has_super() ? (n + kSpan - 1) / kSpan : 0;
    RowCodes row;
    row.codes.resize(n), row.scales.resize(blocks), row.d.resize(supers);
    if (format_.has_min) row.mins.resize(blocks), row.dmin.resize(supers);
    return row;
  }

  // The sum of counts * (target - q)^2.
  double round(Span& span, RowCodes& row) const {
    if (format_.has_super()) choose_super(span, row);
    double error = 0;
    for (int at = 0; at < span.n; at += format_.block) {
      const auto block = static_cast<size_t>((span.first + at) / format_.block);
      choose_block(span, at, block, row);
      error += round_block(span, at, block, row);
    }
    return error;
  }

 private:
  [[nodiscard]] BlockScale best(const Span& span, int at) const {
    const float *x = span.target.data() + at, *counts = span.counts + span.first + at;
    if (format_.has_min) return best_scale_min(grid_, x, counts, format_.block, format_.has_super());
    return {best_scale(grid_, x, counts, format_.block), 0};
  }
  [[nodiscard]] float error_of(const Span& span, int at, BlockScale scale) const {
    return block_error(grid_, span.target.data() + at, span.counts + span.first + at, format_.block, scale);
  }

  // d and dmin of the span, so that the largest scale of its blocks just fits.
  void choose_super(const Span& span, RowCodes& row) const {
    float scale = 0, min = 0;
    for (int at = 0; at < span.n; at += format_.block) {
      const BlockScale block = best(span, at);
      if (std::abs(block.scale) > std::abs(scale)) scale = block.scale;
      min = std::min(min, block.min);
    }
    const auto index = static_cast<size_t>(span.first / kSpan);
    const ScaleRange range = type_.scales;
    row.d[index] = f32_to_f16(scale / static_cast<float>(range.lo < 0 ? range.lo : range.hi));
    if (format_.has_min) row.dmin[index] = f32_to_f16(-min / static_cast<float>(range.hi));
  }

  [[nodiscard]] BlockScale stored(const RowCodes& row, size_t block) const {
    const size_t super = block * static_cast<size_t>(format_.block) / kSpan;
    BlockScale out{element_scale(format_, row.scales[block], format_.has_super() ? row.d[super] : uint16_t{0}), 0};
    if (format_.has_min) {
      out.min = element_min(format_, row.mins[block], format_.has_super() ? row.dmin[super] : uint16_t{0});
      if (format_.has_super()) out.min = -out.min;
    }
    return out;
  }

  void choose_block(const Span& span, int at, size_t block, RowCodes& row) const {
    const BlockScale wanted = best(span, at);
    if (format_.scale == ScaleKind::kE8M0) return choose_exponent(span, at, block, wanted.scale, row);
    if (!format_.has_super()) {
      row.scales[block] = f32_to_f16(wanted.scale);
      if (format_.has_min) row.mins[block] = f32_to_f16(wanted.min);
      return;
    }
    const size_t super = block * static_cast<size_t>(format_.block) / kSpan;
    const int min = format_.has_min ? integer_near(-wanted.min, row.dmin[super], 0, type_.scales.hi) : 0;
    if (format_.has_min) row.mins[block] = static_cast<uint16_t>(min);
    // The integer nearest to the wanted scale and its neighbours.
    const int near = integer_near(wanted.scale, row.d[super], type_.scales.lo, type_.scales.hi);
    float best_error = INFINITY;
    uint16_t best_scale = 0;
    for (int scale = std::max(type_.scales.lo, near - 1); scale <= std::min(type_.scales.hi, near + 1); ++scale) {
      row.scales[block] = static_cast<uint8_t>(scale);
      const float error = error_of(span, at, stored(row, block));
      if (error < best_error) best_error = error, best_scale = row.scales[block];
    }
    row.scales[block] = best_scale;
  }
  static int integer_near(float value, uint16_t unit, int lo, int hi) {
    const float d = f16_to_f32(unit), ratio = d == 0 ? 0 : value / d;
    if (!(ratio > static_cast<float>(lo))) return lo;
    return ratio >= static_cast<float>(hi) ? hi : static_cast<int>(std::lround(ratio));
  }
  // Powers of two: the three around the wanted scale.
  void choose_exponent(const Span& span, int at, size_t block, float wanted, RowCodes& row) const {
    const int near = wanted != 0 && std::isfinite(wanted) ? std::ilogb(wanted) + 128 : 0;
    float best_error = INFINITY;
    uint16_t best_exponent = 0;
    for (int exponent = std::max(0, near - 1); exponent <= std::min(254, near + 1); ++exponent) {
      const float error = error_of(span, at, {e8m0_half_to_f32(static_cast<uint8_t>(exponent)), 0});
      if (error < best_error) best_error = error, best_exponent = static_cast<uint16_t>(exponent);
    }
    row.scales[block] = best_exponent;
  }

  double round_block(Span& span, int at, size_t block, RowCodes& row) const {
    const BlockScale scale = stored(row, block);
    const float inverse = scale.scale == 0 || !std::isfinite(1 / scale.scale) ? 0 : 1 / scale.scale;
    double error = 0;
    for (int i = at; i < at + format_.block; ++i) {
      const float level = grid_.nearest((span.target[i] - scale.min) * inverse);
      const float value = scale.scale * level + scale.min;
      row.codes[static_cast<size_t>(span.first + i)] = grid_.code(level);
      const float off = span.target[i] - value;
      error += static_cast<double>(span.counts[span.first + i]) * off * off;
      span.error[i] = span.weights[span.first + i] - value;
      if (!span.factors) continue;
      const float* u = span.factors + i * span.n;
      for (int j = i + 1; j < span.n; ++j) span.target[j] += span.error[i] * u[j];
    }
    return error;
  }

  const TypeInfo& type_;
  const PanelFormat& format_;
  Grid grid_;
  int64_t k_;
};

// What the errors of columns [0, first) add to columns [first, first + n) of every row.
class FedBack {
 public:
  static Result<FedBack> create(Backend& backend, const ErrorFeedback& feedback, int64_t rows) {
    FedBack out(backend, feedback, rows);
    if (!feedback.has_factors()) return out;
    out.errors_ = TRY(backend.allocate(rows * feedback.k() * 4));
    out.sums_ = TRY(backend.allocate(rows * kSpan * 4));
    return out;
  }
  // [rows][n]; zeros for the first span, or without feedback.
  Result<std::vector<float>> at(int64_t first, int n) {
    std::vector<float> sums(static_cast<size_t>(rows_ * n));
    if (!errors_ || first == 0) return sums;
    std::vector<float> columns(static_cast<size_t>(first * n));
    for (int64_t j = 0; j < first; ++j)
      for (int i = 0; i < n; ++i) columns[static_cast<size_t>(i * first + j)] = feedback_->row(j)[first + i];
    backend_->upload(*sums_, 0, std::as_bytes(std::span(sums)));
    TRY(add_product(*backend_, {errors_.get(), 0, static_cast<int>(rows_), first, feedback_->k()}, columns, n,
                    {sums_.get(), 0, static_cast<int>(rows_), n, n}));
    backend_->download(*sums_, 0, std::as_writable_bytes(std::span(sums)));
    return sums;
  }
  // The errors of a span: [rows][n].
  void add(std::span<const float> errors, int64_t first, int n) {
    if (!errors_) return;
    for (int64_t row = 0; row < rows_; ++row)
      backend_->upload(*errors_, (row * feedback_->k() + first) * 4,
                       std::as_bytes(errors.subspan(static_cast<size_t>(row * n), static_cast<size_t>(n))));
  }

 private:
  FedBack(Backend& backend, const ErrorFeedback& feedback, int64_t rows)
      : backend_(&backend), feedback_(&feedback), rows_(rows) {}
  Backend* backend_;
  const ErrorFeedback* feedback_;
  int64_t rows_;
  std::unique_ptr<Buffer> errors_, sums_;
};

double power_of(std::span<const float> weights, std::span<const float> diagonal) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i)
    sum += static_cast<double>(weights[i]) * weights[i] * diagonal[i % diagonal.size()];
  return sum;
}

}  // namespace

Result<Rounded> round_matrix(const TypeInfo& type, std::span<const float> weights, int64_t rows,
                             const ErrorFeedback& feedback, Backend& backend, ThreadPool& pool) {
  const int64_t k = feedback.k();
  const RowRounder rounder(type, k);
  std::vector<RowCodes> codes(static_cast<size_t>(rows), rounder.empty_row());
  std::vector<double> row_errors(static_cast<size_t>(rows));
  FedBack fed_back = TRY(FedBack::create(backend, feedback, rows));
  for (int64_t first = 0; first < k; first += kSpan) {
    const int n = static_cast<int>(std::min(kSpan, k - first));
    const std::vector<float> sums = TRY(fed_back.at(first, n));
    std::vector<float> errors(sums.size()), factors;
    for (int64_t j = first; feedback.has_factors() && j < first + n; ++j)
      factors.insert(factors.end(), feedback.row(j) + first, feedback.row(j) + first + n);
    pool.parallel_for(rows, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        Span span{.first = first,
                  .n = n,
                  .weights = weights.data() + row * k,
                  .counts = feedback.weights().data(),
                  .factors = factors.empty() ? nullptr : factors.data()};
        for (int i = 0; i < n; ++i) span.target[i] = span.weights[first + i] + sums[static_cast<size_t>(row * n + i)];
        row_errors[static_cast<size_t>(row)] += rounder.round(span, codes[static_cast<size_t>(row)]);
        std::copy_n(span.error.begin(), n, errors.begin() + row * n);
      }
    });
    fed_back.add(errors, first, n);
  }
  Rounded out;
  for (const double error : row_errors) out.error += error;
  out.power = power_of(weights, feedback.diagonal());
  const auto row_size = static_cast<int64_t>(*row_bytes(type, static_cast<uint64_t>(k)));
  out.blocks.resize(static_cast<size_t>(rows * row_size));
  pool.parallel_for(rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      type.join(codes[static_cast<size_t>(row)], k, out.blocks.data() + row * row_size);
  });
  return out;
}

}  // namespace hearth::compress
