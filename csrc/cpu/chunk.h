// One chunk of logits, small enough for the first-level cache: what softmax, KL and cross-entropy
// need of it, each normalised by the chunk itself.
//
// Three sweeps. (1) The maxima. (2) e = exp((t - max) / T) and the difference d = s - t, exact and
// less its value at the teacher's maximum. (3) With d shifted to mean 0 under p = e / sum e and
// divided by T, q is p exp(d) / (1 + x), where x = sum p expm1(d), so
//
//     KL(p || q) = log(1 + x) = log1p(sum p phi(d)),    q - p = p (expm1(d) - x) / (1 + x)
//
// in which nothing cancels. Left behind for the gradient: e, and h = e expm1(d) / ln 2, as powers
// are of 2. A chunk where d is large or not finite takes the plain way: q - p from both softmaxes.
#pragma once

#include <cmath>
#include <limits>

#include "cpu/exp.h"
#include "formulas/kl.h"

namespace kdops {

#define KDOPS_BODY __attribute__((always_inline))

constexpr int64_t kChunk = 2048;

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

// A row's chunk: lanes are columns, and a lane beyond the row is absent from both.
template <class S, int W>
struct Columns {
  using T = acc_t<S>;
  using V = vec<T, W>;
  static constexpr int kRows = 1;
  const S *student, *teacher;
  int64_t count;

  template <class F>  // f(place, student, teacher, whether a lane may be beyond the row)
  KDOPS_INLINE void sweep(F f) const {
    int64_t i = 0;
    for (; i + lanes<T, W> <= count; i += lanes<T, W>)
      f(i, load_as<T, W>(student + i), load_as<T, W>(teacher + i), std::false_type{});
    if (i < count) f(i, rest(student), rest(teacher), std::true_type{});
  }
  // A part with the teacher's maximum, which it finds: four vectors, so that few are compared.
  KDOPS_INLINE Columns peak(V& top) const {
    constexpr int64_t kPart = 4 * lanes<T, W>;
    V highest = V{} - kInfinity<T>, at{};
    if (count < kPart) {
      sweep([&](int64_t, V, V t, auto) KDOPS_BODY { highest = kdops::max(highest, t); });
      top = max(highest);
      return *this;
    }
    const auto look = [&](int64_t begin) KDOPS_BODY {
      V part = load_as<T, W>(teacher + begin);
#pragma GCC unroll 4
      for (int k = 1; k < 4; ++k)
        part = kdops::max(part, load_as<T, W>(teacher + begin + k * lanes<T, W>));
      at = part > highest ? V{} + T(begin) : at;
      highest = kdops::max(highest, part);
    };
    for (int64_t begin = 0; begin < count - kPart; begin += kPart) look(begin);
    look(count - kPart);
    top = max(highest);
    const int64_t begin = max(highest == top ? at : V{})[0];
    return {student + begin, teacher + begin, kPart};
  }
  KDOPS_INLINE int64_t size() const { return (count + lanes<T, W> - 1) & -lanes<T, W>; }
  // The last count % lanes logits: where the row has a whole vector, by moving its last one down.
  KDOPS_INLINE V rest(const S* x) const {
    constexpr int L = lanes<T, W>;
    const int n = count % L;
    if (count < L) return load_as_n<T, W>(x, n, -kInfinity<T>);
    using I = integers_t<V>;
    I lane;
    for (int l = 0; l < L; ++l) lane[l] = l;
    const V moved = __builtin_shuffle(load_as<T, W>(x + count - L), (lane - n) & (L - 1));
    return lane < n ? moved : V{} - kInfinity<T>;
  }
  static KDOPS_INLINE V sum(V x) { return sum_lanes(x); }
  static KDOPS_INLINE V max(V x) { return max_lanes(x); }
};

// As many rows as lanes, transposed: lanes are rows.
template <class T_, int W>
struct Rows {
  using T = T_;
  using V = vec<T, W>;
  static constexpr int kRows = lanes<T, W>;
  const T *student, *teacher;
  int64_t count;

