// The ops of triplet_angle.cuh.
#include "cuda/batches.h"
#include "cuda/triplet_angle.cuh"

namespace kdops {
namespace {

Tensor triplet_angle_cuda(Tensor features, double eps) {
  const Tensor x = checked_features("triplet_angle", {features})[0];
  const Device device(x);
  const Tensor cosines = new_map(x, 3);
  dispatch_float(x.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    CosineJob<S> job{};
    job.eps = eps;
    job.batches = batches_of<S>({x});
    job.cosines = mutable_data<simt::acc_t<S>>(cosines);
    const Buffer<char> memory(x, static_cast<int64_t>(place_cosines(job, nullptr)));
    place_cosines(job, memory.data());
    launch_triplet_angle(job, device.stream());
  });
  return cosines;
}

Tensor triplet_angle_backward_cuda(Tensor upstream_, Tensor features, double eps) {
  const Tensor x = checked_features("triplet_angle", {features})[0];
  const Tensor upstream = checked_upstream("triplet_angle", upstream_, x, 3);
  const Device device(x);
  const Tensor gradient = torch::stable::empty_like(x);
  dispatch_float(x.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    CosineJob<S> job{};
    job.eps = eps;
    job.batches = batches_of<S>({x});
    job.upstream = const_data<simt::acc_t<S>>(upstream);
    job.gradient = mutable_data<S>(gradient);
    const Buffer<char> memory(x, static_cast<int64_t>(place_cosines(job, nullptr)));
    place_cosines(job, memory.data());
    launch_triplet_angle_backward(job, device.stream());
  });
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_triplet_angle", TORCH_BOX(&triplet_angle_cuda));
  m.impl("_triplet_angle_backward", TORCH_BOX(&triplet_angle_backward_cuda));
}

}  // namespace kdops
