// The op of sp_loss.cuh.
#include "cuda/relation_binding.h"
#include "cuda/sp_loss.cuh"

namespace kdops {
namespace {

std::vector<Tensor> sp_loss_cuda(std::vector<Tensor> tensors, int64_t norm, int64_t power,
                                 bool student_grad) {
  KDOPS_CHECK(norm == 1 || norm == 2, "sp_loss: norm must be 1 or 2, got ", norm);
  const std::vector<Tensor> features = checked_pair("sp_loss", tensors);
  return with_sp_loss(norm, power_factor(features, power), [&](const auto& loss) {
    return relation(features, loss, student_grad, false);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_sp_loss", TORCH_BOX(&sp_loss_cuda)); }

}  // namespace kdops
