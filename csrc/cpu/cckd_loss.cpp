// CCKD's loss: c sum_ij (K_ij - K'_ij)^2, K a polynomial in the inner product of (unit) rows, or
// the exponential of minus gamma times their squared distance.
//
// For unit rows the part of the gradient along a row drops out, so sum_j w_ij x_j may be taken as
// the Laplacian - sum_j w_ij (x_i - x_j), which keeps its digits where rows are nearly parallel.
#include "cpu/exp.h"
#include "cpu/relation.h"

namespace kdops {

KDOPS_WEIGHT_KERNELS(CckdTaylor)
KDOPS_WEIGHT_KERNELS(CckdExact)

struct Correlation {
  static constexpr bool kStats = false, kNear = false;

  double gamma;
  std::vector<double> coefficients;
  bool normalize, mean;

  template <class S>
  auto features_of(const Tensor& x) const {
    return normalize ? unit_rows<S>(x) : unscaled<S>(x);
  }
  double factor(int64_t n) const { return mean ? 1 / std::max(1.0, double(n) * double(n)) : 1; }

  template <class F>
  F correction(const F& f, double, int64_t) const {
    return f;
  }
};

struct CckdTaylorLoss : Correlation {
  template <class T>
  using Formula = CckdTaylor<T>;
  static constexpr MapKind kind = MapKind::kInnerProduct;
  Gradient form = normalize ? Gradient::kLaplacian : Gradient::kProduct;

  template <class T>
  CckdTaylor<T> formula(const PairStats&, const Features<T>& self, const Features<T>&) const {
    CckdTaylor<T> f{taylor<T>(coefficients), T(4 * factor(self.n))};
    if (normalize) f.scale = -f.scale;
    return f;
  }
};

struct CckdExactLoss : Correlation {
  template <class T>
  using Formula = CckdExact<T>;
  static constexpr MapKind kind = MapKind::kSquaredDistance;
  static constexpr Gradient form = Gradient::kLaplacian;

  template <class T>
  CckdExact<T> formula(const PairStats&, const Features<T>& self, const Features<T>&) const {
    return {T(gamma), T(-8 * gamma * factor(self.n))};
  }
};

std::vector<Tensor> cckd_loss_cpu(std::vector<Tensor> features, double gamma,
                                  std::vector<double> coefficients, bool normalize, bool mean,
                                  bool student_grad, bool teacher_grad) {
  KDOPS_CHECK(coefficients.size() <= kMaxOrder + 1, "cckd_loss: order must be at most 8");
  const Correlation correlation{gamma, coefficients, normalize, mean};
  if (coefficients.empty())
    return relation("cckd_loss", features, CckdExactLoss{correlation}, student_grad, teacher_grad);
  return relation("cckd_loss", features, CckdTaylorLoss{correlation}, student_grad, teacher_grad);
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_cckd_loss", TORCH_BOX(&cckd_loss_cpu)); }

}  // namespace kdops
