// SP's loss: c sum_ij (G_ij / |G_i| - G'_ij / |G'_i|)^2, G the inner products of the rows.
#pragma once

#include "cuda/relate.cuh"

namespace kdops {

// In float64, where the square of no float vanishes.
template <class T>
struct Square {
  SIMT_DEVICE double operator()(T g) const { return double(g) * double(g); }
};

struct SpLoss {
  template <class T>
  using Formula = SimilarityRow<T>;
  static constexpr MapKind kKind = MapKind::kProduct;
  static constexpr Scaling kScaling = Scaling::kBatch;
  static constexpr bool kLaplacian = false;
  static constexpr Normalised kNormalised = Normalised::kRows;

  double c, floor = 0;

  template <class T>
  SIMT_DEVICE T entry(T g, bool) const {
    return g;
  }
  template <class T>
  SIMT_DEVICE Square<T> measure(T) const {
    return {};
  }
  template <class T>
  SIMT_DEVICE SimilarityRow<T> formula(Square<T>, Square<T>, double sum, double sum_other) const {
    return similarity_row<T>(sum, sum_other);
  }
};

}  // namespace kdops
