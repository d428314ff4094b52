// Reductions over a warp and a block: fixed trees, so that results repeat to the bit.
//
// Several values at a time, by a commutative operation on all of them; every thread gets the
// result.
#pragma once

#include "cuda/simt.h"

namespace kdops {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMaxWarps = 32;

template <class T, int N>
struct Values {
  T v[N];
};

struct Sum {
  template <class T, int N>
  SIMT_DEVICE Values<T, N> operator()(Values<T, N> a, const Values<T, N>& b) const {
#pragma unroll
    for (int k = 0; k < N; ++k) a.v[k] += b.v[k];
    return a;
  }
};

template <class T, int N, class Op>
SIMT_DEVICE Values<T, N> warp_reduce(Values<T, N> x, Op op) {
#pragma unroll
  for (int distance = simt::kWarpSize / 2; distance > 0; distance /= 2) {
    Values<T, N> other;
#pragma unroll
    for (int k = 0; k < N; ++k) other.v[k] = __shfl_xor_sync(kAllLanes, x.v[k], distance);
    x = op(x, other);
  }
  return x;
}

// Of a one-dimensional block of whole warps; a barrier for all of its threads.
template <class T, int N, class Op>
SIMT_DEVICE Values<T, N> block_reduce(Values<T, N> x, Op op) {
  using Part = Values<T, N>;
  SIMT_SHARED(Part, parts, [kMaxWarps]);
  const int warps = blockDim.x / simt::kWarpSize;
  x = warp_reduce(x, op);
  if (warps == 1) return x;
  __syncthreads();  // the parts of the reduction before may still be read
  if (threadIdx.x % simt::kWarpSize == 0) parts[threadIdx.x / simt::kWarpSize] = x;
  __syncthreads();
  x = parts[0];
  for (int warp = 1; warp < warps; ++warp) x = op(x, parts[warp]);
  return x;
}

template <class T>
SIMT_DEVICE T warp_sum(T x) {
  return warp_reduce(Values<T, 1>{{x}}, Sum{}).v[0];
}
template <class T>
SIMT_DEVICE T block_sum(T x) {
  return block_reduce(Values<T, 1>{{x}}, Sum{}).v[0];
}

}  // namespace
}  // namespace kdops
