// exp, erf, log, sin and cos in double precision whose results are the same bits on every machine. The C library's are not:
// they differ between versions and choose other code on CPUs with fused multiply-add. Only +, -, *, / are used, never
// contracted.
#pragma once

namespace hearth {

// Relative error below 1e-14; 0 below -708, infinite above 709, NaN for NaN.
double exact_exp(double x);
// Relative error below 1e-10; several times faster than exact_exp, in the same range.
double quick_exp(double x);
// Absolute error below 1e-10.
double exact_erf(double x);
// x > 0. Relative error below 1e-14.
double exact_log(double x);
// base^exponent for base > 0.
double exact_pow(double base, double exponent);
// |angle| up to 2^30; absolute error below 1e-12.
struct SinCos {
  double sin, cos;
};
SinCos exact_sin_cos(double angle);

}  // namespace hearth
