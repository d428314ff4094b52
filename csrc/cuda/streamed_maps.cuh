// The values and the gradients of a relation whose maps would take too much memory: their tiles are
// made anew, and memory is O(N D).
#pragma once

#include "cuda/relation.cuh"

namespace kdops {
namespace {

// A block makes the weights of 32 rows and a strip of 4 tiles, and takes them times the strip's
// features, 32 columns at a time.
constexpr int kStripTiles = 4, kStrip = kStripTiles * kTile;
constexpr int kStripPanels = kStripTiles * kPanel;
constexpr int kStripMemory = kStripPanels + kPanel + std::max(kTileMemory, kStripPanels);  // of T

// A thread's four pairs of a tile: row threadIdx % kTile, column pair_column(k).
SIMT_DEVICE int pair_column(int k) {
  return static_cast<int>(threadIdx.x) / kTile + k * (kTileThreads / kTile);
}
template <MapKind kKind, class S, class T>
SIMT_DEVICE void tile_pairs(const FeatureRows<S, T>& x, int64_t i0, int64_t j0, T* memory,
                            T (&pairs)[4]) {
  map_tile<kKind>(x, i0, j0, memory);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    pairs[k] = tile_pair<kKind>(x, memory, i0, j0, threadIdx.x % kTile, pair_column(k));
}

// Grid: (blocks, students). A block takes tile after tile of one half. In float64: moments cancel.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
stream_values(Relation<S, Loss> r) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  SIMT_SHARED(typename Loss::template Formula<double>, formulas, [2]);
  const int student = blockIdx.y;
  const int64_t n = r.batches.n, half = half_tiles(n);
  find_value_formulas(r, student, formulas);
  const auto x = relation_rows(r, student), y = relation_rows(r, r.teacher());
  Parts sums{};
  for (int64_t t = blockIdx.x; t < half; t += gridDim.x) {
    const HalfTile tile = half_tile(t);
    const int64_t i0 = tile.a * kTile, j0 = tile.b * kTile;
    T s[4], s_other[4];
    tile_pairs<Loss::kKind>(x, i0, j0, memory, s);
    tile_pairs<Loss::kKind>(y, i0, j0, memory, s_other);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t i = i0 + threadIdx.x % kTile, j = j0 + pair_column(k);
      if (i >= n || j >= n || (i == j && !Loss::kDiagonal)) continue;
      const Parts parts = pair_parts(r.loss, formulas, double(s[k]), double(s_other[k]));
      sums = Sum{}(sums, parts);
      if (i0 != j0) sums = Sum{}(sums, parts);
    }
  }
  store_parts(r, student, sums);
}

// The rows i0 .. of one batch's gradient, by one block.
template <class S, class Loss>
struct GradientRows {
  using T = acc_t<S>;
  const Partners<S, Loss>& partners;
  const FeatureRows<S, T>& x;
  int64_t i0;
  T *weights, *own, *memory;  // shared: kStripTiles panels; one; the rest of kStripMemory
  T along;                    // as in GradientTile

