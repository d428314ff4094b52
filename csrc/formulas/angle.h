// The cosine at a vertex a between b and c from squared distances alone, and its derivatives.
//
//   cos = (S_ab + S_ac - S_bc) p_ab p_ac / 2,   p = 1 / max(sqrt(S), eps), 0 where S is 0
//
// With h = dL/dcos, A_ab = sum_c h p_ac, B_ab = sum_c h cos and Z_bc = sum_a h p_ab p_ac (over
// ordered triplets with b != c, h counted for both orders),
//   dL/dS_ij, i and j in both orders = p_ij (A_ij - p_ij B_ij) + p_ij (A_ji - p_ij B_ji) - Z_ij,
// where the B terms belong to lengths above eps only.
#pragma once

#include "formulas/platform.h"

namespace kdops {

// p for a squared distance.
template <class T, class V>
KDOPS_HD V inverse_length(V s, T eps) {
  const auto none = (s <= V{});
  return select(none, V{}, V{} + T(1)) /
         select(none, V{} + T(1), max(sqrt(max(s, V{})), V{} + eps));
}

// cos over p_ab / 2, with d_ac = S_ac p_ac: the part of a triplet that varies with c.
template <class V>
KDOPS_HD V cosine_part(V s_ab, V s_bc, V p_ac, V d_ac) {
  return fma(s_ab - s_bc, p_ac, d_ac);
}

// The cosine of a pair with itself: 1, less for a bounded length, 0 for none.
template <class T>
KDOPS_HD T self_cosine(T s, T p, T eps) {
  return s <= T(0) ? T(0) : (p * eps < T(1) ? T(1) : s * p * p);
}

// dL/dS of vertex i's part of pair (i, j).
template <class T>
KDOPS_HD T vertex_weight(T a, T b, T p, T eps) {
  return p * (p * eps < T(1) ? a - p * b : a);
}

}  // namespace kdops
