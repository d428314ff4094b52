// log(w), w > 0, given v = w - 1 free of cancellation, with a relative error of a few units.
//
// w = m 2^e with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 atanh(f / (2 + f)), f = m - 1, by
// its series; where e = 0, f is v itself, and nothing is cancelled.
#pragma once

#include "cpu/exp.h"

namespace kdops {

template <class V>
KDOPS_INLINE V log_ratio(V w, V v) {
  using T = element_t<V>;
  using I = integers_t<V>;
  using K = ExpConstants<T>;
  using Bits = element_t<I>;
  const Bits root = sizeof(T) == 8 ? Bits(0x3fe6a09e667f3bcd) : Bits(0x3f3504f3);  // sqrt(1/2)
  const I shifted = bits_as<I>(w) - root;
  const I e = shifted >> K::kMantissa;
  const V m = bits_as<V>(bits_as<I>(w) - (e << K::kMantissa));
  const V f = select(e == 0, v, m - T(1));
  const V s = f / (f + T(2)), z = s * s;
  constexpr int terms = sizeof(T) == 8 ? 12 : 5;
  V series = V{} + T(1) / T(2 * terms + 1);
#pragma GCC unroll 16
  for (int k = terms - 1; k >= 0; --k) series = series * z + T(1) / T(2 * k + 1);
  return __builtin_convertvector(e, V) * T(kLn2) + (s + s) * series;
}

}  // namespace kdops
