// The ops of rbf_correlation.cuh.
#include "cuda/map_binding.h"
#include "cuda/rbf_correlation.cuh"

namespace kdops {
namespace {

void check_order(const std::vector<double>& coefficients) {
  KDOPS_CHECK(coefficients.size() <= kMaxOrder + 1, "rbf_correlation: order must be at most ",
              kMaxOrder);
}

Tensor rbf_correlation_cuda(Tensor x, double gamma, std::vector<double> coefficients,
                            bool normalize) {
  check_order(coefficients);
  const Tensor input = checked_features("rbf_correlation", {x})[0];
  return with_rbf_correlation(gamma, coefficients, normalize,
                              [&](const auto& op) { return map_values_of(input, op); });
}

Tensor rbf_correlation_backward_cuda(Tensor upstream, Tensor x, double gamma,
                                     std::vector<double> coefficients, bool normalize) {
  check_order(coefficients);
  const Tensor input = checked_features("rbf_correlation", {x})[0];
  const Tensor g = checked_upstream("rbf_correlation", upstream, input, 2);
  return with_rbf_correlation(gamma, coefficients, normalize,
                              [&](const auto& op) { return map_gradient_of(g, input, op); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_rbf_correlation", TORCH_BOX(&rbf_correlation_cuda));
  m.impl("_rbf_correlation_backward", TORCH_BOX(&rbf_correlation_backward_cuda));
}

}  // namespace kdops
