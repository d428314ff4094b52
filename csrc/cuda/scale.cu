// _scale_: a stored gradient times its upstream, in place, without a copy to the host.
#include "cuda/scale.cuh"
#include "cuda/tensor.h"

namespace kdops {
namespace {

// Upstream: a scalar, or one value a row of the gradient.
void scale_cuda(const Tensor& gradient, const Tensor& upstream_) {
  const ScalarType dtype = gradient.scalar_type();
  const int64_t dimensions = upstream_.dim();
  KDOPS_CHECK(gradient.is_contiguous(), "_scale_: gradient must be contiguous");
  KDOPS_CHECK(on_one_device(gradient, upstream_), "_scale_: upstream must be on gradient's device");
  KDOPS_CHECK(upstream_.scalar_type() == accumulation_dtype(dtype),
              "_scale_: upstream must have the accumulation dtype of gradient's");
  KDOPS_CHECK(dimensions == 0 || (dimensions + 1 == gradient.dim() &&
                                  upstream_.sizes().equals(gradient.sizes().slice(0, dimensions))),
              "_scale_: upstream must be a scalar or have gradient's leading shape");
  if (gradient.numel() == 0) return;
  const Device device(gradient);
  const Tensor upstream = as_contiguous(upstream_);
  const int64_t rows = upstream.numel();
  dispatch_float(dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    launch_scale(mutable_data<S>(gradient), const_data<simt::acc_t<S>>(upstream), rows,
                 gradient.numel() / rows, device.stream());
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_scale_", TORCH_BOX(&scale_cuda)); }

}  // namespace kdops
