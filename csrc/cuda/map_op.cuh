// A function of the pairs of one batch, entry by entry of its map, and its gradient.
//
// Forward three launches: what scales the features; the map, with what its normaliser needs; the
// entries. Backward four: the first two again; what the normaliser's gradient needs; the gradient.
//
// A type Op describes one function:
//   kKind, kScaling, kLaplacian, floor, measured(s, floor)   as a Loss (relation.cuh)
//   Formula<T>             of an entry: value(s, diagonal), weight(s, upstream, diagonal)
//   formula<T>(side, moment, n)   once the normaliser is known
// where moment is the sum of upstream times value, upstream that of a pair in both orders.
#pragma once

#include <cmath>

#include "cuda/relation.cuh"

namespace kdops {

template <class S, class Op>
struct MapJob {
  using T = acc_t<S>;
  Batches<S> batches;  // one
  T* values;           // (n, n)
  const T* upstream;   // (n, n)
  S* gradient;
  Op op;
  Measures<T> measures;
  Maps<T> maps;
  double* moments;  // (moment_blocks)
  int moment_blocks;
};

namespace {

template <class S, class Op>
SIMT_DEVICE Side side_of(const MapJob<S, Op>& job) {
  const Stats stats = total_stats(job.maps, 0);
  return {stats.v[kStatSum], stats.v[kStatLargest], max(1.0, stats.v[kStatTies]),
          double(batch_scale(job.measures, 0, job.maps.measure_blocks).scale)};
}

// A block takes row after row.
template <class S, class Op, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads)
map_values(MapJob<S, Op> job) {
  SIMT_SHARED(typename Op::template Formula<T>, formula, [1]);
  const int64_t n = job.batches.n;
  const Side side = side_of(job);
  if (threadIdx.x == 0) formula[0] = job.op.template formula<T>(side, 0.0, n);
  __syncthreads();
  const bool finite = batch_scale(job.measures, 0, job.maps.measure_blocks).finite;
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x)
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
      job.values[i * n + j] = finite
                                  ? formula[0].value(job.maps.map[i * job.maps.stride + j], i == j)
                                  : not_a_number<T>();
}

// In float64: the normaliser's gradient is a sum that cancels.
template <class S, class Op, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads)
map_moments(MapJob<S, Op> job) {
  SIMT_SHARED(typename Op::template Formula<double>, formula, [1]);
  const int64_t n = job.batches.n;
  const Side side = side_of(job);
  if (threadIdx.x == 0) formula[0] = job.op.template formula<double>(side, 0.0, n);
  __syncthreads();
  double moment = 0;
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x)
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
      moment += double(job.upstream[i * n + j]) *
                formula[0].value(double(job.maps.map[i * job.maps.stride + j]), i == j);
  moment = block_sum(moment);
  if (threadIdx.x == 0) job.moments[blockIdx.x] = moment;
}

// Grid: (tiles of columns, tiles of rows).
template <class S, class Op, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
map_gradient(MapJob<S, Op> job) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  SIMT_SHARED(typename Op::template Formula<T>, formula, [1]);
  const int64_t n = job.batches.n, stride = job.maps.stride;
  double moment = 0;
  for (int i = threadIdx.x; i < job.moment_blocks; i += blockDim.x) moment += job.moments[i];
  moment = block_sum(moment);
  const Side side = side_of(job);
  if (threadIdx.x == 0) formula[0] = job.op.template formula<T>(side, moment, n);
  __syncthreads();
  const BatchScale<T> scale = batch_scale(job.measures, 0, job.maps.measure_blocks);
  const FeatureRows<S, T> x = rows_of<T>(job.batches, job.measures, 0, scale.scale);
  const auto weight = [&](int64_t i, int64_t j) {
    const T upstream = job.upstream[j * n + i] + job.upstream[i * n + j];
    return formula[0].weight(job.maps.map[j * stride + i], upstream, i == j);
  };
  gradient_tile<Op::kLaplacian>(x, job.maps.map, stride, blockIdx.y * int64_t(kTile),
                                blockIdx.x * int64_t(kTile), memory, weight, scale.finite,
                                job.gradient);
}

}  // namespace

// What a launch needs besides its inputs and outputs; memory may be null to learn the size.
template <class S, class Op>
size_t place_map(MapJob<S, Op>& job, void* memory) {
  Workspace workspace(memory);
  job.batches.count = 1;
  job.measures = take_measures(workspace, job.batches, Op::kScaling, std::sqrt(job.op.floor));
  job.maps = take_maps<acc_t<S>>(workspace, job.batches, job.op.floor);
  job.moment_blocks =
      job.op.normalized() ? static_cast<int>(std::min<int64_t>(kValueBlocks, job.batches.n)) : 0;
  job.moments = workspace.take<double>(job.moment_blocks);
  return workspace.size();
}

template <class S, class Op>
void launch_map(const MapJob<S, Op>& job, cudaStream_t stream) {
  const int64_t n = job.batches.n;
  if (n == 0) return;
  launch_measure(job.batches, job.measures, stream);
  launch_maps<Op::kKind>(job.batches, job.measures, job.maps, job.op, stream);
  simt::launch(map_values<S, Op>, dim3(std::min<int64_t>(n, kMapBlocks)), dim3(kTileThreads), 0,
               stream, job);
}
template <class S, class Op>
void launch_map_backward(const MapJob<S, Op>& job, cudaStream_t stream) {
  const int64_t n = job.batches.n;
  if (n == 0) return;
  launch_measure(job.batches, job.measures, stream);
  launch_maps<Op::kKind>(job.batches, job.measures, job.maps, job.op, stream);
  if (job.moment_blocks > 0)
    simt::launch(map_moments<S, Op>, dim3(job.moment_blocks), dim3(kTileThreads), 0, stream, job);
  simt::launch(map_gradient<S, Op>, dim3(tiles(job.batches.d[0]), tiles(n)), dim3(kTileThreads), 0,
               stream, job);
}

}  // namespace kdops
