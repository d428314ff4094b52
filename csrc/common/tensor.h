// What the bindings of both devices need of torch: the stable ABI of 2.10 and nothing more.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <utility>
#include <vector>

#define KDOPS_CHECK STD_TORCH_CHECK

namespace kdops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

template <class S>
struct type_tag {
  using type = S;
};

// f(type_tag<S>) for the storage type S of a floating dtype; each device has its own 16-bit types.
template <class Half, class BFloat16, class F>
auto dispatch(ScalarType dtype, F&& f) {
  switch (dtype) {
    case ScalarType::Double:
      return f(type_tag<double>{});
    case ScalarType::BFloat16:
      return f(type_tag<BFloat16>{});
    case ScalarType::Half:
      return f(type_tag<Half>{});
    default:
      KDOPS_CHECK(dtype == ScalarType::Float,
                  "kdops: dtype must be float32, float64, bfloat16 or float16");
      return f(type_tag<float>{});
  }
}

// The dtype in which a loss over inputs of this dtype is returned.
inline ScalarType accumulation_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline bool on_one_device(const Tensor& a, const Tensor& b) {
  return a.get_device_index() == b.get_device_index();  // -1 on the CPU
}

inline Tensor as_contiguous(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// Contiguous, on like's device. By the C shim: the dispatcher takes twice as long, and most of what
// it runs has left the instruction cache by the next call.
inline Tensor new_tensor(const Tensor& like, Sizes sizes, ScalarType dtype) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = strides.size(); i > 1; --i)
    strides[i - 2] = strides[i - 1] * std::max<int64_t>(1, sizes[i - 1]);
  const auto code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  int32_t device;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), code,
                                                  device, like.get_device_index(), &handle));
  return Tensor(handle);
}
inline Tensor new_like(const Tensor& x) { return new_tensor(x, x.sizes(), x.scalar_type()); }

// A tensor's elements; the caller knows the storage type from the dispatch.
template <class S>
S* mutable_data(const Tensor& t) {
  return static_cast<S*>(t.mutable_data_ptr());
}
template <class S>
const S* const_data(const Tensor& t) {
  return static_cast<const S*>(t.const_data_ptr());
}

// Scratch of n elements from torch's allocator, so that its profilers count it.
template <class T>
class Buffer {
 public:
  Buffer(const Tensor& like, int64_t n)
      : bytes_(new_tensor(like, {n * int64_t{sizeof(T)}}, ScalarType::Byte)),
        data_(mutable_data<T>(bytes_)) {}
  T* data() const { return data_; }

 private:
  Tensor bytes_;
  T* data_;
};

}  // namespace kdops
