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
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_assoc_barrier(x);
#else
  return x;  // fusing stops at the end of an expression
#endif
}

}  // namespace kdops
