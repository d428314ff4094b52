// One tile of two maps: what their normalisers need, and the values and weights of its pairs.
#pragma once

#include <vector>

#include "cpu/simd.h"
#include "formulas/relations.h"

namespace kdops {

// Lanes of T as float64, for sums over a whole map.
template <class V>
using wide = vec<double, int(sizeof(V) / sizeof(element_t<V>) * sizeof(double))>;
template <class V>
KDOPS_INLINE wide<V> widened(V v) {
  return __builtin_convertvector(v, wide<V>);
}
template <class V>
KDOPS_INLINE double sum_wide(wide<V> v) {
  if constexpr (sizeof(v) == sizeof(V)) {
    return sum(v);
  } else {  // halves of a register each
    vec<double, sizeof(V)> half[2];
    __builtin_memcpy(&half, &v, sizeof(v));
    return sum(half[0] + half[1]);
  }
}

// Over ordered pairs, of the measure (a distance, or its square) in a map and in another one.
struct SideStats {
  double sum = 0, square = 0, largest = 0, ties = 0;
};
struct PairStats {
  SideStats self, other;
  double cross = 0;

  // `times` is 2 for a tile that stands for its mirror image too.
  void add(const PairStats& s, double times) {
    merge(self, s.self, times);
    merge(other, s.other, times);
    cross += times * s.cross;
  }
  PairStats swapped() const { return {other, self, cross}; }

 private:
  static void merge(SideStats& a, const SideStats& b, double times) {
    a.sum += times * b.sum;
    a.square += times * b.square;
    if (b.largest > a.largest) a.ties = 0;
    if (b.largest >= a.largest) a.ties += times * b.ties;
    a.largest = b.largest > a.largest ? b.largest : a.largest;
  }
};

template <class T>
struct NearPair {
  int64_t i, j;  // within the tile
  T weight;
};

template <class T>
struct PairTile {
  const T *self, *other;  // (rows, stride), whole vectors of columns
  int64_t rows, columns, stride;
  T* weight = nullptr;  // none: the value alone
  T *row_sum = nullptr, *column_sum = nullptr;
  const T *row_limit = nullptr, *column_limit = nullptr;  // pairs nearer than their sum go to near
  std::vector<NearPair<T>>* near = nullptr;
};

struct PairSums {
  double value = 0, excess = 0;
};

template <int W, class T, class Measure>
KDOPS_INLINE PairStats stats_tile_impl(const PairTile<T>& p, const Measure& measure) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  wide<V> sum = {}, sum_other = {}, square = {}, square_other = {}, cross = {};
  V top = {}, top_other = {};
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t j = 0; j < p.columns; j += L) {
      const V a = measure.self(load<T, W>(p.self + i * p.stride + j));
      const V b = measure.other(load<T, W>(p.other + i * p.stride + j));
      const wide<V> x = widened(a), y = widened(b);
      sum += x, sum_other += y;
      square += x * x, square_other += y * y, cross += x * y;
      top = max(top, a), top_other = max(top_other, b);
    }
  }
  const T largest = max(top), largest_other = max(top_other);
  V ties = {}, ties_other = {};
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t j = 0; j < p.columns; j += L) {
      const V a = measure.self(load<T, W>(p.self + i * p.stride + j));
      const V b = measure.other(load<T, W>(p.other + i * p.stride + j));
      ties += select(a == largest, V{} + T(1), V{});
      ties_other += select(b == largest_other, V{} + T(1), V{});
    }
  }
  return {{sum_wide<V>(sum), sum_wide<V>(square), largest, sum_wide<V>(widened(ties))},
          {sum_wide<V>(sum_other), sum_wide<V>(square_other), largest_other,
           sum_wide<V>(widened(ties_other))},
          sum_wide<V>(cross)};
}

// Moves the near pairs of a row out of its weights.
template <class T>
KDOPS_INLINE void take_near(const PairTile<T>& p, int64_t i, T* weight) {
  for (int64_t j = 0; j < p.columns; ++j) {
    if (weight[j] == T(0) || !(p.self[i * p.stride + j] < p.row_limit[i] + p.column_limit[j]))
      continue;
    p.near->push_back({i, j, weight[j]});
    weight[j] = 0;
  }
}

template <int W, class T>
KDOPS_INLINE bool has_near(const PairTile<T>& p, int64_t i) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  const T* s = p.self + i * p.stride;
  V found = {};
  for (int64_t j = 0; j < p.columns; j += L) {
    const V v = load<T, W>(s + j), limit = load<T, W>(p.column_limit + j) + p.row_limit[i];
    found = max(found, select(v < limit, v, V{}));
  }
  return max(found) > T(0);
}

template <int W, class T>
KDOPS_INLINE void add_degrees(const PairTile<T>& p, int64_t i, const T* weight) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  V row = {};
  for (int64_t j = 0; j < p.columns; j += L) {
    const V w = load<T, W>(weight + j);
    row += w;
    store(p.column_sum + j, load<T, W>(p.column_sum + j) + w);
  }
  p.row_sum[i] = sum(row);
}

template <int W, class T, class Formula>
KDOPS_INLINE PairSums weight_tile_impl(const PairTile<T>& p, const Formula& formula) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  PairSums total;
  if (p.weight != nullptr)
    for (int64_t j = 0; j < p.columns; j += L) store(p.column_sum + j, V{});
  for (int64_t i = 0; i < p.rows; ++i) {
    V value = {}, excess = {};
    T* weight = p.weight + i * p.stride;
    for (int64_t j = 0; j < p.columns; j += L) {
      const PairTerm<V> term =
          formula(load<T, W>(p.self + i * p.stride + j), load<T, W>(p.other + i * p.stride + j));
      value += term.value, excess += term.excess;
      if (p.weight != nullptr) store(weight + j, term.weight);
    }
    total.value += sum(value), total.excess += sum(excess);
    if (p.weight == nullptr) continue;
    if (p.near != nullptr && has_near<W>(p, i)) take_near(p, i, weight);
    add_degrees<W>(p, i, weight);
  }
  return total;
}

// The sums of weights that lie in memory, without near pairs.
template <int W, class T>
KDOPS_INLINE void sum_tile_impl(const PairTile<T>& p) {
  for (int64_t j = 0; j < p.columns; j += lanes<T, W>) store(p.column_sum + j, vec<T, W>{});
  for (int64_t i = 0; i < p.rows; ++i) {
    if (p.near != nullptr && has_near<W>(p, i)) take_near(p, i, p.weight + i * p.stride);
    add_degrees<W>(p, i, p.weight + i * p.stride);
  }
}
KDOPS_MULTIVERSION(sum_tile, (const PairTile<float>& p), (p))
KDOPS_MULTIVERSION(sum_tile, (const PairTile<double>& p), (p))

// The kernels of a relation, in its op's own file.
#define KDOPS_WEIGHT_KERNELS(Formula)                                                          \
  KDOPS_MULTIVERSION(weight_tile, (const PairTile<float>& p, const Formula<float>& f), (p, f)) \
  KDOPS_MULTIVERSION(weight_tile, (const PairTile<double>& p, const Formula<double>& f), (p, f))
#define KDOPS_STATS_KERNELS(Measure)                                                          \
  KDOPS_MULTIVERSION(stats_tile, (const PairTile<float>& p, const Measure<float>& m), (p, m)) \
  KDOPS_MULTIVERSION(stats_tile, (const PairTile<double>& p, const Measure<double>& m), (p, m))

}  // namespace kdops
