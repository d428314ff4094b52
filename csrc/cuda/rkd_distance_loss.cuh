// RKD's distance loss: c sum_ij huber(d_ij / mean(d) - d'_ij / mean(d')), d_ij = |x_i - x_j|.
#pragma once

#include "cuda/relation.cuh"

namespace kdops {

struct RkdDistanceLoss {
  template <class T>
  using Formula = RkdDistance<T>;
  static constexpr MapKind kKind = MapKind::kDistance;
  static constexpr Scaling kScaling = Scaling::kBatch;
  static constexpr bool kDiagonal = false, kLaplacian = true;
  static constexpr Normalised kNormalised = Normalised::kMap;

  double floor, c;

  template <class T>
  SIMT_DEVICE T measured(T s, T scaled_floor) const {
    return RkdDistance<T>::distance(s, scaled_floor);
  }
  template <class T>
  SIMT_DEVICE RkdDistance<T> formula(const Side& self, const Side& other, double moment,
                                     int64_t n) const {
    const double pairs = max(1.0, double(n) * double(n - 1));
    const double inverse = self.sum > 0 ? pairs / self.sum : 0;
    const double inverse_other = other.sum > 0 ? pairs / other.sum : 0;
    return rkd_distance<T>(floor * self.scale * self.scale, floor * other.scale * other.scale,
                           inverse, inverse_other, moment, pairs, c);
  }
  template <class T>
  SIMT_DEVICE PairTerm<T> term(const RkdDistance<T>& formula, T s, T s_other) const {
    return formula(s, s_other);
  }
};

}  // namespace kdops
