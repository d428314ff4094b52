// One class of K peers' softmaxes p_i = softmax(z_i / T), and of the KLs between them.
//
// Near rows, whose peers differ little, are taken from peer 0. With top a class where z_0 is
// largest, and the differences of the other peers from it less the one at the top,
//
//     d_i = (z_i - z_0) - (z_i - z_0)[top],   e = exp((z_0 - z_0[top]) / T),
//     f_i = e exp(d_i / T),   h_i = e expm1(d_i / T),   Z_i = sum f_i,   x_i = sum h_i / Z_0,
//
// p_i = f_i / Z_i, Z_i = Z_0 (1 + x_i) and p_i - p_0 = (h_i - x_i e) / Z_i, where nothing cancels.
// d_0, h_0 and x_0 are 0, and so are those of a peer that equals peer 0.
//
// Other rows are taken plainly: d_i = z_i - max z_i, f_i = exp(d_i / T), and 0 for p_0 in p_i -
// p_0.
//
// Either way log p_i - log p_j = (d_i - d_j) / T - log(Z_i / Z_j). T is the type, V a T or a
// vector.
#pragma once

#include <cmath>
#include <limits>

#include "formulas/kl.h"

namespace kdops {

constexpr int kMostPeers = 16;

template <class T>
constexpr T kLacking =
    -std::numeric_limits<T>::infinity();  // the logit of a class that is not there

// d_i of a near row: `offset` is the peers' difference at the top. A class that both lack has 0.
template <class T, class V>
KDOPS_HD V peer_difference(V z, V z0, Difference<V> offset) {
  const V d = relative(difference(z, z0), offset), larger = z0 > z ? z0 : z;
  return larger == V{} + kLacking<T> ? V{} : d;
}

// Whether a near row may be taken for near: its largest d_i / T is below this, its least above
// -infinity, and none is NaN. exp of it still meets the smallest e as a normal number.
template <class T>
constexpr T kNear = sizeof(T) == 8 ? 300 : 40;

// p_i - p_0 of a near row with |x| <= 1 / 2. Beyond, peer i is far from peer 0 as a whole and x has
// lost the digits of 1 + x: then f stands for h, and Z_i / Z_0 for x.
template <class V>
KDOPS_HD V from_peer_0(V h, V e, V x, V inverse_z) {
  return (h - x * e) * inverse_z;
}

// log(Z_i / Z_0) of a near row, in double.
KDOPS_HD double log_ratio(double x, double z, double z0) {
  return x > -0.5 && x < 0.5 ? std::log1p(x) : std::log(z / z0);
}

// phi(u) and phi(-u), phi(u) = exp(u) - 1 - u, for |u| < 1: the even and the odd terms, each once.
template <class V>
struct PhiBoth {
  V plus, minus;
};

template <class T, class V>
KDOPS_HD PhiBoth<V> phi_both(V u) {
  const V s = u * u;
  V even, odd;
  if constexpr (sizeof(T) == 8) {
    even = s * T(1 / 6402373705728000.0) + T(1 / 20922789888000.0);
    even = even * s + T(1 / 87178291200.0);
    even = even * s + T(1 / 479001600.0);
    even = even * s + T(1 / 3628800.0);
    odd = s * T(1 / 355687428096000.0) + T(1 / 1307674368000.0);
    odd = odd * s + T(1 / 6227020800.0);
    odd = odd * s + T(1 / 39916800.0);
    odd = odd * s + T(1 / 362880.0);
  } else {
    even = V{} + T(1 / 3628800.0);
    odd = V{} + T(1 / 362880.0);
  }
  even = even * s + T(1 / 40320.0);
  even = even * s + T(1 / 720.0);
  even = even * s + T(1 / 24.0);
  even = (even * s + T(0.5)) * s;
  odd = odd * s + T(1 / 5040.0);
  odd = odd * s + T(1 / 120.0);
  odd = (odd * s + T(1 / 6.0)) * s * u;
  return {even + odd, even - odd};
}

// What a class adds to KL(p_j || p_i), and to KL(p_i || p_j): with u = log p_i - log p_j, p_j
// phi(u) and p_i phi(-u), neither negative. Beyond |u| = 1 from p_i and p_j themselves.
template <class V>
struct PairTerms {
  V of_i, of_j;  // what peer i pays for peer j as its target, and j for i
};

template <class T, class V>
KDOPS_HD PairTerms<V> pair_terms(V p_i, V p_j, V u) {
  const PhiBoth<V> phi = phi_both<T>(u);
  const V apart = p_i - p_j, one = V{} + T(1), square = u * u;
  const V far_i = apart - p_j * u, far_j = p_i * u - apart;
  const V near_i = p_j * phi.plus, near_j = p_i * phi.minus;
  return {square < one ? near_i : far_i, square < one ? near_j : far_j};
}

// p_i - p_j of one class from u = log p_i - log p_j; beyond |u| = 1 from p_i and p_j themselves.
template <class T, class V>
KDOPS_HD V share_difference(V p_i, V p_j, V u) {
  const V near = p_j * (u + phi_both<T>(u).plus);
  return u * u < V{} + T(1) ? near : p_i - p_j;
}

// pair_terms of plain rows: a class that both lack is dropped; one that the learning peer alone
// lacks makes its loss infinite, one that its target alone lacks adds the peer's own p.
template <class T, class V>
KDOPS_HD PairTerms<V> plain_pair_terms(V d_i, V d_j, V p_i, V p_j, V u) {
  const PairTerms<V> terms = pair_terms<T>(p_i, p_j, u);
  const V lacking = V{} + kLacking<T>;
  const V of_i = d_i == lacking ? V{} - kLacking<T> : terms.of_i;
  const V of_j = d_j == lacking ? V{} - kLacking<T> : terms.of_j;
  return {d_j == lacking ? p_i : of_i, d_i == lacking ? p_j : of_j};
}

// The gradient of peer i, a class: soft_weight / T times sum_j w_ij (g_i - g_j), g = p - p_0. The
// difference comes first, so that equal peers leave an exact 0.
template <class V, class Weight>
KDOPS_HD V pull(V sum, Weight weight, V g_i, V g_j) {
  return sum + weight * (g_i - g_j);
}

// The cross-entropy of a label whose f is `at_label` beside the sum of the others': `below` is
// max z - z[label], over the temperature 1.
KDOPS_HD double label_loss(double others, double at_label, double below) {
  return at_label > others ? std::log1p(others / at_label) : std::log(others + at_label) + below;
}

}  // namespace kdops
