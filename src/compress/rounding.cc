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
// How often codes are looked at again once all have been chosen. The first time gains most.
constexpr int kSweeps = 2;

// A part of a row while it is rounded; places as in ErrorFeedback.
struct Span {
  int64_t first = 0;
  int n = 0;
  const float* weights;               // of the row
  const float* factors;               // U of the part, [n][n]; null: no feedback
  float* errors;                      // of the row: w - q
  std::array<float, kSpan> target{};  // w and what was fed back
};

// How far the low codes of a nested format reach beyond its largest high code: that much of a block the scale of the high codes may
// leave out.
constexpr float kNestedReach = 16.75f;

// Rounds the rows of one matrix. A nested format is rounded twice: its high codes as the format they are by themselves, with `nested`,
// then the low codes with high codes and scales as they are.
class RowRounder {
 public:
  RowRounder(const TypeInfo& type, const ErrorFeedback& feedback, bool nested)
      : type_(type),
        format_(type.panel),
        feedback_(feedback),
        grid_(type.panel.high()),
        k_(feedback.k()),
        nested_(nested) {}

  [[nodiscard]] RowCodes empty_row() const {
    const auto n = static_cast<size_t>(k_), blocks = n / static_cast<size_t>(format_.block);
    const size_t supers = format_.has_super() ? (n + kSpan - 1) / kSpan : 0;
    RowCodes row;
    row.codes.resize(n), row.scales.resize(blocks), row.d.resize(supers);
    if (format_.has_min) row.mins.resize(blocks), row.dmin.resize(supers);
    return row;
  }

  // d and dmin of every 256 columns, so that the largest scale of their blocks just fits.
  void choose_super(const float* weights, RowCodes& row) const {
    if (!format_.has_super() || format_.has_low) return;
    std::vector<BlockScale> extremes(row.d.size());
    for (int64_t place = 0; place < k_; place += format_.block) {
      BlockScale block = best(weights + place, place);
      block.scale = std::max(std::abs(block.scale), least_scale(weights + place)) * (block.scale < 0 ? -1.0f : 1.0f);
      BlockScale& extreme = extremes[static_cast<size_t>(feedback_.column(place) / kSpan)];
      if (std::abs(block.scale) > std::abs(extreme.scale)) extreme.scale = block.scale;
      extreme.min = std::min(extreme.min, block.min);
    }
    const ScaleRange range = type_.scales;
    for (size_t i = 0; i < extremes.size(); ++i) {
      row.d[i] = f32_to_f16(extremes[i].scale / static_cast<float>(range.lo < 0 ? range.lo : range.hi));
      if (format_.has_min) row.dmin[i] = f32_to_f16(-extremes[i].min / static_cast<float>(range.hi));
    }
  }

  void round(Span& span, RowCodes& row) const {
    for (int at = 0; at < span.n; at += format_.block) {
      if (!format_.has_low) choose_block(span, at, row);
      round_block(span, at, row);
    }
  }

