#include "compress/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "compress/float_product.h"

namespace hearth::compress {
namespace {

constexpr int64_t kBlock = 64;  // columns factored at once
// Of each input's own moment: a text shows only so much of how inputs depend on each other.
constexpr float kOwnShare = 0.03f;

// The block [first, end) of the diagonal, in place: below the diagonal nothing counts, above it is U, on it D.
void factor_diagonal(float* h, int64_t k, int64_t first, int64_t end) {
  for (int64_t j = end - 1; j >= first; --j) {
    const float d = h[j * k + j];
    for (int64_t i = first; i < j; ++i) h[i * k + j] /= d;
    for (int64_t i = first; i < j; ++i)
      for (int64_t c = first; c <= i; ++c) h[c * k + i] -= h[c * k + j] * d * h[i * k + j];
  }
}

// Rows above the block: U = H U_block^-T D^-1, column by column from the last.
void factor_above(float* h, int64_t k, int64_t row, int64_t first, int64_t end) {
  float* x = h + row * k;
  for (int64_t j = end - 1; j >= first; --j) {
    float sum = x[j];
    for (int64_t c = j + 1; c < end; ++c) sum -= x[c] * h[c * k + c] * h[j * k + c];
    x[j] = sum / h[j * k + j];
  }
}

}  // namespace

Result<Moments> Moments::create(Backend& backend, int64_t k) {
  Moments moments(backend, k);
  moments.sum_ = TRY(backend.allocate(k * k * 4));
  return moments;
}

Result<void> Moments::add(std::span<const float> x) {
  const int64_t n = static_cast<int64_t>(x.size()) / k_;
  std::vector<float> transposed(x.size());
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < k_; ++c) transposed[static_cast<size_t>(c * n + r)] = x[static_cast<size_t>(r * k_ + c)];
  if (!transposed_ || transposed_->bytes() < static_cast<int64_t>(x.size_bytes()))
    transposed_ = TRY(backend_->allocate(static_cast<int64_t>(x.size_bytes())));
  backend_->upload(*transposed_, 0, std::as_bytes(std::span(transposed)));
  TRY(add_product(*backend_, {transposed_.get(), 0, static_cast<int>(k_), n, n}, transposed, k_,
                  {sum_.get(), 0, static_cast<int>(k_), k_, k_}));
  rows_ += n;
  return {};
}

std::vector<float> Moments::values() const {
  std::vector<float> out(static_cast<size_t>(k_ * k_));
  backend_->download(*sum_, 0, std::as_writable_bytes(std::span(out)));
  return out;
}

Result<ErrorFeedback> ErrorFeedback::create(Backend& backend, std::span<const float> moments, int64_t k,
                                            float damping) {
  ErrorFeedback out = none(k);
  auto given = [&](int64_t i, int64_t j) { return moments[static_cast<size_t>(i * k + j)]; };
  double trace = 0;
  for (int64_t i = 0; i < k; ++i) trace += given(i, i);
  if (!std::isfinite(trace) || trace < 0)
    return fail(Code::kMalformed, "the activations add up to {}: the model's weights or the text are broken", trace);
  const float mean = trace > 0 ? static_cast<float>(trace / static_cast<double>(k)) : 1.0f;
  std::ranges::stable_sort(out.order_, std::greater(), [&](int64_t group) {
    float sum = 0;
    for (int64_t i = group * kGroup; i < (group + 1) * kGroup; ++i) sum += given(i, i);
    return sum;
  });
  out.moments_.resize(moments.size());
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j) out.moments_[static_cast<size_t>(i * k + j)] = given(out.column(i), out.column(j));
  for (int64_t i = 0; i < k; ++i) {
    float& diagonal = out.moments_[static_cast<size_t>(i * k + i)];
    diagonal += damping * mean + kOwnShare * diagonal;
    out.diagonal_[static_cast<size_t>(i)] = diagonal;
  }
  TRY(out.factor(backend));
  return out;
}

Result<void> ErrorFeedback::factor(Backend& backend) {
  const int64_t k = this->k();
  std::vector<float> moments = moments_;
  std::unique_ptr<Buffer> matrix = TRY(backend.allocate(k * k * 4));
  std::unique_ptr<Buffer> left = TRY(backend.allocate(k * kBlock * 4));
  backend.upload(*matrix, 0, std::as_bytes(std::span(moments)));
  std::vector<float> right, scaled;
  for (int64_t end = k; end > 0;) {
    const int64_t first = std::max<int64_t>(0, end - kBlock), width = end - first;
    // The rows down to the block's end, as the blocks to the right have left them.
    backend.download(*matrix, 0, std::as_writable_bytes(std::span(moments).first(static_cast<size_t>(end * k))));
    factor_diagonal(moments.data(), k, first, end);
    right.resize(static_cast<size_t>(first * width)), scaled.resize(right.size());
    for (int64_t row = 0; row < first; ++row) {
      factor_above(moments.data(), k, row, first, end);
      for (int64_t c = 0; c < width; ++c) {
        const float u = moments[static_cast<size_t>(row * k + first + c)];
        right[static_cast<size_t>(row * width + c)] = u;
        scaled[static_cast<size_t>(row * width + c)] = -u * moments[static_cast<size_t>((first + c) * k + first + c)];
      }
    }
    for (int64_t row = 0; row < end; ++row)
      for (int64_t c = std::max(row, first); c < end; ++c)
        if (!std::isfinite(moments[static_cast<size_t>(row * k + c)]))
          return fail(Code::kMalformed, "the moments of {} inputs cannot be factored; raise --damping", k);
    if (first > 0) {
      backend.upload(*matrix, 0, std::as_bytes(std::span(moments).first(static_cast<size_t>(end * k))));
      backend.upload(*left, 0, std::as_bytes(std::span(scaled)));
      TRY(add_product(backend, {left.get(), 0, static_cast<int>(first), width, width}, right, first,
                      {matrix.get(), 0, static_cast<int>(first), first, k}));
    }
    end = first;
  }
  for (int64_t i = 0; i < k; ++i) {
    const float d = moments[static_cast<size_t>(i * k + i)];
    if (!(d > 0)) return fail(Code::kMalformed, "the moments of {} inputs are not positive; raise --damping", k);
    weights_[static_cast<size_t>(i)] = d;
  }
  factors_ = std::move(moments);
  return {};
}

ErrorFeedback ErrorFeedback::none(int64_t k) {
  ErrorFeedback out;
  out.weights_.assign(static_cast<size_t>(k), 1.0f);
  out.diagonal_ = out.weights_;
  out.order_.resize(static_cast<size_t>(k / kGroup));
  std::iota(out.order_.begin(), out.order_.end(), int64_t{0});
  return out;
}

}  // namespace hearth::compress
