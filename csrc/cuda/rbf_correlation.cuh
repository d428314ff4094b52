// The map of RBF correlations: a polynomial in the inner product of (unit) rows, or the exponential
// of minus gamma times their squared distance.
#pragma once

#include "cuda/map_op.cuh"

namespace kdops {

struct RbfCorrelation {
  double floor = 0;

  bool normalized() const { return false; }
  template <class T>
  SIMT_DEVICE T measured(T, T) const {
    return T(0);
  }
};

// Of the inner product g, or for unit rows of s = 2 - 2 g, whose gradient is a Laplacian: what it
// adds along a row drops out.
template <class T, bool kUnit>
struct TaylorEntry {
  Taylor<T> kernel;

  SIMT_DEVICE T inner(T s) const { return kUnit ? T(1) - s / T(2) : s; }
  SIMT_DEVICE T value(T s, bool) const {
    T value, slope;
    kernel(inner(s), value, slope);
    return value;
  }
  SIMT_DEVICE T weight(T s, T upstream, bool) const {
    T value, slope;
    kernel(inner(s), value, slope);
    return (kUnit ? -slope : slope) * upstream;
  }
};
template <bool kUnit>
struct TaylorCorrelation : RbfCorrelation {
  template <class T>
  using Formula = TaylorEntry<T, kUnit>;
  static constexpr MapKind kKind = kUnit ? MapKind::kCosine : MapKind::kProduct;
  static constexpr Scaling kScaling = kUnit ? Scaling::kRows : Scaling::kNone;
  static constexpr bool kLaplacian = kUnit;

  Taylor<double> kernel;

  template <class T>
  SIMT_DEVICE TaylorEntry<T, kUnit> formula(const Side&, double, int64_t) const {
    return {converted<T>(kernel)};
  }
};

template <class T>
struct ExactEntry {
  T gamma;

  SIMT_DEVICE T value(T s, bool) const { return exp(-gamma * s); }
  SIMT_DEVICE T weight(T s, T upstream, bool) const {
    return T(-2) * gamma * exp(-gamma * s) * upstream;
  }
};
template <bool kUnit>
struct ExactCorrelation : RbfCorrelation {
  template <class T>
  using Formula = ExactEntry<T>;
  static constexpr MapKind kKind = MapKind::kDistance;
  static constexpr Scaling kScaling = kUnit ? Scaling::kRows : Scaling::kNone;
  static constexpr bool kLaplacian = true;

  double gamma;

  template <class T>
  SIMT_DEVICE ExactEntry<T> formula(const Side&, double, int64_t) const {
    return {static_cast<T>(gamma)};
  }
};

// f(op) for the function that the arguments choose; without coefficients the exact exponential.
template <class Coefficients, class F>
auto with_rbf_correlation(double gamma, const Coefficients& coefficients, bool normalize, F f) {
  if (coefficients.size() == 0)
    return normalize ? f(ExactCorrelation<true>{{}, gamma}) : f(ExactCorrelation<false>{{}, gamma});
  const Taylor<double> kernel = taylor<double>(coefficients);
  return normalize ? f(TaylorCorrelation<true>{{}, kernel})
                   : f(TaylorCorrelation<false>{{}, kernel});
}

}  // namespace kdops
