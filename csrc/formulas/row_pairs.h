// A pair of rows in two maps of one batch whose rows have normalisers of their own, seen from
// either row: what it adds to the discrepancy of that row, and how it pulls at the student's map.
//
// Let q be the student's row over r, its sum (PKT) or its norm (SP), p the teacher's over r', and
// f_j the discrepancy of entry j. Then r dL/dk_j = f'_j - sum_m f'_m q_m, the sum times dr/dk_j
// where r is a norm. What both rows share is an Entry; a RowTerm gives f, f' up to a constant, and
// its part in the sum. V is a scalar or a vector of T; select, min, max, abs, sqrt and
// log_and_below come from the header that defines V.
#pragma once

#include <cmath>

#include "formulas/row_relations.h"

namespace kdops {

// Of one row.
template <class V>
struct RowScale {
  V inverse, inverse_other;  // 1 / r, 1 / r'
  V gain, fall;              // r' / r - 1, 1 - r / r'
  V sum;                     // of the moments
};

// PKT and HKD: maps of similarities over their rows' sums, that is conditional probabilities.
template <class T, class Similarity>
struct ConditionalMaps {
  Similarity similarity, similarity_other;

  template <class V>
  KDOPS_HD V other(V s) const {
    return similarity_other(s);
  }
  template <class V>
  KDOPS_HD V amount(V s) const {
    return similarity(s);
  }
  template <class V>
  KDOPS_HD static V amount_other(V k_other) {
    return k_other;
  }
  KDOPS_HD static RowScale<T> scale(double r, double r_other) {
    const bool empty = !(r > 0 && r_other > 0);
    return {T(r > 0 ? 1 / r : 0), T(r_other > 0 ? 1 / r_other : 0),
            T(empty ? 0 : (r_other - r) / r), T(empty ? 0 : (r_other - r) / r_other), T(0)};
  }
};

// dL/ds of both rows, up to the loss's factor, where k over its sum is a probability.
template <class V>
KDOPS_HD V conditional_weight(V k, V slope, V pull, const RowScale<V>& row, V pull_other,
                              const RowScale<V>& row_other) {
  const V both = (pull - row.sum) * row.inverse + (pull_other - row_other.sum) * row_other.inverse;
  return select(k <= V{}, V{}, slope * both);
}

// Of these: an entry of 0 in one map alone has an infinite term where it is the student's, or in
// Jeffreys.
//
// With a = k / k' - 1 and b = 1 - k' / k, q / p - 1 = a + gain k / k' and 1 - p / q = b + fall k' /
// k: differences of what agrees are taken once, and small ones stay exact.
template <class T, class Similarity, bool kJeffreys>
struct ConditionalPair : ConditionalMaps<T, Similarity> {
  static constexpr bool kMoments = kJeffreys;
  using ConditionalMaps<T, Similarity>::similarity;

  template <class V>
  struct Entry {
    V s, k, k_other;
    V ratio, above;        // k / k', less 1; with 1 for no similarity
    V ratio_other, below;  // k' / k, 1 less it
  };

  template <class V>
  KDOPS_HD Entry<V> entry(V s, V k_other) const {
    const V one = V{} + T(1), k = similarity(s), difference = k - k_other;
    const V some = select(k <= V{}, one, k), some_other = select(k_other <= V{}, one, k_other);
    const V inverse = one / some, inverse_other = one / some_other;
    return {s,
            k,
            k_other,
            some * inverse_other,
            difference * inverse_other,
            some_other * inverse,
            difference * inverse};
  }
  template <class V>
  KDOPS_HD RowTerm<V> term(const Entry<V>& e, const RowScale<V>& row) const {
    const V above = e.above + row.gain * e.ratio, below = e.below + row.fall * e.ratio_other;
    const auto log = log_and_below(e.ratio * (row.gain + T(1)), above);
    const V p = e.k_other * row.inverse_other, q = e.k * row.inverse;
    const V infinity = V{} + std::numeric_limits<T>::infinity();
    if constexpr (kJeffreys) {
      const V one_sided = select(e.k <= V{}, select(e.k_other <= V{}, V{}, infinity), infinity);
      const V moment = either(e, V{}, q * log.value);
      return {either(e, one_sided, p * above * log.value), either(e, V{}, below + log.value),
              moment};
    }
    const V present = select(e.k <= V{}, infinity, p * log.below);
    return {select(e.k_other <= V{}, q, present), below, V{}};
  }
  template <class V>
  KDOPS_HD V weight(const Entry<V>& e, V pull, const RowScale<V>& row, V pull_other,
                    const RowScale<V>& row_other) const {
    return conditional_weight(e.k, similarity.slope(e.s), pull, row, pull_other, row_other);
  }

