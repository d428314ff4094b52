// Vectors by GCC's vector extension, and the run-time choice of instruction set.
//
// vec<T, W> holds W bytes: 64 on x86-64-v4, 32 on v3, 16 on the baseline, because GCC splits a
// vector wider than the registers into scalars wherever it compares. Code over vectors is
// KDOPS_INLINE and a template of W; it enters the one function that KDOPS_MULTIVERSION makes for
// each level, which alone carries an instruction set. W = 64 is the default.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>  // declares them
#define KDOPS_V4_BUILTINS
#endif
#define KDOPS_INLINE inline __attribute__((always_inline))

namespace kdops {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <class T, int W>
struct vector_of {
  typedef T type __attribute__((vector_size(W)));
};
template <class T, int W = 64>
using vec = typename vector_of<T, W>::type;
template <class T, int W = 64>
constexpr int lanes = W / int(sizeof(T));

// A vector's element, and the vector of integers that its bits and its comparisons are.
template <class V>
using element_t = std::remove_cv_t<std::remove_reference_t<decltype(V{}[0])>>;
template <class V>
using integers_t = vec<std::conditional_t<sizeof(element_t<V>) == 8, int64_t, int32_t>, sizeof(V)>;
template <class V>
using if_vector = std::enable_if_t<!std::is_arithmetic_v<V>, V>;

// ---- lanes -------------------------------------------------------------------------------------

template <class T, int W = 64>
KDOPS_INLINE vec<T, W> broadcast(T x) {
  return x - vec<T, W>{};  // keeps -0, which 0 + x does not
}

template <class To, class From>
KDOPS_INLINE To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  __builtin_memcpy(&y, &x, sizeof(y));
  return y;
}

template <class M, class V>
KDOPS_INLINE V select(M mask, V a, V b) {
  return mask ? a : b;
}
// GCC finds vmaxps in the comparison on every level but v4, where it compares and blends.
template <class V>
KDOPS_INLINE V max(V a, V b) {  // b where one is NaN
#ifdef KDOPS_V4_BUILTINS
  if constexpr (std::is_same_v<V, vec<float>>) return __builtin_ia32_maxps512_mask(a, b, a, -1, 4);
  if constexpr (std::is_same_v<V, vec<double>>) return __builtin_ia32_maxpd512_mask(a, b, a, -1, 4);
#endif
  return a > b ? a : b;
}
template <class V>
KDOPS_INLINE V min(V a, V b) {
#ifdef KDOPS_V4_BUILTINS
  if constexpr (std::is_same_v<V, vec<float>>) return __builtin_ia32_minps512_mask(a, b, a, -1, 4);
  if constexpr (std::is_same_v<V, vec<double>>) return __builtin_ia32_minpd512_mask(a, b, a, -1, 4);
#endif
  return a < b ? a : b;
}
template <class V>
KDOPS_INLINE V fma(V a, V b, V c) {  // one rounding where the level has the instruction
  return a * b + c;
}

KDOPS_INLINE float abs(float x) { return __builtin_fabsf(x); }
KDOPS_INLINE double abs(double x) { return __builtin_fabs(x); }
template <class V>
KDOPS_INLINE if_vector<V> abs(V x) {
  using I = integers_t<V>;
  return bits_as<V>(bits_as<I>(x) & ~bits_as<I>(broadcast<element_t<V>, sizeof(V)>(-0.0)));
}

KDOPS_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
KDOPS_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
template <class V>
KDOPS_INLINE if_vector<V> sqrt(V x) {
  for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = sqrt(element_t<V>(x[i]));
  return x;
}

// ---- over the lanes: a fixed tree --------------------------------------------------------------

