// One class of a target mixed from K peers' logits, and of what flows back through it.
//
// Targets are logits and so are rows of the peers' own kind, with d as in peers.h: in near rows
//
//     t = sum_k w_k z_k:             d = sum_k w_k d_k + (sum_k w_k - 1) (z_0 - z_0[top])
//     t = min_k (z_k - z_k[label]):  d = min_k (d_k - d_k[label]) + max_k d_k[label]
//
// each less its value at the top, where every d_k is 0. Peers that are equal have d = 0.
//
// With R = sum_i (log q - log p_i) over the peers that learn from q = softmax(t / T), and m = sum_i
// KL(q || p_i) = sum q R, the soft terms' gradient of t is q (R - m) / T. D = dL/dt goes on as
// w_k D to peer k, and as sum_c D_c z_kc to w_k, where sum_c D_c = 0 lets z_k be taken less any
// constant: in near rows (z_0 - z_0[top]) + d_k.
#pragma once

#include <limits>

#include "formulas/peers.h"

namespace kdops {

enum MixtureRule { kWeights, kMinLogit, kNaive };
enum TargetGrad { kNoTargetGrad, kWeightsGrad, kAllGrad };

template <class T>
constexpr T kEpsilon = std::numeric_limits<T>::epsilon();

// sum_k w_k - 1, and 0 for weights that sum to 1 but for their rounding.
template <class T, class Sum>
KDOPS_HD Sum excess(Sum sum, int peers) {
  const Sum excess = sum - 1, rounding = peers * Sum(kEpsilon<T>);
  return excess < rounding && excess > -rounding ? Sum(0) : excess;
}

// One class of dL/dt for the KLs: scale is soft_weight / T; log_ratios is -R. Nothing goes to a
// class that the target lacks.
template <class V>
KDOPS_HD V target_pull(V q, V log_ratios, V kls, V scale) {
  return q == V{} ? V{} : scale * q * (V{} - log_ratios - kls);
}

}  // namespace kdops
