// What the CUDA bindings need of torch beyond common/tensor.h.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "common/tensor.h"
#include "cuda/simt.h"

namespace kdops {

// f(type_tag<S>) for the storage type S of a floating dtype.
template <class F>
auto dispatch_float(ScalarType dtype, F&& f) {
  return dispatch<__half, __nv_bfloat16>(dtype, std::forward<F>(f));
}

// What a block may have of shared memory, at most.
inline size_t shared_limit(int device) {
  int bytes = 0;
  simt::check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return static_cast<size_t>(bytes);
}

// Makes the tensor's device the current one for as long as it lives; its stream is the one that
// torch works on there.
class Device {
 public:
  explicit Device(const Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    KDOPS_CHECK(!aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream),
                "kdops: torch gives no current CUDA stream");
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace kdops
