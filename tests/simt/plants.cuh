// Sound kernels, and each again with one planted bug that a build of the emulator must find.
#pragma once

#include "cuda/simt.h"

namespace {

enum Plant {
  kSound,
  // softmax
  kStaticIndex,
  kStaticPointer,
  kDynamicEnd,
  kInputTail,
  kOutputTail,
  kMisaligned,
  kNoBarrierAfterWrite,
  kNoBarrierBeforeReuse,
  kBarrierInBranch,
  kReturnBeforeBarrier,
  kUnsetShared,
  kHalfWarpMask,
  // products
  kTileRow,
  kNoBarrierAfterTile,
  kNoBarrierBeforeTile,
  // reverse
  kNoWarpBarrier,
  kHalfWarpBarrier,
  kOneCellTwoThreads,
  kOneCellTwoBlocks,
  kOneCellSameThread,
};

constexpr int kThreads = 64, kWarps = kThreads / 32, kTile = 8;
constexpr unsigned kAll = 0xffffffffu;

// ---- softmax: a block a row, four classes a thread, the row kept in dynamic memory -------------

template <Plant plant>
SIMT_DEVICE float over_block(float x, bool largest) {
  SIMT_SHARED(float, part, [kWarps]);
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(plant == kHalfWarpMask ? kAll >> 16 : kAll, x, distance);
    x = largest ? max(x, other) : x + other;
  }
  if constexpr (plant != kNoBarrierBeforeReuse) __syncthreads();
  if (threadIdx.x % 32 == 0 && !(plant == kUnsetShared && threadIdx.x > 0))
    part[threadIdx.x / 32] = x;
  if constexpr (plant != kNoBarrierAfterWrite) __syncthreads();
  const float* reader = part;
  float result = *reader++;
  for (int warp = 1; warp < kWarps + (plant == kStaticIndex || plant == kStaticPointer); ++warp) {
    const float other = plant == kStaticIndex ? part[warp] : *reader++;
    result = largest ? max(result, other) : result + other;
  }
  return result;
}

template <Plant plant>
SIMT_KERNEL_BOUNDS(kThreads)
softmax_kernel(const float* x, float* y, int classes) {
  SIMT_DYN_SHARED(float, row);
  x += int64_t(blockIdx.x) * classes;
  y += int64_t(blockIdx.x) * classes;
  float largest = plant == kInputTail ? x[classes] : -INFINITY;  // harmless, where it can be read
  for (int c = 4 * threadIdx.x; c < classes; c += 4 * kThreads) {
    const auto pack = simt::load_pack<4>(x + c + (plant == kMisaligned));
    for (int k = 0; k < 4; ++k) {
      row[c + k + (plant == kDynamicEnd)] = pack.v[k];
      largest = max(largest, pack.v[k]);
    }
  }
  if constexpr (plant == kReturnBeforeBarrier)
    if (4 * int(threadIdx.x) >= classes) return;
  if constexpr (plant == kBarrierInBranch) {
    if (4 * int(threadIdx.x) < classes) largest = over_block<plant>(largest, true);
  } else {
    largest = over_block<plant>(largest, true);
  }
  float sum = 0.0f;
  for (int c = 4 * threadIdx.x; c < classes; c += 4 * kThreads)
    for (int k = 0; k < 4; ++k) sum += expf(row[c + k] - largest);
  sum = over_block<plant>(sum, false);
  for (int c = threadIdx.x; c < classes + (plant == kOutputTail); c += kThreads)
    y[c] = c < classes ? expf(row[c] - largest) / sum : 0.0f;
}

// ---- products of all pairs of rows, a tile of both a block --------------------------------------

template <Plant plant>
SIMT_KERNEL_BOUNDS(kThreads)
products_kernel(const float* x, float* y, int rows, int cols) {
  SIMT_SHARED(float, left, [kTile][kTile + 1]);
  SIMT_SHARED(float, right, [kTile][kTile + 1]);
  const int i = blockIdx.y * kTile + threadIdx.y, j = blockIdx.x * kTile + threadIdx.x;
  const int other = blockIdx.x * kTile + threadIdx.y;
  float sum = 0.0f;
  for (int first = 0; first < cols; first += kTile) {
    const int k = first + threadIdx.x;
    left[threadIdx.y][threadIdx.x] = i < rows && k < cols ? x[i * cols + k] : 0.0f;
    right[threadIdx.y][threadIdx.x] = other < rows && k < cols ? x[other * cols + k] : 0.0f;
    if constexpr (plant != kNoBarrierAfterTile) __syncthreads();
    for (int q = 0; q < (plant == kTileRow ? cols : kTile); ++q)
      sum += left[threadIdx.y][q] * right[threadIdx.x][q];
    if constexpr (plant != kNoBarrierBeforeTile) __syncthreads();
  }
  if (i < rows && j < rows) y[i * rows + j] = sum;
}

// ---- each warp's elements in reverse -----------------------------------------------------------

template <Plant plant>
SIMT_KERNEL_BOUNDS(kThreads)
reverse_kernel(const float* x, float* y, int n) {
  SIMT_SHARED(float, row, [kWarps][32]);
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  row[warp][lane] = i < n ? x[i] : 0.0f;
  const unsigned half = lane < 16 ? kAll >> 16 : kAll << 16;
  if constexpr (plant != kNoWarpBarrier) __syncwarp(plant == kHalfWarpBarrier ? half : kAll);
  if (i < n) y[i] = row[warp][31 - lane];
  // The values are right, so that the result is, too.
  if (plant == kOneCellTwoThreads && i + 1 < n && lane == 0) y[i + 1] = row[warp][30];
  if (plant == kOneCellTwoBlocks && threadIdx.x == 7) y[n] = 1.0f;
  if (plant == kOneCellSameThread && threadIdx.x == 0) y[n] = 1.0f;
}

}  // namespace