  template <class F>
  KDOPS_INLINE void sweep(F f) const {
    for (int64_t i = 0; i < size(); i += lanes<T, W>)
      f(i, load<T, W>(student + i), load<T, W>(teacher + i), std::false_type{});
  }
  KDOPS_INLINE Rows peak(V& top) const {
    top = V{} - kInfinity<T>;
    sweep([&](int64_t, V, V t, auto) KDOPS_BODY { top = kdops::max(top, t); });
    return *this;
  }
  KDOPS_INLINE int64_t size() const { return count * lanes<T, W>; }
  static KDOPS_INLINE V sum(V x) { return x; }
  static KDOPS_INLINE V max(V x) { return x; }
};

// The soft terms of a chunk, a row a lane (for Columns the same in every lane).
template <class V>
struct Soft {
  V max, z;              // of the teacher: z = sum e
  V rest;                // z less 1, when the entropy is wanted
  V surprise;            // sum e (max - t) / T, as well
  Difference<V> offset;  // of the logits, at the teacher's maximum
  V centre;              // and the mean of the differences from it
  V x, ratio;            // sum h / z, and 1 + x
  V phi;                 // log1p(phi) + far is the chunk's KL
  V far;
};

// Sweep 1.
template <class Source, class V = typename Source::V>
KDOPS_INLINE void soft_top(const Source& source, Soft<V>& soft) {
  using T = typename Source::T;
  V student = V{} - kInfinity<T>;
  source.peak(soft.max).sweep([&](int64_t, V s, V t, auto) KDOPS_BODY {
    student = t == soft.max ? max(student, s) : student;
  });
  soft.offset = difference(Source::max(student), soft.max);
}

// Sweep 2: writes e, and to h the differences from the offset; returns the largest of these. Only
// kExact keeps what s - t loses by rounding, and takes a class absent from both within the row.
template <bool kExact, bool kEntropy, class Source, class T, class V = typename Source::V>
KDOPS_INLINE V soft_sums(const Source& source, T rate, Soft<V>& soft, T* e, T* h) {
  const Difference<V> offset = soft.offset;
  V z{}, ones{}, surprise{}, moment{}, highest = V{} - kInfinity<T>;
  source.sweep([&](int64_t i, V s, V t, auto beyond) KDOPS_BODY {
    const V below = (t - soft.max) * rate;
    const V exp_t = exp2(below);
    V d = (s - t) - offset.value;
    if constexpr (kExact) d = relative(difference(s, t), offset);
    if constexpr (kExact || beyond) d = max(t, s) == -kInfinity<T> ? V{} : d;  // absent from both
    if constexpr (kEntropy) {
      const auto one = exp_t == V{} + 1;
      ones += one ? exp_t : V{};
      z += one ? V{} : exp_t;
      surprise -= exp_t == V{} ? V{} : exp_t * below;
    } else {
      z += exp_t;
    }
    moment += exp_t * d;
    highest = max(highest, d);
    store(e + i, exp_t);
    store(h + i, d);
  });
  if constexpr (kEntropy) {
    ones = Source::sum(ones);
    soft.rest = Source::sum(z) + (ones - 1);
    soft.surprise = Source::sum(surprise) * T(kLn2);
    soft.z = soft.rest + 1;
  } else {
    soft.rest = soft.surprise = V{};
    soft.z = Source::sum(z);
  }
  soft.centre = Source::sum(moment) / soft.z;
  return Source::max(highest);
}

// Sweep 3: turns the differences in h into e expm1(d) / ln 2.
template <class Source, class T, class V = typename Source::V>
KDOPS_INLINE void soft_near(const Source& source, T rate, Soft<V>& soft, const T* e, T* h) {
  V phi{}, x{};
  const V centre = soft.centre * rate;
  const int64_t size = source.size();
  for (int64_t i = 0; i < size; i += lanes<T, sizeof(V)>) {
    const V exp_t = load<T, sizeof(V)>(e + i);
    const Exp2m1<V> d = exp2m1(load<T, sizeof(V)>(h + i) * rate - centre);
    const V difference = exp_t * d.value;
    phi += exp_t * d.above;
    x += difference;
    store(h + i, difference);
  }
  soft.phi = Source::sum(phi) * T(kLn2) / soft.z;
  soft.x = Source::sum(x) * T(kLn2) / soft.z;
  soft.ratio = soft.x + 1;
  soft.far = V{};
}

// The plain way, for the lanes where far is not 0: h = (f - e) / ln 2, f = exp((s - max s) / T).
template <class Source, class T, class V = typename Source::V>
[[gnu::cold]] KDOPS_INLINE void soft_far(const Source& source, T inverse_t, V far, Soft<V>& soft,
                                         T* e, T* h) {
  V top_s = V{} - kInfinity<T>, top_t = top_s;
  source.sweep([&](int64_t, V s, V t, auto) KDOPS_BODY {
    top_s = max(top_s, s);
    top_t = max(top_t, t);
  });
  top_s = Source::max(top_s), top_t = Source::max(top_t);
  const V max_s = top_s == -kInfinity<T> ? V{} : top_s;  // then every exp is 0
  const V max_t = top_t == -kInfinity<T> ? V{} : top_t;
  V zs{}, zt{}, x{};
  source.sweep([&](int64_t, V s, V t, auto) KDOPS_BODY {
    const V exp_s = exp((s - max_s) * inverse_t), exp_t = exp((t - max_t) * inverse_t);
    zs += exp_s, zt += exp_t, x += exp_s - exp_t;
  });
  zs = Source::sum(zs), zt = Source::sum(zt);
  zs = zs == V{} ? V{} + 1 : zs;
  zt = zt == V{} ? V{} + 1 : zt;
  x = Source::sum(x) / zt;
  V log_ratio;
  for (int l = 0; l < lanes<T, sizeof(V)>; ++l)
    log_ratio[l] = std::abs(x[l]) < 0.5 ? std::log1p(x[l]) : std::log(zs[l] / zt[l]);

  V kl{};
  source.sweep([&](int64_t i, V s, V t, auto) KDOPS_BODY {
    const V exp_s = exp((s - max_s) * inverse_t), exp_t = exp((t - max_t) * inverse_t);
    const V u = ((s - max_s) - (t - max_t)) * inverse_t - log_ratio;
    const V term = kl_term(exp_t / zt, exp_s / zs, u, expm1_and_phi(u).phi);
    kl += max(t, s) == -kInfinity<T> ? V{} : term;
    store(e + i, far == V{} ? load<T, sizeof(V)>(e + i) : exp_t);
    store(h + i, far == V{} ? load<T, sizeof(V)>(h + i) : (exp_s - exp_t) * T(kLog2E));
  });
  kl = Source::sum(kl);
  soft.max = far == V{} ? soft.max : top_t;
  soft.z = far == V{} ? soft.z : zt;
  soft.offset.value = far == V{} ? soft.offset.value : top_s;
  soft.ratio = far == V{} ? soft.ratio : zs / zt;
  soft.x = far == V{} ? soft.x : x;
  soft.phi = far == V{} ? soft.phi : V{};
  soft.far = far == V{} ? soft.far : kl;
}

// Whether s - t, rounded at the offset's size, may have lost digits of the differences d: where
// sum e d^2, about 2 T^2 z phi, is small for e other than the maximum's. True of NaN, which a class
// absent from both leaves.
template <class T, class V>
KDOPS_INLINE bool coarse(const Soft<V>& soft, T inverse_t) {
  const T offset = soft.offset.value[0] * inverse_t, z = soft.z[0];
  return !(128 * soft.phi[0] * z >= offset * offset * (z - 1));
}

// Returns which lanes went the plain way.
template <bool kEntropy, class Source, class T, class V = typename Source::V>
KDOPS_INLINE V soft_chunk(const Source& source, T inverse_t, Soft<V>& soft, T* e, T* h) {
  // exp(kFar) still meets the smallest e as a normal number.
  constexpr T kFar = sizeof(T) == 8 ? 300 : 40;
  const T rate = inverse_t * T(kLog2E);
  soft_top(source, soft);
  V highest;
  for (bool exact = Source::kRows > 1;; exact = true) {  // rows must not decide for each other
    highest = exact ? soft_sums<true, kEntropy>(source, rate, soft, e, h)
                    : soft_sums<false, kEntropy>(source, rate, soft, e, h);
    soft_near(source, rate, soft, e, h);
    if (exact || !coarse(soft, inverse_t)) break;
  }
  const V distance = (highest - soft.centre) * inverse_t;
  V far{};
  for (int r = 0; r < Source::kRows; ++r) far[r] = distance[r] < kFar ? 0 : 1;  // NaN is far
  far = Source::max(far);
  if (__builtin_expect(max(far) != 0, 0)) soft_far(source, inverse_t, far, soft, e, h);
  return far;
}

// The hard term: f = exp(s - max), 0 at the label, and its sum.
template <class V>
struct Hard {
  V max, z;
};

template <class Source, class T, class V = typename Source::V>
KDOPS_INLINE void hard_chunk(const Source& source, const int64_t* label, Hard<V>& hard, T* f) {
  V top = V{} - kInfinity<T>;
  source.sweep([&](int64_t, V s, V, auto) KDOPS_BODY { top = max(top, s); });
  hard.max = Source::max(top);
  const V shift = hard.max == -kInfinity<T> ? V{} : hard.max;
  source.sweep([&](int64_t i, V s, V, auto) KDOPS_BODY { store(f + i, exp(s - shift)); });
  for (int r = 0; r < Source::kRows; ++r)
    if (label[r] >= 0 && label[r] < source.count) f[label[r] * Source::kRows + r] = 0;
  V z{};
  for (int64_t i = 0; i < source.size(); i += lanes<T, sizeof(V)>) z += load<T, sizeof(V)>(f + i);
  hard.z = Source::sum(z);
}

}  // namespace kdops
