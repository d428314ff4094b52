// The op of irg_edge_loss.cuh.
#include "cuda/irg_edge_loss.cuh"
#include "cuda/relation_binding.h"

namespace kdops {
namespace {

std::vector<Tensor> irg_edge_loss_cuda(std::vector<Tensor> tensors, bool mean, bool student_grad,
                                       bool teacher_grad) {
  const std::vector<Tensor> features = checked_features("irg_edge_loss", tensors);
  return relation(features, IrgEdgeLoss{pair_factor(features, mean)}, student_grad, teacher_grad);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_irg_edge_loss", TORCH_BOX(&irg_edge_loss_cuda));
}

}  // namespace kdops
