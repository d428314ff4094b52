// The cosine at a vertex a between b and c from squared distances alone, and its derivatives.
//
//   cos = (S_ab + S_ac - S_bc) p_ab p_ac / 2,   p = 1 / max(sqrt(S), eps), 0 where S is 0
//
// With the lengths d = S p, 2 cos = p_ab (p_ac (S_ab - S_bc) + d_ac). In float32 this loses what
// distinguishes two cosines near 1/2, where most are when distances are alike. So they come over a
// typical distance, as excess: with S = 1 + e, d = 1 + l and p = 1 + q,
//
//   2 cos = 1 + v,   v = p_ab (p_ac (e_ab - e_bc) + l_ac) + q_ab
//
// where v is small and computed from small numbers alone. In float64, which serves distances of all
// sizes, e, l, q and v are S, d, p and 2 cos themselves.
//
// With h = dL/dcos, A_ab = sum_c h p_ac, B_ab = sum_c h cos and Z_bc = sum_a h p_ab p_ac (over
// ordered triplets with b != c, h counted for both orders),
//   dL/dS_ij, i and j in both orders = p_ij (A_ij - p_ij B_ij) + p_ij (A_ji - p_ij B_ji) - Z_ij,
// where the B terms belong to lengths above eps only.
#pragma once

#include "formulas/platform.h"

namespace kdops {

// What e, l, q and v are the excess over.
template <class T>
constexpr T kTypical = T(sizeof(T) == sizeof(float) ? 1 : 0);

// The pair's l.
template <class T, class V>
KDOPS_HD V length_excess(V e, V q) {
  if constexpr (kTypical<T> == T(0)) return e * q;
  return fma(e, q + kTypical<T>, q);
}

// v of the arms (a, b) and (a, c), whose p are at hand; `e_bc` is a V or its element.
template <class T, class V, class E>
KDOPS_HD V cosine_of_arms(V e_ab, V p_ab, V q_ab, V l_ac, V p_ac, E e_bc) {
  const V inner = fma(e_ab - e_bc, p_ac, l_ac);
  if constexpr (kTypical<T> == T(0)) return inner * p_ab;
  return fma(inner, p_ab, q_ab);
}
template <class T, class V>
KDOPS_HD V cosine_excess(V e_ab, V q_ab, V e_ac, V q_ac, V p_ac, V e_bc) {
  return cosine_of_arms<T>(e_ab, q_ab + kTypical<T>, q_ab, length_excess<T>(e_ac, q_ac), p_ac,
                           e_bc);
}

// The cosine of a pair with itself: 1, less for a bounded length, 0 for none.
template <class T>
KDOPS_HD T self_cosine(T s, T p, T eps) {
  return p == T(0) ? T(0) : (p < T(1) / eps ? T(1) : s * p * p);
}

// dL/dS of vertex i's part of pair (i, j).
template <class T>
KDOPS_HD T vertex_weight(T a, T b, T p, T eps) {
  return p * (p < T(1) / eps ? a - p * b : a);
}

}  // namespace kdops
