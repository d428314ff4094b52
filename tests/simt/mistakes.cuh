// Kernels that a GPU would run into undefined behaviour, one mistake each.
#pragma once

#include "cuda/simt.h"

namespace {

SIMT_KERNEL different_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

SIMT_KERNEL returns_before_barrier() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}

SIMT_KERNEL barrier_against_warp() {
  if (threadIdx.x % 32 == 3) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

SIMT_KERNEL different_operations() {
  if (threadIdx.x % 32 < 16) {
    __shfl_xor_sync(0xffffffffu, 1, 1);
  } else {
    __syncwarp();
  }
}

SIMT_KERNEL different_masks() {
  __syncwarp(threadIdx.x % 32 < 16 ? 0xffffffffu : 0xffff0000u);
  __syncthreads();
}

SIMT_KERNEL not_in_own_mask() { __syncwarp(0x0000ffffu); }

SIMT_KERNEL shuffle_from_outside() {
  if (threadIdx.x % 32 < 16) __shfl_xor_sync(0x0000ffffu, 1, 16);
}

SIMT_KERNEL shuffle_from_returned() {
  if (threadIdx.x % 32 == 7) return;
  __shfl_xor_sync(0xffffffffu, 1, 1);
}

SIMT_KERNEL shuffle_from_nobody() { __shfl_xor_sync(0xffffffffu, 1, 16); }

SIMT_KERNEL too_much_shared(float* out) {
  SIMT_SHARED(float, tile, [2048]);
  if (out != nullptr) *out = tile[0];
}

// These two a sanitizer reports.
SIMT_KERNEL reads_past_the_end() {
  SIMT_SHARED(int, row, [64]);
  row[threadIdx.x] = 0;
  const int* next = row + threadIdx.x + 1;
  row[threadIdx.x] = *next;
}

SIMT_KERNEL misses_a_barrier() {
  SIMT_SHARED(int, row, [64]);
  row[threadIdx.x] = 0;
  __syncwarp();
  row[threadIdx.x] = row[63 - threadIdx.x];
}

SIMT_KERNEL nothing() {}

}  // namespace
