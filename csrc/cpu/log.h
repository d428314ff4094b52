// log(w), w > 0, and w - 1 - log(w) >= 0, given v = w - 1 free of cancellation, each with a
// relative error of a few units.
//
// w = m 2^e with m in [sqrt(1/2), sqrt(2)); where e = 0, f = m - 1 is v itself. With s = f / (2 +
// f) log(m) = 2 atanh(s), whose series starts with 2 s = f - f s: f - log(m) = s (f - s^2 (2/3 +
// ...)).
#pragma once

#include "cpu/exp.h"

namespace kdops {

template <class V>
struct Log {
  V value, below;  // below = v - value
};

template <class V>
KDOPS_INLINE Log<V> log_and_below(V w, V v) {
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
  constexpr int terms = sizeof(T) == 8 ? 11 : 4;
  V series = V{} + T(2) / T(2 * terms + 1);
#pragma GCC unroll 16
  for (int k = terms - 1; k > 0; --k) series = series * z + T(2) / T(2 * k + 1);
  const V below = s * (f - z * series), exponent = __builtin_convertvector(e, V) * T(kLn2);
  return {(f - below) + exponent, below + ((v - f) - exponent)};
}

}  // namespace kdops
