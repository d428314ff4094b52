// IRG's edge loss: c sum_ij (S_ij / max(S) - S'_ij / max(S'))^2, S_ij = |x_i - x_j|^2.
//
// dL/dS = 2 c u / m - (2 c sum(u S) / m^2) [S = m] / ties with m = max(S); sum(u S) comes from the
// first pass's moments.
#include "cpu/relation.h"

namespace kdops {

template <class T>
struct SquaredDistances {
  template <class V>
  KDOPS_INLINE V self(V s) const {
    return max(s, V{});
  }
  template <class V>
  KDOPS_INLINE V other(V s) const {
    return max(s, V{});
  }
};

KDOPS_STATS_KERNELS(SquaredDistances)
KDOPS_WEIGHT_KERNELS(IrgEdge)

struct IrgEdgeLoss {
  template <class T>
  using Formula = IrgEdge<T>;
  static constexpr bool kStats = true, kNear = false;
  static constexpr MapKind kind = MapKind::kSquaredDistance;
  static constexpr Gradient form = Gradient::kLaplacian;

  bool mean;

  template <class S>
  auto features_of(const Tensor& x) const {
    return features<S>(x);
  }
  template <class T>
  SquaredDistances<T> measure(const Features<T>&, const Features<T>&) const {
    return {};
  }

  template <class T>
  IrgEdge<T> formula(const PairStats& stats, const Features<T>& self, const Features<T>&) const {
    const double n = static_cast<double>(self.n), c = mean ? 1 / std::max(1.0, n * n) : 1;
    const double inverse = stats.self.largest > 0 ? 1 / stats.self.largest : 0;
    const double inverse_other = stats.other.largest > 0 ? 1 / stats.other.largest : 0;
    const double sum = stats.self.square * inverse - stats.cross * inverse_other;
    return irg_edge<T>(stats.self.largest, inverse, inverse_other, sum,
                       std::max(1.0, stats.self.ties), c);
  }

  template <class T>
  IrgEdge<T> correction(const IrgEdge<T>& f, double, int64_t) const {
    return f;
  }
};

std::vector<Tensor> irg_edge_loss_cpu(std::vector<Tensor> features, bool mean, bool student_grad,
                                      bool teacher_grad) {
  return relation("irg_edge_loss", features, IrgEdgeLoss{mean}, student_grad, teacher_grad);
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_irg_edge_loss", TORCH_BOX(&irg_edge_loss_cpu));
}

}  // namespace kdops
