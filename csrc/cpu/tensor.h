// What the CPU kernels need of torch beyond common/tensor.h.
#pragma once

#include "common/tensor.h"
#include "cpu/simd.h"

namespace kdops {

// f(type_tag<S>) for the storage type S of a floating dtype.
template <class F>
auto dispatch_float(ScalarType dtype, F&& f) {
  return dispatch<Half, BFloat16>(dtype, std::forward<F>(f));
}

// f(begin, end) over parts of [0, n); on the caller's thread when there is little to do.
template <class F>
void parallel(int64_t n, int64_t grain, const F& f) {
  if (n > grain) {
    torch::stable::parallel_for(0, n, grain, f);
  } else if (n > 0) {
    f(int64_t{0}, n);
  }
}

}  // namespace kdops
