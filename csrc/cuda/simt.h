// All that kernels and their launch functions see of CUDA.
//
// nvcc compiles them for the GPU; g++ compiles the same text over an emulator (tests/simt). So
// nothing else in this folder names the compiler, launches, or declares shared memory:
//
//   SIMT_KERNEL name(...)                    a kernel; SIMT_KERNEL_BOUNDS(threads[, blocks]) one
//   with
//                                            bounds: of a block, and how many share a
//                                            multiprocessor
//   SIMT_DEVICE float f(...)                 a function of kernels
//   SIMT_SHARED(float, tile, [16][17])       a block's memory, uninitialised
//   SIMT_DYN_SHARED(float, row)              the bytes that launch() asks for, as a float*
//   simt::launch(kernel, grid, block, shared_bytes, stream, args...)   throws std::runtime_error
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>

#define SIMT_KERNEL __global__ void
#define SIMT_KERNEL_BOUNDS(...) __global__ void __launch_bounds__(__VA_ARGS__)
#define SIMT_DEVICE __device__ __forceinline__
#define SIMT_SHARED(T, name, ...) __shared__ __align__(16) T name __VA_ARGS__
#define SIMT_DYN_SHARED(T, name)                                      \
  extern __shared__ __align__(16) unsigned char simt_dynamic_bytes[]; \
  T* const name = reinterpret_cast<T*>(simt_dynamic_bytes)

namespace simt {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else the next call of anyone would report it again
  throw std::runtime_error(cudaGetErrorString(error));
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A&&... args) {
  // Beyond 48 KiB, the static memory included, a kernel must ask: 8 KiB are left to that.
  if (shared_bytes > 40 * 1024)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(args)...);
  check(cudaGetLastError());
}

}  // namespace simt

#else
#include "emulator.h"
#endif

namespace simt {

constexpr int kWarpSize = 32;

// ---- storage types: __half and __nv_bfloat16 are computed in float -----------------------------

template <class T>
using acc_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

SIMT_DEVICE double widen(double x) { return x; }
SIMT_DEVICE float widen(float x) { return x; }
SIMT_DEVICE float widen(__half x) { return __half2float(x); }
SIMT_DEVICE float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
SIMT_DEVICE T narrow(acc_t<T> x) {  // to nearest even
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// ---- 16-byte loads and stores ------------------------------------------------------------------

// N elements that move in one instruction.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
template <class T>
constexpr int kPackSize = 16 / static_cast<int>(sizeof(T));

// Whether rows of `stride` elements from `p` on may be moved in packs: for launch functions.
template <int N, class T>
bool packs_fit(const T* p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % sizeof(Pack<T, N>) == 0 && stride % N == 0;
}
template <int N, class T>
SIMT_DEVICE Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
SIMT_DEVICE void store_pack(T* p, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

}  // namespace simt
