// The op of pkt_loss.cuh.
#include "cuda/pkt_loss.cuh"
#include "cuda/relation_binding.h"

namespace kdops {
namespace {

std::vector<Tensor> pkt_loss_cuda(std::vector<Tensor> tensors, bool student_t, bool jeffreys,
                                  bool self_pairs, double eps, int64_t power, bool student_grad) {
  const std::vector<Tensor> features = checked_pair("pkt_loss", tensors);
  KDOPS_CHECK(eps == 0 || !(student_t || jeffreys),
              "pkt_loss: only the KL divergence of cosines has an eps");
  return with_pkt_loss(
      student_t, jeffreys, self_pairs, eps, power_factor(features, power),
      [&](const auto& loss) { return relation(features, loss, student_grad, false); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_pkt_loss", TORCH_BOX(&pkt_loss_cuda)); }

}  // namespace kdops
