// The op of sp_loss.cuh.
#include "cuda/relation_binding.h"
#include "cuda/sp_loss.cuh"

namespace kdops {
namespace {

std::vector<Tensor> sp_loss_cuda(std::vector<Tensor> tensors, int64_t power, bool student_grad) {
  const std::vector<Tensor> features = checked_pair("sp_loss", tensors);
  return relation(features, SpLoss{power_factor(features, power)}, student_grad, false);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_sp_loss", TORCH_BOX(&sp_loss_cuda)); }

}  // namespace kdops
