// A row of two maps of one batch, each over its own normaliser: what a pair adds to the discrepancy
// of the two rows, and how it pulls at the student's map.
//
// Let q be the student's row over r, its sum (PKT) or its norm (SP), and f_j the discrepancy of
// entry j from the teacher's. Then r dL/dk_j = f'_j - sum_m f'_m q_m, the sum times dr/dk_j where r
// is a norm. A term gives f, f' up to a constant, and its part in the sum. V is a scalar or a
// vector of T; select, sqrt, min, max, log_ratio and expm1_and_phi come from the header that
// defines V.
#pragma once

#include <cmath>
#include <limits>

#include "formulas/kl.h"

namespace kdops {

template <class V>
struct RowTerm {
  V value, pull, moment;
};

// 1 / x, and 0 for an x whose inverse, or a small multiple of it, T does not hold.
template <class T>
constexpr double kLeast = 4 * double(std::numeric_limits<T>::min());
template <class T>
KDOPS_HD T inverse_or_zero(double x) {
  return T(x > kLeast<T> ? 1 / x : 0);
}

// Of unit rows with inner product g. The slope is that of the Laplacian's weight.
template <class T>
struct CosineSimilarity {
  static constexpr T kNoPair = -1;

  template <class V>
  KDOPS_HD V operator()(V g) const {
    return max(V{}, (g + T(1)) * T(0.5));
  }
  template <class V>
  KDOPS_HD V slope(V) const {
    return V{} - T(0.5);
  }
};

// The same from the squared length s of the rows' sum: nearly opposite rows keep their digits.
template <class T>
struct CosineOfSum {
  static constexpr T kNoPair = 0;

  template <class V>
  KDOPS_HD V operator()(V s) const {
    return s * T(0.25);
  }
  template <class V>
  KDOPS_HD V slope(V) const {
    return V{} - T(0.5);
  }
};

// Of rows at squared distance s, whose lengths are scaled: 1 / (1 + |x_i - x_j|).
template <class T>
struct StudentT {
  T inverse_scale;
  static constexpr T kNoPair = std::numeric_limits<T>::infinity();

  template <class V>
  KDOPS_HD V operator()(V s) const {
    return T(1) / (sqrt(max(V{}, s)) * inverse_scale + T(1));
  }
  template <class V>
  KDOPS_HD V slope(V s) const {
    const auto apart = s > V{};
    const V k = (*this)(s), d = sqrt(select(apart, s, V{} + T(1)));
    return select(apart, k * k * -inverse_scale / d, V{});
  }
};

// PKT and HKD: k over its sum is a conditional probability; p is the teacher's, q the student's. An
// entry of 0 in one map alone has an infinite term where it is the student's, or in Jeffreys.
template <class T, class Similarity, bool kJeffreys>
struct ConditionalRow {
  Similarity similarity, similarity_other;
  T inverse, inverse_other;
  T shift;  // log(r' / r)
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  template <class V>
  KDOPS_HD RowTerm<V> operator()(V s, V s_other) const {
    const V one = V{} + T(1), infinity = V{} + kInfinity;
    const V k = similarity(s), k_other = similarity_other(s_other);
    const V p = k_other * inverse_other, q = k * inverse;
    const auto none = q <= V{}, none_other = p <= V{};
    const auto either = none | none_other;
    const V per_other = one / select(either, one, k_other);
    const V log_k = log_ratio(select(either, one, k * per_other), (k - k_other) * per_other);
    const V u = select(either, V{}, log_k + shift);
    const auto e = expm1_and_phi(u);
    const V gap = select(u * u < one, p * e.value, q - p);
    const V turned = select(either, V{}, gap / select(either, one, q));  // 1 - p / q
    if constexpr (kJeffreys) {
      const V one_sided = select(none_other, select(none, V{}, infinity), infinity);
      return {select(either, one_sided, gap * u), turned + u, q * u};
    }
    const V present = select(none, infinity, kl_term(p, q, u, V(e.phi)));
    return {select(none_other, q, present), select(none_other, one, turned), V{}};
  }
  // dL/ds, up to the loss's factor.
  template <class V>
  KDOPS_HD V weight(V s, V pull, V sum) const {
    return select(similarity(s) <= V{}, V{}, similarity.slope(s) * (pull - sum) * inverse);
  }
};

// eps where it is a number of T that can be divided by.
template <class T>
KDOPS_HD T divisor(double eps) {
  return T(eps > double(std::numeric_limits<T>::min()) ? eps
                                                       : double(std::numeric_limits<T>::min()));
}

// PKT as published: p log(P / Q) with P = p + eps, Q = q + eps, log = log(Q / P). A row's q - p sum
// to 0: with them the terms are `excess`, P (Q / P - 1 - log) >= 0, and nearly equal rows keep
// their digits. A row of no similarity at all has `plain` terms.
template <class V, class M>
KDOPS_HD RowTerm<V> smoothed_term(V p, V q, V gap, V eps, V log, V excess, M plain) {
  const V pull = (gap + eps) / (q + eps);  // 1 - p / Q
  return {select(plain, p * (V{} - log), excess + eps * log), pull, q * pull};
}

template <class T>
struct SmoothedRow {
  CosineSimilarity<T> similarity;
  T eps, inverse, inverse_other;
  T gain;  // r' / r - 1

