// The Huber loss: u^2 / 2 for |u| < 1, |u| - 1/2 beyond.
#pragma once

#include "formulas/platform.h"

namespace kdops {

// Its derivative at u; the loss itself is slope (u - slope / 2).
template <class T, class V>
KDOPS_HD V huber_slope(V u) {
  const V one = V{} + T(1);
  return max(min(u, one), -one);
}
template <class T, class V>
KDOPS_HD V huber_value(V u, V slope) {
  return slope * (u - slope * T(0.5));
}

}  // namespace kdops
