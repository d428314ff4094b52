// expm1(x) with expm1(x) - x, each with a relative error of a few units, for x up to 80.
//
// x = n ln 2 + r, |r| <= ln 2 / 2, and expm1(r) = r + r^2 P(r) with P a polynomial: for n = 0 that
// is expm1(x), and r^2 P(r) is expm1(x) - x, with nothing cancelled.
#pragma once

#include "cuda/simt.h"

namespace kdops {
namespace {

template <class T>
struct Expm1 {
  T value, phi;  // phi = expm1(x) - x
};

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLowest = -87.0f;    // expm1(x) is -1 below
  static constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer below
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;

  SIMT_DEVICE static float scale(float rounded) {  // 2^n
    return __uint_as_float((__float_as_uint(rounded) << 23) + 0x3f800000u);
  }
  SIMT_DEVICE static float tail(float r) {  // minimax to 3e-9 of P
    float p = 0x1.a0731ap-13f;
    p = p * r + 0x1.6d43fep-10f;
    p = p * r + 0x1.11114cp-7f;
    p = p * r + 0x1.5554e8p-5f;
    p = p * r + 0x1.555556p-3f;
    return p * r + 0.5f;
  }
};

template <>
struct ExpConstants<double> {
  static constexpr double kLowest = -708.0;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

  SIMT_DEVICE static double scale(double rounded) {
    const auto bits = static_cast<unsigned long long>(__double_as_longlong(rounded));
    return __longlong_as_double(static_cast<long long>((bits << 52) + 0x3ff0000000000000ull));
  }
  SIMT_DEVICE static double tail(double r) {  // the series: the rest is below 1e-17
    double p = 1.0;
#pragma unroll
    for (int k = 13; k > 2; --k) p = p * r * (1.0 / k) + 1.0;
    return 0.5 * p;
  }
};

template <class T>
SIMT_DEVICE Expm1<T> expm1_and_phi(T x) {
  using K = ExpConstants<T>;
  const T rounded = max(K::kLowest, x) * T(1.4426950408889634) + K::kRound;
  const T n = rounded - K::kRound;
  const T r = (max(K::kLowest, x) - n * K::kLn2High) - n * K::kLn2Low;
  const T scale = K::scale(rounded);
  const T tail = r * r * K::tail(r);
  const T value = scale * (r + tail) + (scale - T(1));
  return {value, n == T(0) ? tail : value - x};
}

}  // namespace
}  // namespace kdops
