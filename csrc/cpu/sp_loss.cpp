// SP's loss: c sum_ij (G_ij / |G_i| - G'_ij / |G'_i|)^2, G the inner products of the rows.
#include "cpu/row_relation.h"

namespace kdops {

KDOPS_ROW_KERNELS(SimilarityPair)

struct SpLoss {
  static constexpr MapKind kind = MapKind::kInnerProduct;
  static constexpr Gradient form = Gradient::kProduct;
  static constexpr bool self_pairs = true;
  template <class T>
  using Formula = SimilarityPair<T>;

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
  SimilarityPair<T> formula(const Features<T>&, const Features<T>&) const {
    return {};
  }
};

std::vector<Tensor> sp_loss_cpu(std::vector<Tensor> features, int64_t power, bool student_grad) {
  return row_relation("sp_loss", features, SpLoss{power}, student_grad);
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_sp_loss", TORCH_BOX(&sp_loss_cpu)); }

}  // namespace kdops