// v with lane i taken from lane i ^ distance.
template <class V>
KDOPS_INLINE V swapped(V v, int distance) {
  integers_t<V> from;
  for (size_t i = 0; i < sizeof(V) / sizeof(v[0]); ++i) from[i] = i ^ distance;
  return __builtin_shuffle(v, from);
}
// In every lane the same: GCC may broadcast a scalar lane by lane.
template <class V>
KDOPS_INLINE V sum_lanes(V v) {
  constexpr int n = sizeof(V) / sizeof(element_t<V>);
  if constexpr (n > 8) v += swapped(v, 8);
  if constexpr (n > 4) v += swapped(v, 4);
  if constexpr (n > 2) v += swapped(v, 2);
  return v + swapped(v, 1);
}
template <class V>
KDOPS_INLINE V max_lanes(V v) {
  constexpr int n = sizeof(V) / sizeof(element_t<V>);
  if constexpr (n > 8) v = max(v, swapped(v, 8));
  if constexpr (n > 4) v = max(v, swapped(v, 4));
  if constexpr (n > 2) v = max(v, swapped(v, 2));
  return max(v, swapped(v, 1));
}
template <class V>
KDOPS_INLINE element_t<if_vector<V>> sum(V v) {
  return sum_lanes(v)[0];
}
template <class V>
KDOPS_INLINE element_t<if_vector<V>> max(V v) {
  return max_lanes(v)[0];
}

// ---- memory: unaligned, n lanes at a row's end -------------------------------------------------

