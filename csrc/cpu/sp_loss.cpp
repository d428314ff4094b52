// SP's loss: c sum_ij (G_ij / |G_i| - G'_ij / |G'_i|)^2, G the inner products of the rows, |.| the
// Euclidean norm or, as torchdistill has it, the sum of magnitudes.
#include "cpu/row_relation.h"

namespace kdops {

template <class T>
using EuclideanPair = SimilarityPair<T, 2>;
template <class T>
using MagnitudePair = SimilarityPair<T, 1>;
KDOPS_ROW_KERNELS(EuclideanPair)
KDOPS_ROW_KERNELS(MagnitudePair)

template <int kNorm>
struct SpLoss {
  static constexpr MapKind kind = MapKind::kInnerProduct;
  static constexpr Gradient form = Gradient::kProduct;
  static constexpr bool self_pairs = true;
  template <class T>
  using Formula = SimilarityPair<T, kNorm>;

  int64_t power;

  template <class S>
  auto features_of(const Tensor& x) const {
    return features<S>(x);
  }
  template <class T>
  T no_pair() const {
    return 0;
  }
  template <class T>
  Formula<T> formula(const Features<T>&, const Features<T>&) const {
    return {};
  }
};

std::vector<Tensor> sp_loss_cpu(std::vector<Tensor> features, int64_t norm, int64_t power,
                                bool student_grad) {
  KDOPS_CHECK(norm == 1 || norm == 2, "sp_loss: norm must be 1 or 2, got ", norm);
  if (norm == 1) return row_relation("sp_loss", features, SpLoss<1>{power}, student_grad);
  return row_relation("sp_loss", features, SpLoss<2>{power}, student_grad);
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_sp_loss", TORCH_BOX(&sp_loss_cpu)); }

}  // namespace kdops