  // Coordinate descent: each code anew, given all others. `gradient` [k] is errors * H and follows the errors.
  void improve(const float* weights, float* errors, float* gradient, RowCodes& row) const {
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (int64_t place = 0; place < k_; ++place) {
        const int64_t column = feedback_.column(place);
        const BlockScale scale = stored(row, static_cast<size_t>(column / format_.block));
        const float diagonal = feedback_.diagonal()[static_cast<size_t>(place)];
        const float target = weights[place] - errors[place] + gradient[place] / diagonal;
        uint8_t& code = row.codes[static_cast<size_t>(column)];
        const Choice choice = choose(target, scale, inverse(scale), code);
        if (choice.code == code) continue;
        code = choice.code;
        const float error = weights[place] - choice.value, change = error - errors[place];
        errors[place] = error;
        const float* moments = feedback_.moments().data() + place * k_;
        for (int64_t j = 0; j < k_; ++j) gradient[j] += change * moments[j];
      }
    }
  }

 private:
  struct Choice {
    uint8_t code;
    float value;
  };
  // The code whose value is nearest to x; of a nested format with the high code that it has.
  [[nodiscard]] Choice choose(float x, BlockScale scale, float inverse, uint8_t code) const {
    if (format_.has_low) {
      const int high = code >> 4, middle = element_integer(format_, static_cast<uint8_t>(high << 4));
      const float low = x * inverse - static_cast<float>(middle);
      const int rounded = !(low > 0) ? 0 : low >= 15 ? 15 : static_cast<int>(low + 0.5f);
      return {static_cast<uint8_t>(high << 4 | rounded), scale.scale * static_cast<float>(middle + rounded)};
    }
    const float level = grid_.nearest((x - scale.min) * inverse);
    return {grid_.code(level), scale.scale * level + scale.min};
  }
  // What a block's scale may not be below so that low codes can make up for what high codes do not reach.
  [[nodiscard]] float least_scale(const float* weights) const {
    float extreme = 0;
    for (int i = 0; nested_ && i < format_.block; ++i) extreme = std::max(extreme, std::abs(weights[i]));
    return extreme / kNestedReach;
  }

  [[nodiscard]] BlockScale best(const float* x, int64_t place) const {
    const float* counts = feedback_.weights().data() + place;
    if (format_.has_min) return best_scale_min(grid_, x, counts, format_.block, format_.has_super());
    return {best_scale(grid_, x, counts, format_.block), 0};
  }
  [[nodiscard]] float error_of(const Span& span, int at, BlockScale scale) const {
    return block_error(grid_, span.target.data() + at, feedback_.weights().data() + span.first + at, format_.block,
                       scale);
  }
  static float inverse(BlockScale scale) {
    return scale.scale == 0 || !std::isfinite(1 / scale.scale) ? 0 : 1 / scale.scale;
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

  void choose_block(const Span& span, int at, RowCodes& row) const {
    const auto block = static_cast<size_t>(feedback_.column(span.first + at) / format_.block);
    const BlockScale wanted = best(span.target.data() + at, span.first + at);
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
    const float least = least_scale(span.weights + span.first + at);
    float best_error = INFINITY;
    uint16_t best_scale = 0;
    if (least > std::abs(f16_to_f32(row.d[super]) * static_cast<float>(std::abs(near) - 1))) {
      // The smallest that reaches far enough.
      const int sign = f16_to_f32(row.d[super]) < 0 ? -1 : 1;
      row.scales[block] =
          static_cast<uint8_t>(integer_near(1.004f * static_cast<float>(sign) * std::max(least, std::abs(wanted.scale)),
                                            row.d[super], 0, type_.scales.hi));
      return;
    }
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

  void round_block(Span& span, int at, RowCodes& row) const {
    const auto column = static_cast<size_t>(feedback_.column(span.first + at));
    const BlockScale scale = stored(row, column / static_cast<size_t>(format_.block));
    const float inverse_scale = inverse(scale);
    for (int i = 0; i < format_.block; ++i) {
      uint8_t& code = row.codes[column + static_cast<size_t>(i)];
      const Choice choice = choose(span.target[static_cast<size_t>(at + i)], scale, inverse_scale, code);
      code = choice.code;
      const int64_t place = span.first + at + i;
      const float error = span.weights[place] - choice.value;
      span.errors[place] = error;
      if (!span.factors) continue;
      const float* u = span.factors + (at + i) * span.n;
      for (int j = at + i + 1; j < span.n; ++j) span.target[j] += error * u[j];
    }
  }

  const TypeInfo& type_;
  const PanelFormat& format_;
  const ErrorFeedback& feedback_;
  Grid grid_;
  int64_t k_;
  bool nested_;
};

// Products of all rows' errors with parts of U and H.
class ErrorProducts {
 public:
  static Result<ErrorProducts> create(Backend& backend, const ErrorFeedback& feedback, int64_t rows) {
    ErrorProducts out(backend, feedback, rows);
    out.errors_ = TRY(backend.allocate(rows * feedback.k() * 4));
    return out;
  }
  // What the errors at places [0, first) add to places [first, first + n): [rows][n].
  Result<std::vector<float>> fed_back(std::span<const float> errors, int64_t first, int n) {
    std::vector<float> columns(static_cast<size_t>(first * n));
    for (int64_t j = 0; j < first; ++j)
      for (int i = 0; i < n; ++i) columns[static_cast<size_t>(i * first + j)] = feedback_->row(j)[first + i];
    return product(errors, columns, first, n);
  }
  // errors * H: [rows][k]
  Result<std::vector<float>> gradient(std::span<const float> errors) {
    return product(errors, feedback_->moments(), feedback_->k(), feedback_->k());
  }

 private:
  ErrorProducts(Backend& backend, const ErrorFeedback& feedback, int64_t rows)
      : backend_(&backend), feedback_(&feedback), rows_(rows) {}

  Result<std::vector<float>> product(std::span<const float> errors, std::span<const float> right, int64_t inner,
                                     int64_t n) {
    std::vector<float> out(static_cast<size_t>(rows_ * n));
    if (inner == 0) return out;
    const auto sums = TRY(backend_->allocate(rows_ * n * 4));
    backend_->upload(*errors_, 0, std::as_bytes(errors));
    TRY(add_product(*backend_, {errors_.get(), 0, static_cast<int>(rows_), inner, feedback_->k()}, right, n,
                    {sums.get(), 0, static_cast<int>(rows_), n, n}));
    backend_->download(*sums, 0, std::as_writable_bytes(std::span(out)));
    return out;
  }

  Backend* backend_;
  const ErrorFeedback* feedback_;
  int64_t rows_;
  std::unique_ptr<Buffer> errors_;
};

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Everything that is done with one matrix.
class MatrixRounder {
 public:
  MatrixRounder(const TypeInfo& type, std::span<const float> weights, int64_t rows, const ErrorFeedback& feedback,
                Backend& backend, ThreadPool& pool, bool nested = false)
      : type_(type),
        rows_(rows),
        k_(feedback.k()),
        feedback_(feedback),
        backend_(backend),
        pool_(pool),
        rounder_(type, feedback, nested),
        weights_(weights.size()),
        errors_(weights.size()),
        codes_(static_cast<size_t>(rows), rounder_.empty_row()) {
    each_row([&](int64_t row) {
      float* to = weights_.data() + row * k_;
      for (int64_t place = 0; place < k_; ++place)
        to[place] = weights[static_cast<size_t>(row * k_ + feedback.column(place))];
    });
  }

  // Codes, and with them the error.
  Result<Rounded> choose() {
    each_row([&](int64_t row) { rounder_.choose_super(weights_.data() + row * k_, codes(row)); });
    for (int64_t first = 0; first < k_; first += kSpan)
      TRY(round_span(first, static_cast<int>(std::min(kSpan, k_ - first))));
    Rounded out;
    TRY(improve(out));
    return out;
  }
  // The high codes of a nested format as its own, low codes in the middle.
  void take_high(MatrixRounder& high) {
    codes_ = std::move(high.codes_);
    for (RowCodes& row : codes_)
      for (uint8_t& code : row.codes) code = static_cast<uint8_t>(code << 4 | 8);
  }
  Result<Rounded> run() {
    Rounded out = TRY(choose());
    const auto row_size = static_cast<int64_t>(*row_bytes(type_, static_cast<uint64_t>(k_)));
    out.blocks.resize(static_cast<size_t>(rows_ * row_size));
    each_row([&](int64_t row) { type_.join(codes(row), k_, out.blocks.data() + row * row_size); });
    return out;
  }

 private:
  RowCodes& codes(int64_t row) { return codes_[static_cast<size_t>(row)]; }
  template <typename Body>
  void each_row(const Body& body) {
    pool_.parallel_for(rows_, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  Result<void> round_span(int64_t first, int n) {
    std::vector<float> sums, factors;
    if (feedback_.has_factors()) {
      ErrorProducts products = TRY(ErrorProducts::create(backend_, feedback_, rows_));
      sums = TRY(products.fed_back(errors_, first, n));
      for (int64_t j = first; j < first + n; ++j)
        factors.insert(factors.end(), feedback_.row(j) + first, feedback_.row(j) + first + n);
    }
    each_row([&](int64_t row) {
      Span span{.first = first,
                .n = n,
                .weights = weights_.data() + row * k_,
                .factors = factors.empty() ? nullptr : factors.data(),
                .errors = errors_.data() + row * k_};
      for (int i = 0; i < n; ++i)
        span.target[static_cast<size_t>(i)] =
            span.weights[first + i] + (sums.empty() ? 0.0f : sums[static_cast<size_t>(row * n + i)]);
      rounder_.round(span, codes(row));
    });
    return {};
  }

  // Looks at all codes again, and tells the error that is left.
  Result<void> improve(Rounded& out) {
    std::vector<float> gradient = errors_, outputs = weights_;
    if (feedback_.has_factors()) {
      ErrorProducts products = TRY(ErrorProducts::create(backend_, feedback_, rows_));
      outputs = TRY(products.gradient(weights_));
      gradient = TRY(products.gradient(errors_));
      each_row([&](int64_t row) {
        const int64_t at = row * k_;
        rounder_.improve(weights_.data() + at, errors_.data() + at, gradient.data() + at, codes(row));
      });
    }
    out.error = dot(errors_, gradient);
    out.power = dot(weights_, outputs);
    return {};
  }

  const TypeInfo& type_;
  int64_t rows_, k_;
  const ErrorFeedback& feedback_;
  Backend& backend_;
  ThreadPool& pool_;
  RowRounder rounder_;
  std::vector<float> weights_, errors_;  // [rows][k], places as in the feedback
  std::vector<RowCodes> codes_;
};

}  // namespace

Result<Rounded> round_matrix(const TypeInfo& type, std::span<const float> weights, int64_t rows,
                             const ErrorFeedback& feedback, Backend& backend, ThreadPool& pool) {
  MatrixRounder rounder(type, weights, rows, feedback, backend, pool);
  if (type.panel.has_low) {
    MatrixRounder high(info(Type::kI4H), weights, rows, feedback, backend, pool, true);
    TRY(high.choose());
    rounder.take_high(high);
  }
  return rounder.run();
}

}  // namespace hearth::compress
