// The ops of pairwise_distance.cuh.
#include "cuda/map_binding.h"
#include "cuda/pairwise_distance.cuh"

namespace kdops {
namespace {

PairwiseDistance distance(bool squared, int64_t normalize, double eps) {
  KDOPS_CHECK(normalize >= 0 && normalize <= 2, "pairwise_distance: normalize must be 0, 1 or 2");
  return {squared, static_cast<Normalizer>(normalize), eps};
}

Tensor pairwise_distance_cuda(Tensor x, bool squared, int64_t normalize, double eps) {
  const Tensor input = checked_features("pairwise_distance", {x})[0];
  return map_values_of(input, distance(squared, normalize, eps));
}

Tensor pairwise_distance_backward_cuda(Tensor upstream, Tensor x, bool squared, int64_t normalize,
                                       double eps) {
  const Tensor input = checked_features("pairwise_distance", {x})[0];
  const Tensor g = checked_upstream("pairwise_distance", upstream, input, 2);
  return map_gradient_of(g, input, distance(squared, normalize, eps));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_pairwise_distance", TORCH_BOX(&pairwise_distance_cuda));
  m.impl("_pairwise_distance_backward", TORCH_BOX(&pairwise_distance_backward_cuda));
}

}  // namespace kdops
