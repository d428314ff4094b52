// The map of a batch, tile by tile: |x_i - x_j|^2 by direct differences, |x_i + x_j|^2 by direct
// sums, or <x_i, x_j>.
//
// Only the tiles of one half are computed, the other half mirrors them. Each block leaves behind
// what the normalisers of the losses need of its pairs.
#pragma once

#include "cuda/features.cuh"
#include "cuda/tile.cuh"

namespace kdops {

// Of unit rows kCosine is their distances, 2 - 2 cos, kSum their sums, 2 + 2 cos: 2 for a zero row.
enum class MapKind { kDistance, kCosine, kSum, kProduct };

// Blocks a batch, at most: they bound what the next kernel has to add up.
constexpr int64_t kMapBlocks = 512;
constexpr int64_t kValueBlocks = 256;  // over a map that was kept

// Maps of type M, one a batch, (n, stride); rows begin at whole packs, the padding is 0.
template <class M>
struct Maps {
  M* map;  // null: the statistics alone are wanted
  int64_t n, stride;
  double* stats;  // (count, blocks, kStats)
  int blocks;
  int measure_blocks;
  double floor;  // lower bound of the squared length, before scaling

  SIMT_DEVICE M* of(int batch) const { return map == nullptr ? nullptr : map + batch * n * stride; }
};

// What build_maps measures for those who need no statistics.
struct Unmeasured {
  template <class T>
  SIMT_DEVICE T measured(T, T) const {
    return T(0);
  }
};

namespace {

// One batch as its map sees it: in M, scaled, 0 beyond its end.
template <class S, class M>
struct FeatureRows {
  using T = acc_t<S>;
  const S* x;
  int64_t n, d;
  T scale;
  const T* inverses;
  T eps;  // that is part of the inverses

