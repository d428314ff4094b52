// The formulas are inlined into host and device code alike.
#pragma once

#if defined(__CUDACC__)
#define KDOPS_HD __host__ __device__ __forceinline__
#else
#define KDOPS_HD inline __attribute__((always_inline))
#endif

namespace kdops {

// A product that is rounded before it enters a sum: fused, equal products would not cancel.
template <class V>
KDOPS_HD V rounded(V x) {
#if defined(__x86_64__) && !defined(__CUDA_ARCH__)
  asm("" : "+v"(x));  // no instruction; a barrier that GCC knows would split vectors into scalars
#endif
  return x;
}

}  // namespace kdops
