#include "base/exact_math.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace hearth {
namespace {
constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
// Pi / 2 in three parts of 33 bits, so that their products with an integer below 2^20 are exact (Cody and Waite).
constexpr double kHalfPi1 = 0x1.921fb544p+0, kHalfPi2 = 0x1.0b4611a6p-34, kHalfPi3 = 0x1.3198a2e037073p-69;
}  // namespace

double exact_exp(double x) {
  if (!(x >= -708.0)) return x != x ? x : 0.0;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  const double n = std::nearbyint(x * 1.4426950408889634);
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= 0.347
  double sum = 1.0;
  for (int i = 14; i >= 1; --i) sum = 1.0 + sum * r / i;  // Taylor: 0.347^15 / 15! < 1e-19
  return sum * std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52);
}

double quick_exp(double x) {
  if (!(x >= -708.0)) return x != x ? x : 0.0;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  constexpr double kRound = 0x1.8p52;  // added and taken away, it leaves a whole number
  const double n = (x * 1.4426950408889634 + kRound) - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  constexpr std::array kTerms{1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                              1.0 / 24,     1.0 / 6,     1.0 / 2,    1.0,       1.0};
  double sum = 0.0;
  for (const double term : kTerms) sum = sum * r + term;  // Taylor: 0.347^10 / 10! < 1e-11
  return sum * std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52);
}

// erf(x) = 1 - exp(-x^2) p(t) with t = 2 / (2 + x): p is a polynomial fitted to exp(x^2) erfc(x) over [0, 6] by least squares.
double exact_erf(double x) {
  if (x < 0) return -exact_erf(-x);
  if (!(x < 6.0)) return x != x ? x : 1.0;
  constexpr std::array kTerms{-8.140255000765579e-08, -1.8154399440120386e-07, 2.5741547573631268e-06,
                              -4.233849972760121e-06, -2.251822761070527e-05,  0.0001004537654578293,
                              0.0001335474058050758,  -0.0016653333669954399,  -0.0016702458885092483,
                              0.032993427103957015,   0.1694075912818562,      0.4221875836408351,
                              0.37853741692632853};
  const double u = (2.0 / (2.0 + x) - 0.625) / 0.375;
  double p = 0.0;
  for (const double term : kTerms) p = p * u + term;
  return 1.0 - quick_exp(-x * x) * p;
}

double exact_log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // [0.5, 1)
  if (m < 0.70710678118654752) {
    m *= 2.0;
    --exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;  // |s| <= 0.172; log m = 2 atanh s
  double sum = 0.0;
  for (int i = 21; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
  return exponent * kLn2High + (exponent * kLn2Low + 2.0 * s * sum);
}

double exact_pow(double base, double exponent) { return exact_exp(exponent * exact_log(base)); }

SinCos exact_sin_cos(double angle) {
  const double quarter = std::nearbyint(angle * 0.63661977236758134);
  const double r = ((angle - quarter * kHalfPi1) - quarter * kHalfPi2) - quarter * kHalfPi3;  // |r| <= pi / 4
  const double r2 = r * r;
  double s = 0.0, c = 0.0;
  for (int i = 17; i >= 3; i -= 2) s = -r2 / (i * (i - 1.0)) * (1.0 + s);
  for (int i = 18; i >= 2; i -= 2) c = -r2 / (i * (i - 1.0)) * (1.0 + c);
  const double sine = r + r * s, cosine = 1.0 + c;
  switch (static_cast<int64_t>(quarter) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace hearth
