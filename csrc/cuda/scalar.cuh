// The scalars of the kernels, with the names that the formulas use.
#pragma once

#include "cuda/simt.h"

namespace kdops {

using ::abs;
using ::exp;
using ::log;
using ::log1p;
using ::max;
using ::min;
using ::rint;
using ::sqrt;
using simt::acc_t;

template <class V>
SIMT_DEVICE V select(bool condition, V a, V b) {
  return condition ? a : b;
}
SIMT_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
SIMT_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }

// log(w), w > 0, given v = w - 1 free of cancellation.
template <class T>
SIMT_DEVICE T log_ratio(T w, T v) {
  return abs(v) < T(0.5) ? log1p(v) : log(w);
}

// |x| as bits, which are ordered like the numbers, with infinity and NaN above all of them.
SIMT_DEVICE unsigned magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }
SIMT_DEVICE unsigned long long magnitude(double x) {
  return static_cast<unsigned long long>(__double_as_longlong(x)) & 0x7fffffffffffffffull;
}
template <class T>
using magnitude_t = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;

template <class T>
struct FloatFormat;
template <>
struct FloatFormat<float> {
  static constexpr int kMantissa = 23, kBias = 127;
  SIMT_DEVICE static float from_bits(unsigned bits) { return __uint_as_float(bits); }
};
template <>
struct FloatFormat<double> {
  static constexpr int kMantissa = 52, kBias = 1023;
  SIMT_DEVICE static double from_bits(unsigned long long bits) {
    return __longlong_as_double(static_cast<long long>(bits));
  }
};

template <class T>
SIMT_DEVICE bool is_finite(magnitude_t<T> bits) {
  using Format = FloatFormat<T>;
  return bits < magnitude_t<T>(2 * Format::kBias + 1) << Format::kMantissa;
}
// e where x = m 2^e, m in [1/2, 1).
template <class T>
SIMT_DEVICE int exponent(magnitude_t<T> bits) {
  using Format = FloatFormat<T>;
  return static_cast<int>(bits >> Format::kMantissa) - Format::kBias + 1;
}
template <class T>
SIMT_DEVICE T power_of_two(int exponent) {
  using Format = FloatFormat<T>;
  return Format::from_bits(magnitude_t<T>(exponent + Format::kBias) << Format::kMantissa);
}

template <class T>
SIMT_DEVICE T not_a_number() {
  using Format = FloatFormat<T>;
  return Format::from_bits(magnitude_t<T>(4 * Format::kBias + 3) << (Format::kMantissa - 1));
}

}  // namespace kdops
