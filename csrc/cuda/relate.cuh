// Places and launches a relation, with its maps kept or streamed.
#pragma once

#include "cuda/kept_maps.cuh"
#include "cuda/row_maps.cuh"
#include "cuda/streamed_maps.cuh"

namespace kdops {

constexpr int64_t kMapBytes = int64_t(256) << 20;  // that kept maps may take

// What a launch needs besides its inputs and outputs; memory may be null to learn the size.
template <class S, class Loss>
size_t place_relation(Relation<S, Loss>& r, void* memory, int64_t map_bytes = kMapBytes) {
  using T = acc_t<S>;
  Workspace workspace(memory);
  const int64_t n = r.batches.n, count = r.batches.count;
  const bool kept = Loss::kNormalised == Normalised::kRows ||
                    count * n * n * static_cast<int64_t>(sizeof(T)) <= map_bytes;
  r.measures = take_measures(workspace, r.batches, Loss::kScaling, std::sqrt(r.loss.floor));
  r.maps = take_maps<T>(workspace, r.batches, r.loss.floor, kept);
  r.value_blocks =
      static_cast<int>(kept ? std::min(kValueBlocks, n) : std::min(kMapBlocks, half_tiles(n)));
  r.parts = workspace.take<double>((count - 1) * r.value_blocks * kParts);
  for (int b = 0; b < count; ++b)
    if (!kept && sizeof(S) < sizeof(T) && r.gradients[b] != nullptr)
      r.sums[b] = workspace.take<T>(n * r.batches.d[b]);
  return workspace.size();
}

namespace {

template <class S, class Loss>
void launch_kept(const Relation<S, Loss>& r, int64_t widest, cudaStream_t stream) {
  const int count = r.batches.count;
  const dim3 threads(kTileThreads);
  launch_maps<Loss::kKind>(r.batches, r.measures, r.maps, r.loss, stream);
  simt::launch(relation_values<S, Loss>, dim3(r.value_blocks, count - 1), threads, 0, stream, r);
  if (widest > 0)
    simt::launch(relation_gradients<S, Loss>, dim3(tiles(widest), tiles(r.batches.n), count),
                 threads, 0, stream, r);
}

template <class S, class Loss>
void launch_streamed(const Relation<S, Loss>& r, int64_t widest, cudaStream_t stream) {
  const int count = r.batches.count;
  const dim3 threads(kTileThreads);
  if (Loss::kNormalised == Normalised::kMap)
    launch_maps<Loss::kKind>(r.batches, r.measures, r.maps, r.loss, stream);
  simt::launch(stream_values<S, Loss>, dim3(r.value_blocks, count - 1), threads, 0, stream, r);
  if (widest > 0)
    simt::launch(stream_gradients<S, Loss>, dim3(tiles(r.batches.n), count), threads,
                 kStripMemory * sizeof(acc_t<S>), stream, r);
}

template <class S, class Loss>
void launch_rows(const Relation<S, Loss>& r, int64_t widest, cudaStream_t stream) {
  const dim3 threads(kTileThreads);
  launch_maps<Loss::kKind>(r.batches, r.measures, r.maps, Unmeasured{}, stream);
  simt::launch(row_values<S, Loss>, dim3(r.value_blocks), threads, 0, stream, r);
  if (widest > 0)
    simt::launch(row_gradients<S, Loss>, dim3(tiles(widest), tiles(r.batches.n)), threads, 0,
                 stream, r);
}

template <class S, class Loss>
void launch_pairs(const Relation<S, Loss>& r, int64_t widest, cudaStream_t stream) {
  if constexpr (Loss::kNormalised == Normalised::kRows)
    launch_rows(r, widest, stream);
  else if (r.maps.map == nullptr)
    launch_streamed(r, widest, stream);
  else
    launch_kept(r, widest, stream);
}

}  // namespace

template <class S, class Loss>
void launch_relation(const Relation<S, Loss>& r, cudaStream_t stream) {
  int64_t widest = 0;
  for (int b = 0; b < r.batches.count; ++b)
    if (r.gradients[b] != nullptr) widest = std::max(widest, r.batches.d[b]);
  launch_measure(r.batches, r.measures, stream);
  if (r.batches.n == 0) widest = 0;
  if (r.batches.n > 0) launch_pairs(r, widest, stream);
  if (widest == 0) simt::launch(relation_value<S, Loss>, dim3(1), dim3(kTileThreads), 0, stream, r);
}

}  // namespace kdops
