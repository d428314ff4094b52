// The ops of a map and of its gradient: tensors to a MapJob and back.
#pragma once

#include "cuda/batches.h"
#include "cuda/map_op.cuh"

namespace kdops {

// Of checked features.
template <class Op>
Tensor map_values_of(const Tensor& x, const Op& op) {
  const Device device(x);
  const Tensor values = new_map(x, 2);
  dispatch_float(x.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    MapJob<S, Op> job{};
    job.op = op;
    job.batches = batches_of<S>({x});
    job.values = mutable_data<simt::acc_t<S>>(values);
    const Buffer<char> memory(x, static_cast<int64_t>(place_map(job, nullptr)));
    place_map(job, memory.data());
    launch_map(job, device.stream());
  });
  return values;
}

// Of checked features and their map's upstream gradient.
template <class Op>
Tensor map_gradient_of(const Tensor& upstream, const Tensor& x, const Op& op) {
  const Device device(x);
  const Tensor gradient = torch::stable::empty_like(x);
  dispatch_float(x.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    MapJob<S, Op> job{};
    job.op = op;
    job.batches = batches_of<S>({x});
    job.upstream = const_data<simt::acc_t<S>>(upstream);
    job.gradient = mutable_data<S>(gradient);
    const Buffer<char> memory(x, static_cast<int64_t>(place_map(job, nullptr)));
    place_map(job, memory.data());
    launch_map_backward(job, device.stream());
  });
  return gradient;
}

}  // namespace kdops