template <class T, int W = 64>
KDOPS_INLINE vec<T, W> load(const T* p) {
  vec<T, W> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <class T, class V>
KDOPS_INLINE void store(T* p, V v) {
  static_assert(std::is_same_v<element_t<V>, T>);
  __builtin_memcpy(p, &v, sizeof(v));
}
template <class T, int W = 64>
KDOPS_INLINE vec<T, W> load_n(const T* p, int n, T fill) {
  T lane[lanes<T, W>];
  for (int i = 0; i < lanes<T, W>; ++i) lane[i] = i < n ? p[i] : fill;
  return load<T, W>(lane);
}
template <class T, class V>
KDOPS_INLINE void store_n(T* p, V v, int n) {
  T lane[sizeof(V) / sizeof(T)];
  store(lane, v);
  for (int i = 0; i < n; ++i) p[i] = lane[i];
}

// ---- half types: lanes of bits, rounded to nearest even ----------------------------------------

template <class V>  // the vector of as many uint16_t as V has lanes
using half_bits = vec<uint16_t, sizeof(V) / 2>;
template <class V>
using float_bits = vec<uint32_t, sizeof(V)>;

template <class V>
KDOPS_INLINE V widen(half_bits<V> h, BFloat16) {
  return bits_as<V>(__builtin_convertvector(h, float_bits<V>) << 16);
}

template <class V>
KDOPS_INLINE V widen(half_bits<V> h, Half) {
  using U = float_bits<V>;
  const U wide = __builtin_convertvector(h, U);
  const U magnitude = (wide & 0x7fffu) << 13, exponent = magnitude & (0x1fu << 23);
  const U normal = magnitude + (112u << 23);
  const V subnormal = bits_as<V>(normal + (1u << 23)) - 0x1p-14f;  // 2^-14 + x, less 2^-14
  const U finite = exponent == 0u ? bits_as<U>(subnormal) : normal;
  const U unsigned_bits = exponent == (0x1fu << 23) ? normal + (112u << 23) : finite;
  return bits_as<V>(unsigned_bits | ((wide & 0x8000u) << 16));
}

template <class V>
KDOPS_INLINE half_bits<V> narrow(V x, BFloat16) {
  using U = float_bits<V>;
  const U wide = bits_as<U>(x);
  const U rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;
  const U quiet_nan = (wide >> 16) | 0x40u;
  return __builtin_convertvector((wide & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded,
                                 half_bits<V>);
}

template <class V>
KDOPS_INLINE half_bits<V> narrow(V x, Half) {
  using U = float_bits<V>;
  const U wide = bits_as<U>(x), magnitude = wide & 0x7fffffffu;
  // 0.5 has the half type's smallest step 2^-24 as its last bit: the addition rounds.
  const U subnormal = bits_as<U>(bits_as<V>(magnitude) + 0.5f) - 0x3f000000u;
  const U normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U finite = magnitude < (113u << 23) ? subnormal : normal;
  const U beyond = magnitude > 0x7f800000u ? U{} + 0x7e00u : U{} + 0x7c00u;
  const U unsigned_bits = magnitude >= (143u << 23) ? beyond : finite;
  return __builtin_convertvector(unsigned_bits | ((wide >> 16) & 0x8000u), half_bits<V>);
}

// ---- storage types -----------------------------------------------------------------------------

// The type in which a storage type is computed.
template <class S>
using acc_t = std::conditional_t<std::is_same_v<S, double>, double, float>;

template <class T, int W = 64, class S>
KDOPS_INLINE vec<T, W> load_as(const S* p) {
  if constexpr (std::is_same_v<S, T>) {
    return load<T, W>(p);
  } else {
    half_bits<vec<T, W>> h;
    __builtin_memcpy(&h, p, sizeof(h));
    return widen<vec<T, W>>(h, S{});
  }
}
template <class S, class V>
KDOPS_INLINE void store_as(S* p, V v) {
  if constexpr (std::is_same_v<S, element_t<V>>) {
    store(p, v);
  } else {
    const half_bits<V> h = narrow(v, S{});
    __builtin_memcpy(p, &h, sizeof(h));
  }
}
template <class T, int W = 64, class S>
KDOPS_INLINE vec<T, W> load_as_n(const S* p, int n, T fill) {
  S lane[lanes<T, W>];
  store_as(lane, broadcast<T, W>(fill));
  for (int i = 0; i < n; ++i) lane[i] = p[i];
  return load_as<T, W>(lane);
}
template <class S, class V>
KDOPS_INLINE void store_as_n(S* p, V v, int n) {
  S lane[sizeof(V) / sizeof(element_t<V>)];
  store_as(lane, v);
  for (int i = 0; i < n; ++i) p[i] = lane[i];
}

// ---- instruction sets --------------------------------------------------------------------------

enum Level { kBase, kV3, kV4 };
constexpr const char* level_names[] = {"base", "v3", "v4"};

inline Level best_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return kV4;
  if (__builtin_cpu_supports("x86-64-v3")) return kV3;
#endif
  return kBase;
}

// What the processor has, lowered by KDOPS_CPU_LEVEL=base|v3|v4.
inline Level first_level() {
  const char* wanted = std::getenv("KDOPS_CPU_LEVEL");
  const Level best = best_level();
  for (int i = kBase; wanted != nullptr && i < best; ++i)
    if (std::strcmp(wanted, level_names[i]) == 0) return static_cast<Level>(i);
  return best;
}

inline std::atomic<Level> chosen_level{first_level()};
inline Level level() { return chosen_level.load(std::memory_order_relaxed); }

// Defines name(params), which runs the KDOPS_INLINE template name_impl<W>(args) on the level.
#if defined(__x86_64__)
#define KDOPS_VERSION(arch, W, name, impl, params, args) \
  [[gnu::target("arch=" arch)]] inline auto name params { return impl<W> args; }
#define KDOPS_MULTIVERSION(name, params, args)                                                 \
  KDOPS_VERSION("x86-64-v4,prefer-vector-width=512", 64, name##_v4, name##_impl, params, args) \
  KDOPS_VERSION("x86-64-v3", 32, name##_v3, name##_impl, params, args)                         \
  KDOPS_VERSION("x86-64", 16, name##_base, name##_impl, params, args)                          \
  inline auto name params {                                                                    \
    const ::kdops::Level l = ::kdops::level();                                                 \
    if (l == ::kdops::kV4) return name##_v4 args;                                              \
    if (l == ::kdops::kV3) return name##_v3 args;                                              \
    return name##_base args;                                                                   \
  }
#else
#define KDOPS_MULTIVERSION(name, params, args) \
  inline auto name params { return name##_impl<16> args; }
#endif

}  // namespace kdops