  template <class V>
  KDOPS_HD RowTerm<V> operator()(V s, V s_other) const {
    const V k = similarity(s), k_other = similarity(s_other);
    const V p = k_other * inverse_other, q = k * inverse;
    const bool plain = !(inverse > T(0));
    const V gap = plain ? q - p : (k - k_other) * inverse + p * gain;
    const V sum = p + eps, sum_own = q + eps;
    const V log = log_ratio(sum_own / sum, gap / sum);
    const V excess = kl_term(sum, sum_own, log, V(expm1_and_phi(min(log, V(1))).phi));
    return smoothed_term(p, q, gap, V(eps), log, excess, plain);
  }
  template <class V>
  KDOPS_HD V weight(V s, V pull, V sum) const {
    return select(similarity(s) <= V{}, V{}, similarity.slope(s) * (pull - sum) * inverse);
  }
};

// Of the sums of a row of both maps.
template <class T>
KDOPS_HD SmoothedRow<T> smoothed_row(T eps, double sum, double sum_other) {
  const bool either = !(sum > 0 && sum_other > 0);
  return {{},
          eps,
          inverse_or_zero<T>(sum),
          inverse_or_zero<T>(sum_other),
          T(either ? 0 : (sum_other - sum) / sum)};
}
template <bool kJeffreys, class T, template <class> class Similarity>
KDOPS_HD ConditionalRow<T, Similarity<T>, kJeffreys> conditional_row(Similarity<T> own,
                                                                     Similarity<T> other,
                                                                     double sum, double sum_other) {
  const bool either = !(sum > 0 && sum_other > 0);
  return {own, other, inverse_or_zero<T>(sum), inverse_or_zero<T>(sum_other),
          T(either ? 0 : std::log1p((sum_other - sum) / sum))};
}

// What a row's sum of |g|^kNorm says of its norm, and the norm's slope times it: in an entry over
// it.
template <int kNorm, class T>
KDOPS_HD T inverse_norm(double sum) {
  return inverse_or_zero<T>(kNorm == 2 ? std::sqrt(sum) : sum);
}
template <int kNorm, class V>
KDOPS_HD V norm_slope(V over) {
  if constexpr (kNorm == 2) return over;
  const V one = V{} + 1;
  return select(over > V{}, one, select(over < V{}, V{} - one, V{}));
}

// SP: inner products over the norm of their row.
template <class T, int kNorm>
struct SimilarityRow {
  T inverse, inverse_other;

  template <class V>
  KDOPS_HD RowTerm<V> operator()(V g, V g_other) const {
    const V own = rounded(g * inverse), u = own - rounded(g_other * inverse_other);
    return {u * u, u + u, (u + u) * own};
  }
  template <class V>
  KDOPS_HD V weight(V g, V pull, V sum) const {
    return (pull - sum * norm_slope<kNorm>(g * inverse)) * inverse;
  }
};
// Of the sums of a row of both maps.
template <int kNorm, class T>
KDOPS_HD SimilarityRow<T, kNorm> similarity_row(double sum, double sum_other) {
  return {inverse_norm<kNorm, T>(sum), inverse_norm<kNorm, T>(sum_other)};
}

}  // namespace kdops
