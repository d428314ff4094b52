// exp(x), and expm1(x) with expm1(x) - x, each with a relative error of a few units.
//
// x = n ln 2 + r, |r| <= ln 2 / 2, and expm1(r) = r + r^2 P(r) with P a polynomial: for n = 0 that
// is expm1(x), and r^2 P(r) is expm1(x) - x, with nothing cancelled.
#pragma once

#include "cpu/simd.h"

namespace kdops {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLowest = -87.0f;    // exp(x) is 0 below: not a normal number
  static constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer below
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr int kMantissa = 23;
  // Minimax to 3e-9 of P.
  static constexpr float kP[] = {0x1.0p-1f,      0x1.555556p-3f,  0x1.5554e8p-5f,
                                 0x1.11114cp-7f, 0x1.6d43fep-10f, 0x1.a0731ap-13f};
};

template <>
struct ExpConstants<double> {
  static constexpr double kLowest = -708.0;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr int kMantissa = 52;
  // 1 / k!, k = 2..13: the rest of the series is below 1e-17.
  static constexpr double kP[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,
                                  1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                                  1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// x = n ln 2 + r: scale = 2^n, p = P(r).
template <class V>
struct ExpParts {
  V n, r, scale, p;
};

template <class V>
KDOPS_INLINE ExpParts<V> exp_parts(V x) {
  using T = element_t<V>;
  using I = integers_t<V>;
  using K = ExpConstants<T>;
  const V rounded = x * T(1.4426950408889634) + K::kRound;
  const V n = rounded - K::kRound;
  const V r = (x - n * K::kLn2High) - n * K::kLn2Low;
  const V scale =
      bits_as<V>((bits_as<I>(rounded) << K::kMantissa) + bits_as<I>(broadcast<T, sizeof(V)>(1)));
  constexpr int degree = sizeof(K::kP) / sizeof(T) - 1;
  V p = broadcast<T, sizeof(V)>(K::kP[degree]);
#pragma GCC unroll 16
  for (int k = degree - 1; k >= 0; --k) p = p * r + K::kP[k];
  return {n, r, scale, p};
}

template <class V>
KDOPS_INLINE V exp(V x) {
  const ExpParts<V> y = exp_parts(x);
  const V value = (y.p * y.r + 1) * y.r + 1;
  return x < ExpConstants<element_t<V>>::kLowest ? V{} : y.scale * value;
}

template <class V>
struct Expm1 {
  V value, phi;  // phi = expm1(x) - x
};

template <class V>
KDOPS_INLINE Expm1<V> expm1(V x) {
  const V lowest = broadcast<element_t<V>, sizeof(V)>(ExpConstants<element_t<V>>::kLowest);
  const ExpParts<V> y = exp_parts(max(lowest, x));
  const V tail = y.r * y.r * y.p;
  const V value = y.scale * (y.r + tail) + (y.scale - 1);
  return {value, y.n == V{} ? tail : value - x};
}

}  // namespace kdops
