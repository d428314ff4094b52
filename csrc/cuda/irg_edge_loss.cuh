// IRG's edge loss: c sum_ij (S_ij / max(S) - S'_ij / max(S'))^2, S_ij = |x_i - x_j|^2.
#pragma once

#include "cuda/relation.cuh"

namespace kdops {

struct IrgEdgeLoss {
  template <class T>
  using Formula = IrgEdge<T>;
  static constexpr MapKind kKind = MapKind::kDistance;
  static constexpr Scaling kScaling = Scaling::kBatch;
  static constexpr bool kDiagonal = false, kLaplacian = true;
  static constexpr Normalised kNormalised = Normalised::kMap;

  double c, floor = 0;

  template <class T>
  SIMT_DEVICE T measured(T s, T) const {
    return s;
  }
  template <class T>
  SIMT_DEVICE IrgEdge<T> formula(const Side& self, const Side& other, double moment,
                                 int64_t) const {
    const double inverse = self.largest > 0 ? 1 / self.largest : 0;
    const double inverse_other = other.largest > 0 ? 1 / other.largest : 0;
    return irg_edge<T>(self.largest, inverse, inverse_other, moment, self.ties, c);
  }
  template <class T>
  SIMT_DEVICE PairTerm<T> term(const IrgEdge<T>& formula, T s, T s_other) const {
    return formula(s, s_other);
  }
};

}  // namespace kdops
