// Plain loops over one vector, at the processor's level.
#pragma once

#include "cpu/simd.h"

namespace kdops {

// The largest |x|, where infinity and NaN are larger than every number: bit patterns are ordered.
template <int W, class S>
KDOPS_INLINE acc_t<S> largest_impl(const S* x, int64_t n) {
  using T = acc_t<S>;
  using Bits = integers_t<vec<T, W>>;
  constexpr int L = lanes<T, W>;
  Bits top = {};
  int64_t i = 0;
  for (; i + L <= n; i += L) top = max(top, bits_as<Bits>(abs(load_as<T, W>(x + i))));
  if (i < n) top = max(top, bits_as<Bits>(abs(load_as_n<T, W>(x + i, n - i, T(0)))));
  return bits_as<T>(max(top));
}

// y = scale * x in the accumulation type.
template <int W, class S>
KDOPS_INLINE void scaled_copy_impl(const S* x, int64_t n, acc_t<S> scale, acc_t<S>* y) {
  using T = acc_t<S>;
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, load_as<T, W>(x + i) * scale);
  if (i < n) store_n(y + i, load_as_n<T, W>(x + i, n - i, T(0)) * scale, n - i);
}

// y = scale * x in the storage type.
template <int W, class S>
KDOPS_INLINE void scaled_store_impl(const acc_t<S>* x, int64_t n, acc_t<S> scale, S* y) {
  using T = acc_t<S>;
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store_as(y + i, load<T, W>(x + i) * scale);
  if (i < n) store_as_n(y + i, load_n<T, W>(x + i, n - i, T(0)) * scale, n - i);
}

template <int W, class T>
KDOPS_INLINE T dot_impl(const T* x, const T* y, int64_t n) {
  constexpr int L = lanes<T, W>;
  vec<T, W> total[4] = {};  // as many as hide the latency
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L)
    for (int k = 0; k < 4; ++k) total[k] += load<T, W>(x + i + k * L) * load<T, W>(y + i + k * L);
  for (; i + L <= n; i += L) total[0] += load<T, W>(x + i) * load<T, W>(y + i);
  if (i < n) total[0] += load_n<T, W>(x + i, n - i, T(0)) * load_n<T, W>(y + i, n - i, T(0));
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// y += x
template <int W, class T>
KDOPS_INLINE void accumulate_impl(const T* x, int64_t n, T* y) {
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, load<T, W>(y + i) + load<T, W>(x + i));
  for (; i < n; ++i) y[i] += x[i];
}

// |x - y|^2
template <int W, class T>
KDOPS_INLINE T squared_distance_impl(const T* x, const T* y, int64_t n) {
  constexpr int L = lanes<T, W>;
  vec<T, W> total = {};
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const vec<T, W> d = load<T, W>(x + i) - load<T, W>(y + i);
    total += d * d;
  }
  if (i < n) {
    const vec<T, W> d = load_n<T, W>(x + i, n - i, T(0)) - load_n<T, W>(y + i, n - i, T(0));
    total += d * d;
  }
  return sum(total);
}

// z = a (x - y) - z, or with the signs of add_difference z += a (x - y)
template <int W, class T>
KDOPS_INLINE void difference_less_impl(T a, const T* x, const T* y, int64_t n, T* z) {
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L)
    store(z + i, a * (load<T, W>(x + i) - load<T, W>(y + i)) - load<T, W>(z + i));
  for (; i < n; ++i) z[i] = a * (x[i] - y[i]) - z[i];
}
template <int W, class T>
KDOPS_INLINE void add_difference_impl(T a, const T* x, const T* y, int64_t n, T* z) {
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L)
    store(z + i, a * (load<T, W>(x + i) - load<T, W>(y + i)) + load<T, W>(z + i));
  for (; i < n; ++i) z[i] += a * (x[i] - y[i]);
}

// z -= a x
template <int W, class T>
KDOPS_INLINE void subtract_multiple_impl(T a, const T* x, int64_t n, T* z) {
  constexpr int L = lanes<T, W>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(z + i, load<T, W>(z + i) - a * load<T, W>(x + i));
  for (; i < n; ++i) z[i] -= a * x[i];
}

#define KDOPS_STORAGE_KERNELS(S)                                                         \
  KDOPS_MULTIVERSION(largest, (const S* x, int64_t n), (x, n))                           \
  KDOPS_MULTIVERSION(scaled_copy, (const S* x, int64_t n, acc_t<S> scale, acc_t<S>* y),  \
                     (x, n, scale, y))                                                   \
  KDOPS_MULTIVERSION(scaled_store, (const acc_t<S>* x, int64_t n, acc_t<S> scale, S* y), \
                     (x, n, scale, y))
KDOPS_STORAGE_KERNELS(float)
KDOPS_STORAGE_KERNELS(double)
KDOPS_STORAGE_KERNELS(BFloat16)
KDOPS_STORAGE_KERNELS(Half)

#define KDOPS_VECTOR_KERNELS(T)                                                           \
  KDOPS_MULTIVERSION(dot, (const T* x, const T* y, int64_t n), (x, y, n))                 \
  KDOPS_MULTIVERSION(squared_distance, (const T* x, const T* y, int64_t n), (x, y, n))    \
  KDOPS_MULTIVERSION(accumulate, (const T* x, int64_t n, T* y), (x, n, y))                \
  KDOPS_MULTIVERSION(subtract_multiple, (T a, const T* x, int64_t n, T* z), (a, x, n, z)) \
  KDOPS_MULTIVERSION(difference_less, (T a, const T* x, const T* y, int64_t n, T* z),     \
                     (a, x, y, n, z))                                                     \
  KDOPS_MULTIVERSION(add_difference, (T a, const T* x, const T* y, int64_t n, T* z),      \
                     (a, x, y, n, z))
KDOPS_VECTOR_KERNELS(float)
KDOPS_VECTOR_KERNELS(double)

}  // namespace kdops
