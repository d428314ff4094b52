// The op of rkd_angle_loss.cuh.
#include "cuda/batches.h"
#include "cuda/rkd_angle_loss.cuh"

namespace kdops {
namespace {

std::vector<Tensor> rkd_angle_loss_cuda(std::vector<Tensor> tensors, double eps, bool mean,
                                        bool student_grad, bool teacher_grad) {
  const std::vector<Tensor> features = checked_features("rkd_angle_loss", tensors);
  const Device device(features[0]);
  const std::vector<Tensor> outputs = relation_outputs(features, student_grad, teacher_grad);
  const double n = static_cast<double>(features[0].size(0));
  dispatch_float(features[0].scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    Triplets<S> t{};
    t.eps = eps;
    t.c = mean ? 1 / std::max(1.0, n * n * n) : 1;
    t.batches = batches_of<S>(features);
    set_outputs<S>(t, outputs, student_grad, teacher_grad);
    const Buffer<char> memory(features[0], static_cast<int64_t>(place_triplets(t, nullptr)));
    place_triplets(t, memory.data());
    launch_rkd_angle_loss(t, device.stream());
  });
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_rkd_angle_loss", TORCH_BOX(&rkd_angle_loss_cuda));
}

}  // namespace kdops