 private:
  // `none` where one map or both have no similarity.
  template <class V>
  KDOPS_HD static V either(const Entry<V>& e, V none, V x) {
    return select(min(e.k, e.k_other) <= V{}, none, x);
  }
};

// PKT as published, with eps beside both probabilities in the logarithm.
template <class T>
struct SmoothedPair : ConditionalMaps<T, CosineSimilarity<T>> {
  static constexpr bool kMoments = true;
  using ConditionalMaps<T, CosineSimilarity<T>>::similarity;
  T eps;

  template <class V>
  struct Entry {
    V k, k_other;
  };

  template <class V>
  KDOPS_HD Entry<V> entry(V s, V k_other) const {
    return {similarity(s), k_other};
  }
  template <class V>
  KDOPS_HD RowTerm<V> term(const Entry<V>& e, const RowScale<V>& row) const {
    const V p = e.k_other * row.inverse_other, q = e.k * row.inverse, epsilon = V{} + eps;
    const auto plain = row.inverse <= V{};
    const V gap = select(plain, q - p, (e.k - e.k_other) * row.inverse + p * row.gain);
    const V inverse = T(1) / (p + epsilon);
    const auto log = log_and_below((q + epsilon) * inverse, gap * inverse);
    return smoothed_term(p, q, gap, epsilon, log.value, (p + epsilon) * log.below, plain);
  }
  template <class V>
  KDOPS_HD V weight(const Entry<V>& e, V pull, const RowScale<V>& row, V pull_other,
                    const RowScale<V>& row_other) const {
    return conditional_weight(e.k, similarity.slope(e.k), pull, row, pull_other, row_other);
  }
};

// SP: inner products over the norm of their row.
template <class T, int kNorm>
struct SimilarityPair {
  static constexpr bool kMoments = true;

  template <class V>
  struct Entry {
    V g, g_other;
  };
  template <class V>
  KDOPS_HD static V other(V g) {
    return g;
  }
  template <class V>
  KDOPS_HD static V amount(V g) {
    return kNorm == 2 ? g * g : abs(g);
  }
  template <class V>
  KDOPS_HD static V amount_other(V g) {
    return amount(g);
  }
  KDOPS_HD static RowScale<T> scale(double r, double r_other) {
    return {inverse_norm<kNorm, T>(r), inverse_norm<kNorm, T>(r_other), T(0), T(0), T(0)};
  }

  template <class V>
  KDOPS_HD static Entry<V> entry(V g, V g_other) {
    return {g, g_other};
  }
  template <class V>
  KDOPS_HD static RowTerm<V> term(const Entry<V>& e, const RowScale<V>& row) {
    const V own = rounded(e.g * row.inverse), u = own - rounded(e.g_other * row.inverse_other);
    return {u * u, u + u, (u + u) * own};
  }
  template <class V>
  KDOPS_HD static V weight(const Entry<V>& e, V pull, const RowScale<V>& row, V pull_other,
                           const RowScale<V>& row_other) {
    return (pull - row.sum * norm_slope<kNorm>(e.g * row.inverse)) * row.inverse +
           (pull_other - row_other.sum * norm_slope<kNorm>(e.g * row_other.inverse)) *
               row_other.inverse;
  }
};

}  // namespace kdops
