// A pair of rows in two maps: the discrepancy's value, and its weight in the gradient.
//
// Every relational loss is L = c sum_ij f(S_ij, S'_ij) over ordered pairs, S the student's map.
// With w_ij = 2 (dL/dS_ij + dL/dS_ji) its gradient is sum_j w_ij (x_i - x_j): a graph Laplacian. V
// is a scalar or a vector of T; select, sqrt, min and max come from the header that defines V. A
// negative squared distance says "not a pair": the diagonal and the padding of a tile.
#pragma once

#include "formulas/huber.h"

namespace kdops {

template <class V>
struct PairTerm {
  V value;   // f
  V weight;  // w_ij
  V moment;  // its part in the sum behind the normaliser's gradient
  V excess;  // what of it is due to a clipped slope
};

// RKD's distance: huber(d / mean(d) - d' / mean(d')), d = sqrt(max(S, floor)).
template <class T>
struct RkdDistance {
  T floor, floor_other;  // lower bounds of the squared lengths
  T inverse_mean, inverse_mean_other;
  T scale;  // 2 c / mean(d): the weight's factor of the slope
  T pull;   // 2 c sum(slope d) / (mean(d)^2 pairs): the mean's gradient; slope d is the moment

  template <class V>
  KDOPS_HD static V distance(V s, T floor) {
    return select(s < V{}, V{}, sqrt(max(V{} + floor, s)));
  }

  template <class V>
  KDOPS_HD PairTerm<V> operator()(V s, V s_other) const {
    const V d = distance(s, floor);
    const V d_other = distance(s_other, floor_other);
    const V u = rounded(d * inverse_mean) - rounded(d_other * inverse_mean_other);
    const V slope = huber_slope<T>(u);
    const auto flat = (s <= V{} + floor);  // a bounded length, or none: subgradient 0
    const V weight = select(flat, V{}, (slope * scale - pull) / select(flat, V{} + T(1), d));
    return {huber_value<T>(u, slope), weight, slope * d, (slope - u) * d};
  }
};
template <class T, class A>
KDOPS_HD RkdDistance<T> rkd_distance(A floor, A floor_other, A inverse, A inverse_other, A moment,
                                     A pairs, A c) {
  return {T(floor),         T(floor_other),     T(inverse),
          T(inverse_other), T(2 * c * inverse), T(2 * c * moment * inverse * inverse / pairs)};
}

// IRG's edges: (S / max(S) - S' / max(S'))^2.
template <class T>
struct IrgEdge {
  T inverse_max, inverse_max_other;
  T largest;
  T scale;  // 8 c / max(S)
  T pull;   // 8 c sum(u S) / (max(S)^2 ties): what each maximal pair takes; u S is the moment

  template <class V>
  KDOPS_HD PairTerm<V> operator()(V s, V s_other) const {
    const V edge = max(V{}, s);
    const V u = rounded(edge * inverse_max) - rounded(max(V{}, s_other) * inverse_max_other);
    const V weight = u * scale - select(edge == V{} + largest, V{} + pull, V{});
    return {u * u, weight, u * edge, V{}};
  }
};
template <class T, class A>
KDOPS_HD IrgEdge<T> irg_edge(A largest, A inverse, A inverse_other, A moment, A ties, A c) {
  return {T(inverse), T(inverse_other), T(largest), T(8 * c * inverse),
          T(8 * c * moment * inverse * inverse / ties)};
}

// CCKD's correlation by its Taylor polynomial in the inner product: (K(g) - K(g'))^2. The weight is
// that of g: sum_j w_ij x_j, or minus that in the Laplacian of unit rows.
constexpr int kMaxOrder = 8;

template <class T>
struct Taylor {
  T coefficient[kMaxOrder + 1];
  int order;

  template <class V>
  KDOPS_HD void operator()(V g, V& value, V& slope) const {
    value = V{} + coefficient[order];
    slope = V{};
    for (int p = order - 1; p >= 0; --p) {
      slope = slope * g + value;
      value = value * g + coefficient[p];
    }
  }
};

template <class T, class Coefficients>
Taylor<T> taylor(const Coefficients& coefficients) {
  Taylor<T> t{};
  t.order = static_cast<int>(coefficients.size()) - 1;
  for (int p = 0; p <= t.order; ++p) t.coefficient[p] = static_cast<T>(coefficients[p]);
  return t;
}
template <class T, class A>
KDOPS_HD Taylor<T> converted(const Taylor<A>& t) {
  Taylor<T> y{};
  y.order = t.order;
  for (int p = 0; p <= kMaxOrder; ++p) y.coefficient[p] = static_cast<T>(t.coefficient[p]);
  return y;
}

template <class T>
struct CckdTaylor {
  Taylor<T> kernel;
  T scale;  // 4 c, its sign by the form of the gradient

  template <class V>
  KDOPS_HD PairTerm<V> operator()(V g, V g_other) const {
    V value, slope, other, unused;
    kernel(g, value, slope);
    kernel(g_other, other, unused);
    const V u = value - other;
    return {u * u, u * slope * scale, V{}, V{}};
  }
};

// CCKD's correlation by the exact exponential of squared distances.
template <class T>
struct CckdExact {
  T gamma;
  T scale;  // -8 c gamma

  template <class V>
  KDOPS_HD PairTerm<V> operator()(V s, V s_other) const {
    const V value = exp(max(V{}, s) * -gamma);
    const V u = value - exp(max(V{}, s_other) * -gamma);
    return {u * u, u * value * scale, V{}, V{}};
  }
};

}  // namespace kdops
