// The formulas are inlined into host and device code alike.
#pragma once

#if defined(__CUDACC__)
#define KDOPS_HD __host__ __device__ __forceinline__
#else
#define KDOPS_HD inline __attribute__((always_inline))
#endif
