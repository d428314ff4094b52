// The op of cckd_loss.cuh.
#include "cuda/cckd_loss.cuh"
#include "cuda/relation_binding.h"

namespace kdops {
namespace {

std::vector<Tensor> cckd_loss_cuda(std::vector<Tensor> tensors, double gamma,
                                   std::vector<double> coefficients, bool normalize, bool mean,
                                   bool student_grad, bool teacher_grad) {
  KDOPS_CHECK(coefficients.size() <= kMaxOrder + 1, "cckd_loss: order must be at most ", kMaxOrder);
  const std::vector<Tensor> features = checked_features("cckd_loss", tensors);
  return with_cckd_loss(
      gamma, coefficients, normalize, pair_factor(features, mean),
      [&](const auto& loss) { return relation(features, loss, student_grad, teacher_grad); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_cckd_loss", TORCH_BOX(&cckd_loss_cuda)); }

}  // namespace kdops
