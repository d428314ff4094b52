// CCKD's loss: c sum_ij (K_ij - K'_ij)^2, K a polynomial in the inner product of (unit) rows, or
// the exponential of minus gamma times their squared distance.
#pragma once

#include "cuda/relation.cuh"

namespace kdops {

struct Correlation {
  static constexpr bool kDiagonal = true;
  static constexpr Normalised kNormalised = Normalised::kNone;
  double c, floor = 0;

  template <class T>
  SIMT_DEVICE T measured(T, T) const {
    return T(0);
  }
};

struct CckdTaylorLoss : Correlation {
  template <class T>
  using Formula = CckdTaylor<T>;
  static constexpr MapKind kKind = MapKind::kProduct;
  static constexpr Scaling kScaling = Scaling::kNone;
  static constexpr bool kLaplacian = false;

  Taylor<double> kernel;
  double scale;

  template <class T>
  SIMT_DEVICE CckdTaylor<T> formula(const Side&, const Side&, double, int64_t) const {
    return {converted<T>(kernel), static_cast<T>(scale)};
  }
  template <class T>
  SIMT_DEVICE PairTerm<T> term(const CckdTaylor<T>& formula, T g, T g_other) const {
    return formula(g, g_other);
  }
};

// Of unit rows the part of the gradient along a row drops out, so that of inner products may be
// taken as a Laplacian, which keeps its digits where rows are nearly parallel.
struct CckdUnitTaylorLoss : CckdTaylorLoss {
  static constexpr MapKind kKind = MapKind::kCosine;
  static constexpr Scaling kScaling = Scaling::kRows;
  static constexpr bool kLaplacian = true;

  template <class T>
  SIMT_DEVICE PairTerm<T> term(const CckdTaylor<T>& formula, T s, T s_other) const {
    return formula(T(1) - s / T(2), T(1) - s_other / T(2));
  }
};

template <Scaling kScaling_>
struct CckdExactLoss : Correlation {
  template <class T>
  using Formula = CckdExact<T>;
  static constexpr MapKind kKind = MapKind::kDistance;
  static constexpr Scaling kScaling = kScaling_;
  static constexpr bool kLaplacian = true;

  double gamma;

  template <class T>
  SIMT_DEVICE CckdExact<T> formula(const Side&, const Side&, double, int64_t) const {
    return {static_cast<T>(gamma), static_cast<T>(-8 * gamma * c)};
  }
  template <class T>
  SIMT_DEVICE PairTerm<T> term(const CckdExact<T>& formula, T s, T s_other) const {
    return formula(s, s_other);
  }
};

// f(loss) for the loss that the arguments choose; without coefficients the exact exponential.
template <class Coefficients, class F>
auto with_cckd_loss(double gamma, const Coefficients& coefficients, bool normalize, double c, F f) {
  if (coefficients.size() == 0)
    return normalize ? f(CckdExactLoss<Scaling::kRows>{{c}, gamma})
                     : f(CckdExactLoss<Scaling::kNone>{{c}, gamma});
  const Taylor<double> kernel = taylor<double>(coefficients);
  if (normalize) return f(CckdUnitTaylorLoss{{{c}, kernel, -4 * c}});
  return f(CckdTaylorLoss{{c}, kernel, 4 * c});
}

}  // namespace kdops
