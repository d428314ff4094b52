// One class of KL(p || q), p = softmax(teacher / T), q = softmax(student / T).
//
// With u = log q - log p and sum(q - p) = 0,
//
//     KL = sum p phi(u),  phi(u) = exp(u) - 1 - u >= 0
//
// so no term cancels another: the sum is never negative, and 0 for equal rows. V is a float, a
// double, or a vector of them.
#pragma once

#include "formulas/platform.h"

namespace kdops {

// student - teacher without error: value + error.
template <class V>
struct Difference {
  V value, error;
};

template <class V>
KDOPS_HD Difference<V> difference(V student, V teacher) {
  const V value = student - teacher;
  const V subtracted = student - value;
  return {value, (student - (value + subtracted)) + (subtracted - teacher)};
}

// A difference less the one of a reference class, which takes an offset of the rows away.
template <class V>
KDOPS_HD V relative(Difference<V> d, Difference<V> reference) {
  return (d.value - reference.value) + (d.error - reference.error);
}

// p phi(u) where phi(u) is known for |u| < 1 alone. Beyond, q and not p exp(u): p may underflow.
template <class V>
KDOPS_HD V kl_term(V p, V q, V u, V phi) {
  const V far = q - p - p * u;
  const V near = p * phi;
  const V present = u * u < V{} + 1 ? near : far;
  return p == V{} ? q : present;
}

}  // namespace kdops
