// SP's loss: c sum_ij (G_ij / |G_i| - G'_ij / |G'_i|)^2, G the inner products of the rows, |.| the
// Euclidean norm or, as torchdistill has it, the sum of magnitudes.
#pragma once

#include "cuda/relate.cuh"

namespace kdops {

// |g|^kNorm in float64, where the square of no float vanishes.
template <class T, int kNorm>
struct Power {
  SIMT_DEVICE double operator()(T g) const {
    return kNorm == 2 ? double(g) * double(g) : abs(double(g));
  }
};

template <int kNorm>
struct SpLoss {
  template <class T>
  using Formula = SimilarityRow<T, kNorm>;
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
  SIMT_DEVICE Power<T, kNorm> measure(T) const {
    return {};
  }
  template <class T>
  SIMT_DEVICE Formula<T> formula(Power<T, kNorm>, Power<T, kNorm>, double sum,
                                 double sum_other) const {
    return similarity_row<kNorm, T>(sum, sum_other);
  }
};

// f(loss) for the norm.
template <class F>
auto with_sp_loss(int64_t norm, double c, F f) {
  return norm == 1 ? f(SpLoss<1>{c}) : f(SpLoss<2>{c});
}

}  // namespace kdops
