// Kernels that put what intrinsics give where test_emulator.py can compare it.
#pragma once

#include "cuda/simt.h"

namespace {

constexpr int kThreads = 64;
constexpr unsigned kAll = 0xffffffffu;

// A thread's element; threads beyond n have none, but take part in what all must.
SIMT_DEVICE int64_t element() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// index: (9, threads): the three parts of threadIdx, blockIdx and, as one number each, sizes.
SIMT_KERNEL index_kernel(int* index) {
  const int inside = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int* out = index + (block * int(blockDim.x * blockDim.y * blockDim.z) + inside) * 6;
  const int values[] = {int(threadIdx.x), int(threadIdx.y), int(threadIdx.z),
                        int(blockIdx.x),  int(blockIdx.y),  int(blockIdx.z)};
  for (int i = 0; i < 6; ++i) out[i] = values[i];
}

template <class T>
SIMT_KERNEL_BOUNDS(kThreads)
shuffle_kernel(const T* x, T* out, int n, int argument) {
  const int64_t i = element();
  const T got = __shfl_xor_sync(kAll, i < n ? x[i] : T(0), argument);
  if (i < n) out[i] = got;
}

// The lanes of each half of a warp are summed, in the upper half twice: the halves do not wait for
// each other.
SIMT_KERNEL_BOUNDS(kThreads)
half_warp_kernel(const int* x, int* out, int n) {
  const int64_t i = element();
  int sum = i < n ? x[i] : 0;
  const bool upper = threadIdx.x & 16;
  const unsigned mask = upper ? 0xffff0000u : 0x0000ffffu;
  for (int round = 0; round < (upper ? 2 : 1); ++round)
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
  if (i < n) out[i] = sum;
}

// Reverses each warp, then each block, through static memory of two dimensions.
SIMT_KERNEL_BOUNDS(kThreads)
reverse_kernel(const float* x, float* out, int n) {
  SIMT_SHARED(float, row, [kThreads / 32][32]);
  SIMT_DYN_SHARED(float, block);
  const int64_t i = element();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  row[warp][lane] = i < n ? x[i] : 0.0f;
  __syncwarp();
  block[threadIdx.x] = row[warp][31 - lane];
  __syncthreads();
  if (i < n) out[i] = block[kThreads - 1 - threadIdx.x];
}

// What shared memory holds before anything is written: (2, blocks).
SIMT_KERNEL_BOUNDS(kThreads)
fresh_kernel(float* out) {
  SIMT_SHARED(float, one);
  SIMT_DYN_SHARED(float, many);
  if (threadIdx.x == 0) {
    out[blockIdx.x] = one;
    out[gridDim.x + blockIdx.x] = many[5];
  }
  __syncthreads();
  one = many[5] = 1.0f;  // one value by all: for the emulator the last one's
}

// Adds 1 in packs of 16 bytes, rows of whole packs.
template <class T>
SIMT_KERNEL_BOUNDS(kThreads)
pack_kernel(const T* x, T* out, int n) {
  constexpr int N = simt::kPackSize<T>;
  const int64_t i = element() * N;
  if (i >= n) return;
  auto pack = simt::load_pack<N>(x + i);
  for (T& v : pack.v) v = simt::narrow<T>(simt::widen(v) + simt::acc_t<T>(1));
  simt::store_pack(out + i, pack);
}

template <class T>
SIMT_KERNEL_BOUNDS(kThreads)
widen_kernel(const T* x, float* out, int n) {
  const int64_t i = element();
  if (i < n) out[i] = simt::widen(x[i]);
}
template <class T>
SIMT_KERNEL_BOUNDS(kThreads)
narrow_kernel(const float* x, T* out, int n) {
  const int64_t i = element();
  if (i < n) out[i] = simt::narrow<T>(x[i]);
}

// out: (4, n): the smaller, the larger, the bits less one, a fused product
SIMT_DEVICE float before(float x) { return __uint_as_float(__float_as_uint(x) - 1); }
SIMT_DEVICE double before(double x) { return __longlong_as_double(__double_as_longlong(x) - 1); }
template <class T>
SIMT_KERNEL_BOUNDS(kThreads)
arithmetic_kernel(const T* x, const T* y, T* out, int n) {
  const int64_t i = element();
  if (i >= n) return;
  const T got[] = {min(x[i], y[i]), max(x[i], y[i]), before(y[i]), fma(x[i], y[i], T(1))};
  for (int k = 0; k < 4; ++k) out[k * n + i] = got[k];
}

// What comes next in a schedule: no sanitizer takes it for a race, or for order.
SIMT_DEVICE int next(int* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

// The warps in the order of their five steps: (blocks, 5 * warps).
SIMT_KERNEL_BOUNDS(kThreads)
step_kernel(int* counters, int* out) {
  for (int step = 0; step < 5; ++step) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      const int place = next(counters + blockIdx.x);
      out[blockIdx.x * 5 * (blockDim.x / 32) + place] = threadIdx.x / 32;
    }
  }
}
// The threads in the order in which they start: (threads).
SIMT_KERNEL start_kernel(int* counter, int* out) { out[next(counter)] = int(element()); }

}  // namespace
