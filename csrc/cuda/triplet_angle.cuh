// The map of cosines of all triplets, and its gradient; in float64 inside whatever the input
// (formulas/angle.h).
//
// Forward three launches: what scales the features; the map; the cosines. Backward four: the first
// two again; the weights of the pairs, a warp a pair; the gradient.
#pragma once

#include "cuda/laplacian.cuh"
#include "formulas/angle.h"

namespace kdops {

constexpr int kCosineThreads = 256;

template <class S>
struct CosineJob {
  using T = acc_t<S>;
  Batches<S> batches;  // one
  T* cosines;          // (n, n, n)
  const T* upstream;   // (n, n, n)
  S* gradient;
  double eps;
  Measures<T> measures;
  Maps<double> maps;
  T* weights;  // (n, stride)
};

namespace {

// The pairs of a batch.
struct Lengths {
  const double* map;
  int64_t n, stride;
  double eps;

  SIMT_DEVICE double square(int64_t i, int64_t j) const { return map[i * stride + j]; }
  SIMT_DEVICE double inverse(int64_t i, int64_t j) const {
    const double s = square(i, j);
    return s > 0 ? 1 / max(sqrt(s), eps) : 0.0;
  }
};
// At the vertex between two points: exactly 0 where the squares add up.
SIMT_DEVICE double cosine(double s_b, double p_b, double s_c, double p_c, double s_bc) {
  return p_b * p_c * ((s_b - s_bc) + s_c) / 2;
}
template <class S, class T>
SIMT_DEVICE Lengths lengths_of(const CosineJob<S>& job, const BatchScale<T>& scale) {
  return {job.maps.map, job.maps.n, job.maps.stride, job.eps * scale.scale};
}

// Grid: (blocks of c, a). A thread keeps its (a, c) and walks b, whose pairs a block shares.
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kCosineThreads)
write_cosines(CosineJob<S> job) {
  SIMT_SHARED(double, squares, [kCosineThreads]);
  SIMT_SHARED(double, inverses, [kCosineThreads]);
  const BatchScale<T> scale = batch_scale(job.measures, 0, job.maps.measure_blocks);
  const Lengths m = lengths_of(job, scale);
  const int64_t a = blockIdx.y, c = blockIdx.x * int64_t(kCosineThreads) + threadIdx.x;
  const double s_c = c < m.n ? m.square(a, c) : 0.0, p_c = c < m.n ? m.inverse(a, c) : 0.0;
  for (int64_t b0 = 0; b0 < m.n; b0 += kCosineThreads) {
    const int64_t own = b0 + threadIdx.x;
    __syncthreads();
    squares[threadIdx.x] = own < m.n ? m.square(a, own) : 0.0;
    inverses[threadIdx.x] = own < m.n ? m.inverse(a, own) : 0.0;
    __syncthreads();
    for (int k = 0; c < m.n && k < kCosineThreads && b0 + k < m.n; ++k) {
      const int64_t b = b0 + k;
      const double s_b = squares[k], p_b = inverses[k];
      const double value =
          b == c ? self_cosine(s_b, p_b, m.eps) : cosine(s_b, p_b, s_c, p_c, m.square(b, c));
      job.cosines[(a * m.n + b) * m.n + c] =
          scale.finite ? static_cast<T>(value) : not_a_number<T>();
    }
  }
}

// The upstream gradient of an angle, half of both orders.
template <class S>
SIMT_DEVICE double slope(const CosineJob<S>& job, int64_t a, int64_t b, int64_t c) {
  const int64_t n = job.maps.n;
  return (double(job.upstream[(a * n + b) * n + c]) + double(job.upstream[(a * n + c) * n + b])) /
         2;
}

// What the angles of the triangle (i, j, r) add to the sums A and B of both orders, and Z.
enum { kVertexA, kVertexB, kVertexAOther, kVertexBOther, kOpposite, kCosineSums };
using CosineSums = Values<double, kCosineSums>;
template <class S>
SIMT_DEVICE CosineSums triangle(const CosineJob<S>& job, const Lengths& m, int64_t i, int64_t j,
                                int64_t r) {
  const double s_ij = m.square(i, j), s_ir = m.square(i, r), s_jr = m.square(j, r);
  const double p_ij = m.inverse(i, j), p_ir = m.inverse(i, r), p_jr = m.inverse(j, r);
  const double h_i = slope(job, i, j, r), h_j = slope(job, j, i, r), h_r = slope(job, r, i, j);
  return {{h_i * p_ir, h_i * cosine(s_ij, p_ij, s_ir, p_ir, s_jr), h_j * p_jr,
           h_j * cosine(s_ij, p_ij, s_jr, p_jr, s_ir), h_r * p_ir * p_jr}};
}

// w_ij = 2 dL/dS_ij. Grid: (blocks of j, i); a warp takes a pair, its lanes the third points.
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kCosineThreads)
cosine_weights(CosineJob<S> job) {
  const BatchScale<T> scale = batch_scale(job.measures, 0, job.maps.measure_blocks);
  const Lengths m = lengths_of(job, scale);
  const int64_t i = blockIdx.y;
  const int64_t j = (blockIdx.x * int64_t(kCosineThreads) + threadIdx.x) / simt::kWarpSize;
  if (j >= m.n) return;  // the whole warp
  CosineSums sums{};
  for (int64_t r = threadIdx.x % simt::kWarpSize; r < m.n; r += simt::kWarpSize)
    if (i < j && r != i && r != j) sums = Sum{}(sums, triangle(job, m, i, j, r));
  sums = warp_reduce(sums, Sum{});
  if (threadIdx.x % simt::kWarpSize != 0 || i > j) return;
  double weight = 0;
  if (i < j) {
    const double p = m.inverse(i, j), s = m.square(i, j);
    const double of_pair = slope(job, i, j, j) + slope(job, j, i, i);
    const double bounded = p * m.eps < 1 ? 0.0 : p * p * of_pair;
    // A pair with itself, i j j: its cosine is s p^2 where the length is bounded.
    weight = 2 * (vertex_weight(sums.v[kVertexA], sums.v[kVertexB], p, m.eps) +
                  vertex_weight(sums.v[kVertexAOther], sums.v[kVertexBOther], p, m.eps) + bounded -
                  sums.v[kOpposite]);
    weight = s > 0 ? weight : 0.0;
  }
  job.weights[i * m.stride + j] = job.weights[j * m.stride + i] = static_cast<T>(weight);
}