  // Of the tile at (i0, j0), to a panel. A thread's pairs are in memory, for registers are scarce.
  SIMT_DEVICE void weigh_tile(int64_t j0, T* panel) {
    const int row = threadIdx.x % kTile;
    T* const pairs = own;
    map_tile<Loss::kKind>(x, i0, j0, memory);
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const int at = pair_column(k) * kPanelStride + row;
      pairs[at] = tile_pair<Loss::kKind>(x, memory, i0, j0, row, pair_column(k));
      panel[at] = T(0);
    }
    for (int p = 0; p < partners.count(); ++p) {
      const auto y = relation_rows(partners.r, partners.first() + p);
      map_tile<Loss::kKind>(y, i0, j0, memory);
#pragma unroll 1
      for (int k = 0; k < 4; ++k) {
        const int at = pair_column(k) * kPanelStride + row;
        const T other = tile_pair<Loss::kKind>(y, memory, i0, j0, row, pair_column(k));
        panel[at] += partners.weight(p, pairs[at], other);
      }
    }
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const int at = pair_column(k) * kPanelStride + row;
      const int64_t i = i0 + row, j = j0 + pair_column(k);
      const bool pair = i < x.n && j < x.n && !x.zero(i) && !x.zero(j);
      if (!pair) panel[at] = T(0);
      if (x.inverses != nullptr) along += panel[at] * pairs[at] / T(2);
    }
  }

  // The strip's weights times its features k0 ..; begins with a barrier, and leaves total() its
  // sums.
  SIMT_DEVICE void multiply(int64_t j0, int64_t k0) {
    __syncthreads();
    fill_by_depths(own, [&](int k, int i) { return x(i0 + i, k0 + k); });
#pragma unroll 1
    for (int t = 0; t < kStripTiles; ++t)
      fill_by_depths(memory + t * kPanel,
                     [&](int k, int j) { return x(j0 + t * kTile + j, k0 + k); });
    __syncthreads();
    const Place p = place();
    T rows[4][4], sums[4][4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) load4(own + (p.row + i) * kPanelStride + p.column, rows[i]);
#pragma unroll 1
    for (int t = 0; t < kStripTiles; ++t)
      add_panels(weights + t * kPanel, memory + t * kPanel, sums,
                 [&](T sum, T w, T other, int i, int k) {
                   if constexpr (Loss::kLaplacian) return sum + w * (rows[i][k] - other);
                   return sum + w * other;
                 });
    gather(memory, sums);
  }
};

// Grid: (tiles of rows, batches). The first block writes the value too. The strips' sums are added
// up in the gradient's memory, or in r.sums where S would round them.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
stream_gradients(Relation<S, Loss> r) {
  SIMT_DYN_SHARED(T, memory);
  SIMT_SHARED(typename Loss::template Formula<T>, formulas, [kMaxBatches]);
  SIMT_SHARED(T, along_parts, [kWarps][kTile]);
  using Rows = FeatureRows<S, T>;
  SIMT_SHARED(Rows, own_rows, [1]);  // not in registers, which are scarce here
  const int self = blockIdx.y;
  if (blockIdx.x == 0 && self == 0) write_value(r);
  S* const gradient = r.gradients[self];
  if (gradient == nullptr) return;

  const Partners<S, Loss> partners{r, self, formulas};
  partners.find_formulas();
  const auto found = relation_rows(r, self);
  if (threadIdx.x == 0) own_rows[0] = found;
  __syncthreads();
  const auto& x = own_rows[0];
  const bool finite = all_finite(r.measures, r.batches.count, r.maps.measure_blocks);
  T* const sums = r.sums_of(self);
  const int row = threadIdx.x / 8, column = threadIdx.x % 8 * 4;
  const int64_t i0 = blockIdx.x * int64_t(kTile), i = i0 + row;
  GradientRows<S, Loss> rows{
      partners, x, i0, memory, memory + kStripPanels, memory + kStripPanels + kPanel, T(0)};
  for (int64_t j0 = 0; j0 < x.n; j0 += kStrip) {
#pragma unroll 1
    for (int t = 0; t < kStripTiles; ++t)
      rows.weigh_tile(j0 + t * kTile, rows.weights + t * kPanel);
    if (j0 + kStrip >= x.n) rows.along = sum_of_row(rows.along, along_parts, row);
    for (int64_t k0 = 0; k0 < x.d; k0 += kTile) {
      rows.multiply(j0, k0);
      for (int c = 0; c < 4; ++c) {
        const int64_t k = k0 + column + c, at = i * x.d + k;
        if (i >= x.n || k >= x.d) continue;
        const T sum = total(rows.memory, row, column + c) + (j0 == 0 ? T(0) : sums[at]);
        if (j0 + kStrip >= x.n)
          gradient[at] = finished(x, i, k, sum, rows.along, finite);
        else
          sums[at] = sum;
      }
    }
  }
}

}  // namespace
}  // namespace kdops
