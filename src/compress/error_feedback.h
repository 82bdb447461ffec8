// How the error of rounding one column of a matrix is made up for by the columns that are rounded after it, so that the products
// with real inputs change least.
//
// With H = U D U^T the second moments of the inputs (U upper triangular with ones, D diagonal), the error of a row of weights is
// sum over k of D_k * ((w - q) U)_k^2. Going through the columns in order, column k is rounded from w_k + sum over j < k of
// (w_j - q_j) U_jk, which leaves each term only its own rounding. This is LDLQ of Chee et al. 2023 (QuIP, section 3), which gives the
// same as GPTQ (Frantar et al. 2022) without an inverse.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/result.h"

namespace hearth::compress {

// Second moments of rows of activations: the sum over rows of x x^T.
class Moments {
 public:
  static Result<Moments> create(Backend& backend, int64_t k);
  // x: n rows of k floats. One thread; the backend's threads work.
  Result<void> add(std::span<const float> x);
  [[nodiscard]] int64_t k() const { return k_; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  // [k][k]
  [[nodiscard]] std::vector<float> values() const;

 private:
  Moments(Backend& backend, int64_t k) : backend_(&backend), k_(k) {}
  Backend* backend_;
  int64_t k_, rows_ = 0;
  std::unique_ptr<Buffer> sum_, transposed_;
};

// Columns are taken in groups of kGroup, those that count most first: what comes later makes up for them. All of what follows is in
// that order; column() tells which column of the matrix a place is.
class ErrorFeedback {
 public:
  // Factors the moments [k][k], after `damping` times their mean diagonal has been added to the diagonal: inputs that were seen
  // little are not trusted to make up for much. kMalformed if they are not finite. k is a multiple of kGroup.
  static Result<ErrorFeedback> create(Backend& backend, std::span<const float> moments, int64_t k, float damping);
  // For a matrix whose inputs are not known: every column counts alike, none makes up for another.
  static ErrorFeedback none(int64_t k);

  [[nodiscard]] int64_t k() const { return static_cast<int64_t>(weights_.size()); }
  [[nodiscard]] int64_t column(int64_t place) const {
    return order_[static_cast<size_t>(place / kGroup)] * kGroup + place % kGroup;
  }
  // D: what the squared rounding error of a column counts.
  [[nodiscard]] std::span<const float> weights() const { return weights_; }
  // The diagonal of H: what a column counts whose error nothing makes up for.
  [[nodiscard]] std::span<const float> diagonal() const { return diagonal_; }
  // False for none(): U and H are unit matrices and may not be asked for.
  [[nodiscard]] bool has_factors() const { return !factors_.empty(); }
  // Row j of U; elements k > j count.
  [[nodiscard]] const float* row(int64_t j) const { return factors_.data() + j * k(); }
  // H with its damping: [k][k].
  [[nodiscard]] std::span<const float> moments() const { return moments_; }

 private:
  Result<void> factor(Backend& backend);

  std::vector<int64_t> order_;  // of the groups
  std::vector<float> weights_, diagonal_, factors_, moments_;
};

}  // namespace hearth::compress
