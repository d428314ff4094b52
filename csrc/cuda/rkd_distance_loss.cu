// The op of rkd_distance_loss.cuh.
#include "cuda/relation_binding.h"
#include "cuda/rkd_distance_loss.cuh"

namespace kdops {
namespace {

std::vector<Tensor> rkd_distance_loss_cuda(std::vector<Tensor> tensors, double eps, bool mean,
                                           bool student_grad, bool teacher_grad) {
  const std::vector<Tensor> features = checked_features("rkd_distance_loss", tensors);
  return relation(features, RkdDistanceLoss{eps, pair_factor(features, mean)}, student_grad,
                  teacher_grad);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_rkd_distance_loss", TORCH_BOX(&rkd_distance_loss_cuda));
}

}  // namespace kdops
