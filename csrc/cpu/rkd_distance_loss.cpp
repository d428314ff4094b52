// RKD's distance loss: c sum_ij huber(d_ij / mean(d) - d'_ij / mean(d')), d_ij = |x_i - x_j|.
//
// dL/dd = c (slope / m - sum(slope d) / (m^2 pairs)) with m = mean(d). The sum is taken from the
// first pass's moments as if no slope were clipped; what clipping leaves out is corrected after.
#include "cpu/relation.h"

namespace kdops {

template <class T>
struct Distances {
  T floor, floor_other;
  template <class V>
  KDOPS_INLINE V self(V s) const {
    return RkdDistance<T>::distance(s, floor);
  }
  template <class V>
  KDOPS_INLINE V other(V s) const {
    return RkdDistance<T>::distance(s, floor_other);
  }
};

KDOPS_STATS_KERNELS(Distances)
KDOPS_WEIGHT_KERNELS(RkdDistance)

struct RkdDistanceLoss {
  template <class T>
  using Formula = RkdDistance<T>;
  static constexpr bool kStats = true, kNear = true;
  static constexpr MapKind kind = MapKind::kSquaredDistance;
  static constexpr Gradient form = Gradient::kLaplacian;

  double eps;  // lower bound of a squared length
  bool mean;

  template <class S>
  auto features_of(const Tensor& x) const {
    return features<S>(x, std::sqrt(eps));
  }
  template <class T>
  T floor(const Features<T>& f) const {
    return static_cast<T>(eps * f.scale * f.scale);
  }
  template <class T>
  Distances<T> measure(const Features<T>& self, const Features<T>& other) const {
    return {floor(self), floor(other)};
  }

  template <class T>
  RkdDistance<T> formula(const PairStats& stats, const Features<T>& self,
                         const Features<T>& other) const {
    const double n = static_cast<double>(self.n), pairs = std::max(1.0, n * (n - 1));
    const double c = mean ? 1 / std::max(1.0, n * n) : 1;
    const double inverse = stats.self.sum > 0 ? pairs / stats.self.sum : 0;
    const double inverse_other = stats.other.sum > 0 ? pairs / stats.other.sum : 0;
    const double slopes = stats.self.square * inverse - stats.cross * inverse_other;
    return rkd_distance<T>(double(floor(self)), double(floor(other)), inverse, inverse_other,
                           slopes, pairs, c);
  }

  template <class T>
  RkdDistance<T> correction(RkdDistance<T> f, double excess, int64_t rows) const {
    const double n = static_cast<double>(rows), pairs = std::max(1.0, n * (n - 1));
    f.pull = static_cast<T>(f.scale * excess * f.inverse_mean / pairs);
    f.scale = 0;
    return f;
  }
};

std::vector<Tensor> rkd_distance_loss_cpu(std::vector<Tensor> features, double eps, bool mean,
                                          bool student_grad, bool teacher_grad) {
  return relation("rkd_distance_loss", features, RkdDistanceLoss{eps, mean}, student_grad,
                  teacher_grad);
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_rkd_distance_loss", TORCH_BOX(&rkd_distance_loss_cpu));
}

}  // namespace kdops
