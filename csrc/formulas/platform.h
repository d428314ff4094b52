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
KDOPS_HD V rounded(V x) {  // no instruction, but nothing is fused across it
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(V) == 8) {
    asm("" : "+d"(x));
  } else {
    asm("" : "+f"(x));
  }
#elif defined(__x86_64__)
  asm("" : "+v"(x));  // a barrier that GCC knows would split vectors into scalars
#endif
  return x;
}

}  // namespace kdops