// Grid: (tiles of columns, tiles of rows).
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
cosine_gradient(CosineJob<S> job) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  const BatchScale<T> scale = batch_scale(job.measures, 0, job.maps.measure_blocks);
  const FeatureRows<S, T> x = rows_of<T>(job.batches, job.measures, 0, scale.scale);
  const auto weight = [&](int64_t i, int64_t j) { return job.weights[j * job.maps.stride + i]; };
  gradient_tile<true>(x, job.weights, job.maps.stride, blockIdx.y * int64_t(kTile),
                      blockIdx.x * int64_t(kTile), memory, weight, scale.finite, job.gradient);
}

}  // namespace

// What a launch needs besides its inputs and outputs; memory may be null to learn the size.
template <class S>
size_t place_cosines(CosineJob<S>& job, void* memory) {
  Workspace workspace(memory);
  job.batches.count = 1;
  job.measures = take_measures(workspace, job.batches, Scaling::kBatch, job.eps);
  job.maps = take_maps<double>(workspace, job.batches, 0.0);
  job.weights = workspace.take<acc_t<S>>(job.gradient ? job.maps.n * job.maps.stride : 0);
  return workspace.size();
}

template <class S>
void launch_triplet_angle(const CosineJob<S>& job, cudaStream_t stream) {
  const int64_t n = job.batches.n;
  if (n == 0) return;
  launch_measure(job.batches, job.measures, stream);
  launch_maps<MapKind::kDistance>(job.batches, job.measures, job.maps, Unmeasured{}, stream);
  simt::launch(write_cosines<S>, dim3((n + kCosineThreads - 1) / kCosineThreads, n),
               dim3(kCosineThreads), 0, stream, job);
}
template <class S>
void launch_triplet_angle_backward(const CosineJob<S>& job, cudaStream_t stream) {
  const int64_t n = job.batches.n;
  if (n == 0) return;
  constexpr int64_t warps = kCosineThreads / simt::kWarpSize;
  launch_measure(job.batches, job.measures, stream);
  launch_maps<MapKind::kDistance>(job.batches, job.measures, job.maps, Unmeasured{}, stream);
  simt::launch(cosine_weights<S>, dim3((n + warps - 1) / warps, n), dim3(kCosineThreads), 0, stream,
               job);
  simt::launch(cosine_gradient<S>, dim3(tiles(job.batches.d[0]), tiles(n)), dim3(kTileThreads), 0,
               stream, job);
}

}  // namespace kdops
