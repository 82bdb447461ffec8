// Rounding with error feedback: what it reports is true, it pays, and it does not depend on threads.
#include "compress/rounding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tensor/test_rows.h"

namespace hearth::compress {
namespace {

constexpr int64_t kCols = 288, kRows = 24, kSamples = 1500;  // a whole span of 256 columns and a part of one

std::unique_ptr<Backend> cpu(int n_threads) { return *create_backend("cpu", {.n_threads = n_threads, .isa = ""}); }

// Inputs that depend on each other, as activations do: a few directions and noise.
std::vector<float> inputs() {
  const auto directions = random_floats(8 * kCols, 1), weights = random_floats(kSamples * 8, 2),
             noise = random_floats(kSamples * kCols, 3);
  std::vector<float> x(noise.size());
  for (int64_t i = 0; i < kSamples; ++i)
    for (int64_t c = 0; c < kCols; ++c) {
      float sum = 0.3f * noise[static_cast<size_t>(i * kCols + c)];
      for (int64_t d = 0; d < 8; ++d)
        sum += weights[static_cast<size_t>(i * 8 + d)] * directions[static_cast<size_t>(d * kCols + c)];
      x[static_cast<size_t>(i * kCols + c)] = sum;
    }
  return x;
}

struct Given {
  std::unique_ptr<Backend> backend = cpu(2);
  std::vector<float> x = inputs(), weights = random_floats(kRows * kCols, 4, 0.05f), moments;
  Given() {
    auto sum = Moments::create(*backend, kCols);
    // In two parts, as texts come in chunks.
    EXPECT_TRUE(sum->add(std::span(x).first(700 * kCols)));
    EXPECT_TRUE(sum->add(std::span(x).subspan(700 * kCols)));
    moments = sum->values();
  }
};
const Given& given() {
  static const Given kGiven;
  return kGiven;
}

// Types of our own have rows, not blocks, as their units.
std::vector<float> decode(const TypeInfo& type, std::span<const std::byte> blocks) {
  std::vector<float> out(kRows * kCols);
  const size_t row = blocks.size() / kRows;
  for (size_t r = 0; r < kRows; ++r) type.decode(blocks.data() + r * row, out.data() + r * kCols, kCols);
  return out;
}

// Of the products with all inputs.
double output_error(const TypeInfo& type, std::span<const std::byte> blocks) {
  const std::vector<float> decoded = decode(type, blocks);
  double sum = 0;
  for (int64_t i = 0; i < kSamples; ++i)
    for (int64_t r = 0; r < kRows; ++r) {
      double off = 0;
      for (int64_t c = 0; c < kCols; ++c)
        off += static_cast<double>(given().weights[static_cast<size_t>(r * kCols + c)] -
                                   decoded[static_cast<size_t>(r * kCols + c)]) *
               given().x[static_cast<size_t>(i * kCols + c)];
      sum += off * off;
    }
  return sum;
}

// What damping adds to the error: a multiple of each column's own.
double damping_error(const TypeInfo& type, std::span<const std::byte> blocks, const ErrorFeedback& feedback) {
  const std::vector<float> decoded = decode(type, blocks);
  double sum = 0;
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t place = 0; place < kCols; ++place) {
      const int64_t c = feedback.column(place);
      const auto at = static_cast<size_t>(r * kCols + c);
      const double off = given().weights[at] - decoded[at];
      sum += off * off *
             (feedback.diagonal()[static_cast<size_t>(place)] - given().moments[static_cast<size_t>(c * kCols + c)]);
    }
  return sum;
}

TEST(Moments, AreTheSumsOfProducts) {
  for (const auto& [i, j] : {std::pair<int64_t, int64_t>{0, 0}, {3, 250}, {287, 287}, {100, 7}}) {
    double sum = 0, magnitude = 0;
    for (int64_t r = 0; r < kSamples; ++r) {
      const double product = static_cast<double>(given().x[static_cast<size_t>(r * kCols + i)]) *
                             given().x[static_cast<size_t>(r * kCols + j)];
      sum += product, magnitude += std::abs(product);
    }
    EXPECT_NEAR(given().moments[static_cast<size_t>(i * kCols + j)], sum, 1e-5 * magnitude) << i << " " << j;
  }
}

TEST(ErrorFeedback, FactorsMultiplyToTheMoments) {
  const auto feedback = ErrorFeedback::create(*given().backend, given().moments, kCols, 0.01f);
  ASSERT_TRUE(feedback);
  for (int64_t i = 0; i < kCols; i += 7)
    for (int64_t j = i; j < kCols; j += 5) {
      double sum = 0;
      for (int64_t c = j; c < kCols; ++c) {
        const double a = c == i ? 1 : feedback->row(i)[c], b = c == j ? 1 : feedback->row(j)[c];
        sum += a * feedback->weights()[static_cast<size_t>(c)] * b;
      }
      const double expected =
          i == j ? feedback->diagonal()[static_cast<size_t>(i)]
                 : given().moments[static_cast<size_t>(feedback->column(i) * kCols + feedback->column(j))];
      ASSERT_NEAR(sum, expected, 2e-3 * feedback->diagonal()[0]) << i << " " << j;
    }
}

TEST(ErrorFeedback, RefusesWhatIsNotFinite) {
  std::vector<float> moments = given().moments;
  moments[5 * kCols + 5] = NAN;
  EXPECT_EQ(ErrorFeedback::create(*given().backend, moments, kCols, 0.01f).error().code, Code::kMalformed);
}

class RoundedTypes : public testing::TestWithParam<Type> {};

TEST_P(RoundedTypes, FeedbackLowersTheErrorOfTheOutput) {
  const TypeInfo& type = info(GetParam());
  ThreadPool pool(2);
  const auto feedback = ErrorFeedback::create(*given().backend, given().moments, kCols, 0.01f);
  ASSERT_TRUE(feedback);
  const auto with = round_matrix(type, given().weights, kRows, *feedback, *given().backend, pool);
  const auto without = round_matrix(type, given().weights, kRows, ErrorFeedback::none(kCols), *given().backend, pool);
  ASSERT_TRUE(with && without);
  const double error = output_error(type, with->blocks);
  EXPECT_LT(error, 0.5 * output_error(type, without->blocks));
  // What it reports includes the damping, which is the same for every row.
  EXPECT_NEAR(with->error, error + damping_error(type, with->blocks, *feedback), 0.02 * with->error);
}

TEST_P(RoundedTypes, ThreadsChangeNothing) {
  const TypeInfo& type = info(GetParam());
  std::vector<std::byte> first;
  for (const int n_threads : {1, 3}) {
    const auto backend = cpu(n_threads);
    ThreadPool pool(n_threads);
    const auto feedback = ErrorFeedback::create(*backend, given().moments, kCols, 0.01f);
    const auto rounded = round_matrix(type, given().weights, kRows, *feedback, *backend, pool);
    if (first.empty()) first = rounded->blocks;
    EXPECT_EQ(rounded->blocks, first);
  }
}

// Weights on the grid of a type come out as they went in.
TEST_P(RoundedTypes, WhatFitsStays) {
  const TypeInfo& type = info(GetParam());
  ThreadPool pool(1);
  if (type.panel.has_low) return;  // two scales that fit both readings are not one that fits one
  const size_t row = *row_bytes(type, kCols);
  std::vector<std::byte> blocks(kRows * row);
  for (size_t r = 0; r < kRows; ++r) type.encode(given().weights.data() + r * kCols, blocks.data() + r * row, kCols);
  const std::vector<float> fitting = decode(type, blocks);
  const auto rounded = round_matrix(type, fitting, kRows, ErrorFeedback::none(kCols), *given().backend, pool);
  ASSERT_TRUE(rounded);
  double error = 0, power = 0;
  for (const float w : fitting) power += static_cast<double>(w) * w;
  error = rounded->error;
  EXPECT_LT(error, 2e-5 * power);
}

// The nested type at four bits is nearly what a type of four bits alone would be, and at eight far better.
TEST(RoundedNested, BothReadingsAreGood) {
  ThreadPool pool(1);
  const auto feedback = ErrorFeedback::create(*given().backend, given().moments, kCols, 0.01f);
  const auto nested = round_matrix(info(Type::kI8), given().weights, kRows, *feedback, *given().backend, pool);
  const auto alone = round_matrix(info(Type::kI4S), given().weights, kRows, *feedback, *given().backend, pool);
  ASSERT_TRUE(nested && alone);
  const TypeInfo& type = info(Type::kI8);
  const size_t row_size = *row_bytes(type, kCols), high_size = *row_bytes(info(Type::kI4H), kCols);
  std::vector<std::byte> high(kRows * high_size);
  for (size_t row = 0; row < kRows; ++row) {
    RowCodes codes;
    type.split(nested->blocks.data() + row * row_size, kCols, codes);
    for (uint8_t& code : codes.codes) code >>= 4;
    info(Type::kI4H).join(codes, kCols, high.data() + row * high_size);
  }
  const double at_four = output_error(info(Type::kI4H), high),
               four_alone = output_error(info(Type::kI4S), alone->blocks);
  EXPECT_LT(at_four, 1.5 * four_alone);
  EXPECT_LT(output_error(type, nested->blocks), 0.05 * at_four);
}

INSTANTIATE_TEST_SUITE_P(All, RoundedTypes,
                         testing::Values(Type::kQ4_0, Type::kQ4_1, Type::kQ5_0, Type::kQ5_1, Type::kQ8_0, Type::kIQ4_NL,
                                         Type::kI4, Type::kI4S, Type::kI5, Type::kI6, Type::kI8),
                         [](const auto& tested) { return std::string(hearth::info(tested.param).name); });

}  // namespace
}  // namespace hearth::compress
