// Exponentials with a relative error of a few units: 2^v, and 2^v - 1 with what it is above its
// tangent, both over ln 2.
//
// v = n + r, |r| <= 1 / 2 without error, and (2^r - 1) / ln 2 = r + r^2 P(r) with P a polynomial:
// for n = 0 the last term is what 2^v - 1 is above its tangent, with nothing cancelled.
#pragma once

#include "cpu/simd.h"

namespace kdops {

constexpr double kLn2 = 0.6931471805599453, kLog2E = 1.4426950408889634;

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kRound =
      0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  static constexpr int kMantissa = 23, kBias = 127;
  // Within 3e-9 of P.
  static constexpr float kP[] = {0x1.62e43p-2f,   0x1.47fd4p-4f,   0x1.c6affcp-7f,
                                 0x1.f8442cp-10f, 0x1.d38c3cp-13f, 0x1.71e80cp-16f};
};

template <>
struct ExpConstants<double> {
  static constexpr double kRound = 0x1.8p52;
  static constexpr int kMantissa = 52, kBias = 1023;
  // (ln 2)^k / (k + 1)!, k = 1..12: the rest of the series is below 1e-16.
  static constexpr double kP[] = {
      0x1.62e42fefa39efp-2,  0x1.47fd3ffac83b4p-4,  0x1.c6b08d704a0cp-7,   0x1.f84457f907d8bp-10,
      0x1.d20aa8a0ddeecp-13, 0x1.712ef11be9ae4p-16, 0x1.ffcbfc588b0c7p-20, 0x1.3b5573c219575p-23,
      0x1.5db7642de5303p-27, 0x1.6096c6cc29664p-31, 0x1.45dc84ce1276ep-35, 0x1.15fe65938b717p-39};
};

#ifdef KDOPS_V4_BUILTINS
template <class V>
constexpr bool kScales = sizeof(V) == 64;  // v4 scales by a power of two in one instruction

KDOPS_INLINE vec<float> nearest_integer(vec<float> v) {
  return __builtin_ia32_rndscaleps_mask(v, 0, v, -1, 4);
}
KDOPS_INLINE vec<double> nearest_integer(vec<double> v) {
  return __builtin_ia32_rndscalepd_mask(v, 0, v, -1, 4);
}
KDOPS_INLINE vec<float> scaled(vec<float> x, vec<float> n) {
  return __builtin_ia32_scalefps512_mask(x, n, x, -1, 4);
}
KDOPS_INLINE vec<double> scaled(vec<double> x, vec<double> n) {
  return __builtin_ia32_scalefpd512_mask(x, n, x, -1, 4);
}
#else
template <class V>
constexpr bool kScales = false;
#endif

template <class V>
KDOPS_INLINE V nearest_integer(V v) {
  using K = ExpConstants<element_t<V>>;
  return (v + K::kRound) - K::kRound;
}

// x 2^n for n >= -kBias, where it is 0 if kScales is not true.
template <class V>
KDOPS_INLINE V scaled(V x, V n) {
  using K = ExpConstants<element_t<V>>;
  using U = vec<std::make_unsigned_t<element_t<integers_t<V>>>, sizeof(V)>;  // unused lanes wrap
  const V biased = n + (K::kRound + K::kBias);
  return x * bits_as<V>(bits_as<U>(biased) << K::kMantissa);
}

// v = n + r; p = P(r), the even and the odd terms apart: a chain of half the length.
template <class V>
struct ExpParts {
  V n, r, square, p;
};

template <class V>
KDOPS_INLINE ExpParts<V> exp_parts(V v) {
  using K = ExpConstants<element_t<V>>;
  const V n = nearest_integer(v), r = v - n, square = r * r;
  constexpr int degree = sizeof(K::kP) / sizeof(K::kP[0]) - 1;
  V p = K::kP[degree] * r + K::kP[degree - 1];
#pragma GCC unroll 16
  for (int k = degree - 2; k > 0; k -= 2) p = p * square + (K::kP[k] * r + K::kP[k - 1]);
  return {n, r, square, p};
}

// What scaled turns into 0, for less of it.
template <class V>
KDOPS_INLINE V clamped(V v) {
  using K = ExpConstants<element_t<V>>;
  return kScales<V> ? v : max(V{} - K::kBias, v);
}

// 2^v, and 0 far below the normal numbers.
template <class V>
KDOPS_INLINE V exp2(V v) {
  const ExpParts<V> y = exp_parts(clamped(v));
  return scaled((y.p * y.square + y.r) * element_t<V>(kLn2) + 1, y.n);
}

template <class V>
struct Exp2m1 {
  V value, above;  // value = (2^v - 1) / ln 2, above = value - v >= 0
};

template <class V>
KDOPS_INLINE Exp2m1<V> exp2m1(V v) {
  constexpr auto log2_e = element_t<V>(kLog2E);
  const ExpParts<V> y = exp_parts(clamped(v));
  const V scale = scaled(V{} + 1, y.n);
  const V tail = scale * (y.square * y.p), rest = scale * y.r + (scale * log2_e - log2_e);
  return {tail + rest, tail + (rest - v)};
}

template <class V>
struct ExpBoth {
  V value, less_one;  // 2^v and 2^v - 1
};

template <class V>
KDOPS_INLINE ExpBoth<V> exp2_both(V v) {
  constexpr auto ln2 = element_t<V>(kLn2);
  const ExpParts<V> y = exp_parts(clamped(v));
  const V scale = scaled(V{} + 1, y.n);
  const V tail = scale * ((y.p * y.square + y.r) * ln2);
  return {tail + scale, tail + (scale - 1)};
}

template <class V>
KDOPS_INLINE V exp(V x) {
  return exp2(x * element_t<V>(kLog2E));
}

template <class V>
struct Expm1 {
  V value, phi;  // phi = expm1(x) - x
};

template <class V>
KDOPS_INLINE Expm1<V> expm1_and_phi(V x) {
  constexpr auto ln2 = element_t<V>(kLn2);
  const Exp2m1<V> y = exp2m1(x * element_t<V>(kLog2E));
  return {y.value * ln2, y.above * ln2};
}

}  // namespace kdops