  SIMT_DEVICE M operator()(int64_t i, int64_t k) const {
    if (i >= n || k >= d) return M(0);
    return M(simt::widen(x[i * d + k]) * factor(i));
  }
  SIMT_DEVICE T factor(int64_t i) const { return inverses == nullptr ? scale : inverses[i]; }
  SIMT_DEVICE bool zero(int64_t i) const {
    return inverses != nullptr && i < n && inverses[i] == T(0);
  }
};

template <class M, class S, class T = acc_t<S>>
SIMT_DEVICE FeatureRows<S, M> rows_of(const Batches<S>& batches, const Measures<T>& measures,
                                      int batch, T scale) {
  const T* inverses =
      measures.scaling == Scaling::kRows ? measures.inverses + batch * batches.n : nullptr;
  const T eps = inverses == nullptr ? T(0) : measures.floor;
  return {batches.x[batch], batches.n, batches.d[batch], scale, inverses, eps};
}

// The tile of sums at (i0, j0), left in memory for total(); begins with a barrier.
template <MapKind kKind, class S, class M>
SIMT_DEVICE void map_tile(const FeatureRows<S, M>& x, int64_t i0, int64_t j0, M* memory) {
  M sums[4][4] = {};
  M* const other = memory + kPanel;
  for (int64_t k0 = 0; k0 < x.d; k0 += kDepth) {
    __syncthreads();
    fill_by_rows(memory, [&](int row, int k) { return x(i0 + row, k0 + k); });
    fill_by_rows(other, [&](int row, int k) { return x(j0 + row, k0 + k); });
    __syncthreads();
    M part[4][4] = {};  // of few: the sums round less often
    add_panels(memory, other, part, [](M sum, M a, M b, int, int) {
      if constexpr (kKind == MapKind::kProduct) return sum + a * b;
      const M side = kKind == MapKind::kSum ? a + b : a - b;
      return sum + side * side;
    });
    add(sums, part);
  }
  gather(memory, sums);
}

// The pair (i, j) of the tile in memory; 0 beyond the map's end.
template <MapKind kKind, class S, class M>
SIMT_DEVICE M tile_pair(const FeatureRows<S, M>& x, const M* memory, int64_t i0, int64_t j0,
                        int row, int column) {
  const int64_t i = i0 + row, j = j0 + column;
  if (i >= x.n || j >= x.n) return M(0);
  constexpr bool sum = kKind == MapKind::kSum;
  if ((kKind == MapKind::kCosine || sum) && (x.zero(i) || x.zero(j))) return M(2);
  if (kKind != MapKind::kProduct && i == j) return M(sum ? 4 : 0);
  const M value = total(memory, row, column);
  return sum && x.d == 1 ? rint(value) : value;  // 0 or 4, as if no length had been rounded
}

// Tile t of the half with a <= b.
KDOPS_HD int64_t half_tiles(int64_t n) { return tiles(n) * (tiles(n) + 1) / 2; }
struct HalfTile {
  int64_t a, b;
};
SIMT_DEVICE HalfTile half_tile(int64_t t) {
  int64_t b = static_cast<int64_t>((sqrtf(8.0f * static_cast<float>(t) + 1.0f) - 1.0f) / 2.0f);
  while (b * (b + 1) / 2 > t) --b;
  while ((b + 1) * (b + 2) / 2 <= t) ++b;
  return {t - b * (b + 1) / 2, b};
}

// Over ordered pairs: the sum of what is measured, its maximum, how many pairs have that, and the
// reciprocal of its least positive value. In float64, outside of the loop over features: an error
// of a normaliser is in all pairs alike.
enum { kStatSum, kStatLargest, kStatTies, kStatInverse, kStats };
using Stats = Values<double, kStats>;

struct MergeStats {
  SIMT_DEVICE Stats operator()(const Stats& a, const Stats& b) const {
    const double largest = max(a.v[kStatLargest], b.v[kStatLargest]);
    const double ties = (a.v[kStatLargest] == largest ? a.v[kStatTies] : 0.0) +
                        (b.v[kStatLargest] == largest ? b.v[kStatTies] : 0.0);
    return {
        {a.v[kStatSum] + b.v[kStatSum], largest, ties, max(a.v[kStatInverse], b.v[kStatInverse])}};
  }
};

// Of all blocks of one batch, by the whole block.
template <class M>
SIMT_DEVICE Stats total_stats(const Maps<M>& maps, int batch) {
  Stats stats{};
  for (int i = threadIdx.x; i < maps.blocks; i += blockDim.x) {
    const double* part = maps.stats + (int64_t(batch) * maps.blocks + i) * kStats;
    stats = MergeStats{}(stats, Stats{{part[0], part[1], part[2], part[3]}});
  }
  return block_reduce(stats, MergeStats{});
}

// A thread's four pairs of row `row` of the tile, from column `column` on, to the map.
template <MapKind kKind, class S, class M, class Measure>
SIMT_DEVICE void store_tile(const FeatureRows<S, M>& x, const M* memory, HalfTile tile, M* map,
                            int64_t stride, Measure measure) {
  const int row = threadIdx.x / 8, column = threadIdx.x % 8 * 4;
  const int64_t i0 = tile.a * kTile, j0 = tile.b * kTile;
  for (int k = 0; k < 4; ++k) {
    const M value = tile_pair<kKind>(x, memory, i0, j0, row, column + k);
    if (map != nullptr && i0 + row < x.n && j0 + column + k < stride)
      map[(i0 + row) * stride + j0 + column + k] = value;
    if (i0 + row < x.n && j0 + column + k < x.n && i0 + row != j0 + column + k)
      measure(value, tile.a == tile.b ? 1 : 2);
  }
  if (map == nullptr || tile.a == tile.b) return;
  for (int k = 0; k < 4; ++k)
    if (j0 + row < x.n && i0 + column + k < stride)
      map[(j0 + row) * stride + i0 + column + k] =
          tile_pair<kKind>(x, memory, i0, j0, column + k, row);
}

// Grid: (blocks, batches). loss.measured(pair, scaled floor) is what the stats are of.
template <MapKind kKind, class S, class M, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads)
build_maps(Batches<S> batches, Measures<T> measures, Maps<M> maps, Loss loss) {
  SIMT_SHARED(M, memory, [kTileMemory]);
  const int batch = blockIdx.y;
  const T scale = batch_scale(measures, batch, maps.measure_blocks).scale;
  const FeatureRows<S, M> x = rows_of<M>(batches, measures, batch, scale);
  const M floor = static_cast<M>(maps.floor * scale * scale);
  const int64_t half = half_tiles(x.n);
  Stats stats{};
  for (int64_t t = blockIdx.x; t < half; t += gridDim.x) {
    const HalfTile tile = half_tile(t);
    map_tile<kKind>(x, tile.a * kTile, tile.b * kTile, memory);
    store_tile<kKind>(x, memory, tile, maps.of(batch), maps.stride, [&](M pair, int times) {
      const double value = loss.measured(pair, floor);
      stats = MergeStats{}(stats,
                           Stats{{times * value, value, double(times), value > 0 ? 1 / value : 0}});
    });
  }
  stats = block_reduce(stats, MergeStats{});
  if (threadIdx.x != 0) return;
  for (int k = 0; k < kStats; ++k)
    maps.stats[(int64_t(batch) * maps.blocks + blockIdx.x) * kStats + k] = stats.v[k];
}

}  // namespace

template <class M, class S>
Maps<M> take_maps(Workspace& workspace, const Batches<S>& batches, double floor, bool kept = true) {
  const int64_t n = batches.n, stride = (n + 3) / 4 * 4;
  Maps<M> maps{};
  maps.n = n, maps.stride = stride, maps.floor = floor;
  maps.blocks = static_cast<int>(std::min(kMapBlocks, half_tiles(n)));
  maps.measure_blocks = measure_blocks(n);
  if (kept) maps.map = workspace.take<M>(batches.count * n * stride);
  maps.stats = workspace.take<double>(int64_t(batches.count) * maps.blocks * kStats);
  return maps;
}

template <MapKind kKind, class M, class S, class Loss, class T = acc_t<S>>
void launch_maps(const Batches<S>& batches, const Measures<T>& measures, const Maps<M>& maps,
                 const Loss& loss, cudaStream_t stream) {
  simt::launch(build_maps<kKind, S, M, Loss>, dim3(maps.blocks, batches.count), dim3(kTileThreads),
               0, stream, batches, measures, maps, loss);
}

}  // namespace kdops
