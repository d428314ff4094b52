// A tile of 32 x 32 sums over pairs of columns of two panels, by a block of 256 threads.
//
// Both for maps (rows i and j, summed over the features) and for gradients (rows i and features,
// summed over the rows j). The block's four groups of 64 threads take a quarter of the summands
// each and a thread 4 x 4 sums; the groups' sums are added in order.
#pragma once

#include "cuda/scalar.cuh"
#include "formulas/platform.h"

namespace kdops {
namespace {

constexpr int kTile = 32, kTileThreads = 256, kGroups = 4, kDepth = 32;
constexpr int kPanelStride = kTile + 4;  // whole packs, and no two lanes of a store in one bank
constexpr int kPanel = kDepth * kPanelStride;
constexpr int kSumStride = kTile + 1;
constexpr int kTileMemory =
    kGroups * kTile * kSumStride;  // of T; two panels, then the groups' sums
static_assert(2 * kPanel <= kTileMemory);

// Blocks on a multiprocessor: enough to hide loads, and few enough for the registers of 4 x 4 sums.
template <class T>
constexpr int kTileBlocks = sizeof(T) == 8 ? 1 : 2;

KDOPS_HD int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }

// A thread's place in a tile: rows row .. row + 3 and columns column .. column + 3 of the sums.
struct Place {
  int group, row, column;
};
SIMT_DEVICE Place place() {
  const int t = threadIdx.x % 64;
  return {static_cast<int>(threadIdx.x) / 64, t / 8 * 4, t % 8 * 4};
}

template <class T>
SIMT_DEVICE void load4(const T* p, T (&v)[4]) {
  constexpr int n = sizeof(T) == 8 ? 2 : 4;
#pragma unroll
  for (int i = 0; i < 4; i += n) {
    const simt::Pack<T, n> pack = simt::load_pack<n>(p + i);
#pragma unroll
    for (int k = 0; k < n; ++k) v[i + k] = pack.v[k];
  }
}

// Fills a panel (kDepth, kTile) with element(row, depth), rows across: neighbouring lanes take
// neighbouring depths of a row, as features lie in memory.
template <class T, class Element>
SIMT_DEVICE void fill_by_rows(T* panel, Element element) {
  const int k = threadIdx.x % 8, row = threadIdx.x / 8;
#pragma unroll
  for (int depth = 0; depth < kDepth; depth += 8)
    panel[(depth + k) * kPanelStride + row] = element(row, depth + k);
}
// The same with neighbouring lanes in neighbouring columns of one depth.
template <class T, class Element>
SIMT_DEVICE void fill_by_depths(T* panel, Element element) {
  const int column = threadIdx.x % kTile, depth = threadIdx.x / kTile;
#pragma unroll(sizeof(T) == 8 ? 1 : 4)  // a double's divisions and roots are calls, and spill
  for (int k = 0; k < kDepth; k += kTileThreads / kTile)
    panel[(depth + k) * kPanelStride + column] = element(column, depth + k);
}

// sums += term(a, b) over the group's quarter of the depths of two panels.
template <class T, class Term>
SIMT_DEVICE void add_panels(const T* a, const T* b, T (&sums)[4][4], Term term) {
  const Place p = place();
#pragma unroll 4  // more would spill
  for (int k = 0; k < kDepth / kGroups; ++k) {
    const int depth = (p.group * (kDepth / kGroups) + k) * kPanelStride;
    T x[4], y[4];
    load4(a + depth + p.row, x);
    load4(b + depth + p.column, y);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] = term(sums[i][j], x[i], y[j], i, j);
  }
}

template <class T>
SIMT_DEVICE void add(T (&sums)[4][4], const T (&part)[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] += part[i][j];
}

// The groups' sums to memory, where total() adds them; barriers before and after.
template <class T>
SIMT_DEVICE void gather(T* memory, const T (&sums)[4][4]) {
  const Place p = place();
  __syncthreads();
  T* const own = memory + p.group * kTile * kSumStride;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) own[(p.row + i) * kSumStride + p.column + j] = sums[i][j];
  __syncthreads();
}
template <class T>
SIMT_DEVICE T total(const T* memory, int row, int column) {
  T sum = 0;
#pragma unroll
  for (int group = 0; group < kGroups; ++group)
    sum += memory[(group * kTile + row) * kSumStride + column];
  return sum;
}

}  // namespace
}  // namespace kdops
