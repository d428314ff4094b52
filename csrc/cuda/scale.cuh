// The backward of every loss: gradient *= upstream in place, where the stored gradient is that of
// upstream 1. Which it nearly always is, and then nothing but the upstream is read.
#pragma once

#include <algorithm>

#include "cuda/simt.h"

namespace kdops {
namespace {

constexpr int kScaleThreads = 256;
constexpr int64_t kScaleBlocks = 2048;

// Upstream: one a row of `cols` elements.
template <class S, int N>
SIMT_KERNEL_BOUNDS(kScaleThreads)
scale_rows(S* gradient, const simt::acc_t<S>* upstream, int64_t rows, int64_t cols) {
  using T = simt::acc_t<S>;
  if (rows == 1 && upstream[0] == T(1)) return;
  const int64_t packs = cols / N, stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * packs; i += stride) {
    const T factor = upstream[rows == 1 ? 0 : i / packs];
    if (factor == T(1)) continue;
    auto pack = simt::load_pack<N>(gradient + i * N);
#pragma unroll
    for (int k = 0; k < N; ++k) pack.v[k] = simt::narrow<S>(simt::widen(pack.v[k]) * factor);
    simt::store_pack(gradient + i * N, pack);
  }
}

}  // namespace

// Of (rows, cols) with an upstream a row, or of (1, n) with one for all.
template <class S>
void launch_scale(S* gradient, const simt::acc_t<S>* upstream, int64_t rows, int64_t cols,
                  cudaStream_t stream) {
  constexpr int N = simt::kPackSize<S>;
  if (rows * cols == 0) return;
  const bool packed = simt::packs_fit<N>(gradient, cols);
  const int64_t packs = rows * cols / (packed ? N : 1);
  const int64_t blocks = std::min(kScaleBlocks, (packs + kScaleThreads - 1) / kScaleThreads);
  simt::launch(packed ? scale_rows<S, N> : scale_rows<S, 1>, dim3(static_cast<unsigned>(blocks)),
               dim3(kScaleThreads), 0, stream, gradient, upstream, rows, cols);
}

}  // namespace kdops
