// RKD's angle loss: c sum_abc huber(cos_abc - cos'_abc), the angle at a between b and c.
//
// Four launches: what scales the features; the maps, in float64; the triplets, which leave the
// weights of the pairs; the gradients. Memory is O(N^2).
#pragma once

#include "cuda/triplets.cuh"

namespace kdops {

struct SquaredLengths {
  SIMT_DEVICE double measured(double s, double) const { return s; }
};

namespace {

// By one block.
template <class S, class T = acc_t<S>>
SIMT_DEVICE void write_loss(const Triplets<S>& t, int64_t parts) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) sum += t.parts[i];
  sum = block_sum(sum);
  const bool finite = all_finite(t.measures, t.batches.count, t.maps.measure_blocks);
  if (threadIdx.x == 0) *t.value = finite ? static_cast<T>(sum * t.c) : not_a_number<T>();
}
template <class S>
SIMT_KERNEL_BOUNDS(kTileThreads)
triplet_loss(Triplets<S> t, int64_t parts) {
  write_loss(t, parts);
}

// Grid: (tiles of columns, tiles of rows, batches). The first block writes the value too.
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
triplet_gradients(Triplets<S> t, int64_t parts) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  const int self = blockIdx.z;
  if (blockIdx.x == 0 && blockIdx.y == 0 && self == 0) write_loss(t, parts);
  const int64_t i0 = blockIdx.y * int64_t(kTile), k0 = blockIdx.x * int64_t(kTile);
  if (t.gradients[self] == nullptr || k0 >= t.batches.d[self]) return;
  const T scale = batch_scale(t.measures, self, t.maps.measure_blocks).scale;
  const FeatureRows<S, T> x = rows_of<T>(t.batches, t.measures, self, scale);
  const T* weights = t.weights_of(self);
  const auto weight = [&](int64_t i, int64_t j) { return weights[j * t.maps.stride + i]; };
  const bool finite = all_finite(t.measures, t.batches.count, t.maps.measure_blocks);
  gradient_tile<true>(x, weights, t.maps.stride, i0, k0, memory, weight, finite, t.gradients[self]);
}

}  // namespace

inline int64_t triplet_tiles(int64_t n) {
  const int64_t rows = (n + kPairs - 1) / kPairs;
  return rows * (rows + 1) / 2;
}

// What a launch needs besides its inputs and outputs; memory may be null to learn the size.
template <class S>
size_t place_triplets(Triplets<S>& t, void* memory) {
  Workspace workspace(memory);
  t.measures = take_measures(workspace, t.batches, Scaling::kBatch, t.eps);
  t.maps = take_maps<double>(workspace, t.batches, 0.0);
  const int students = t.batches.count - 1;
  const int batches = t.gradients[students] == nullptr ? students : students + 1;
  t.weights = workspace.take<acc_t<S>>(batches * t.batches.n * t.maps.stride);
  t.parts = workspace.take<double>(students * triplet_tiles(t.batches.n));
  return workspace.size();
}

template <class S>
void launch_rkd_angle_loss(const Triplets<S>& t, cudaStream_t stream) {
  const int count = t.batches.count;
  const int64_t n = t.batches.n, parts = triplet_tiles(n) * (count - 1);
  int64_t widest = 0;
  for (int b = 0; b < count; ++b)
    if (t.gradients[b] != nullptr) widest = std::max(widest, t.batches.d[b]);
  const dim3 threads(kTileThreads);
  launch_measure(t.batches, t.measures, stream);
  if (n > 0) {
    launch_maps<MapKind::kDistance>(t.batches, t.measures, t.maps, SquaredLengths{}, stream);
    simt::launch(compare_triplets<S>, dim3(triplet_tiles(n), count), dim3(kTripletThreads), 0,
                 stream, t);
  }
  if (n == 0 || widest == 0)
    return simt::launch(triplet_loss<S>, dim3(1), threads, 0, stream, t, parts);
  simt::launch(triplet_gradients<S>, dim3(tiles(widest), tiles(n), count), threads, 0, stream, t,
               parts);
}

}  // namespace kdops
