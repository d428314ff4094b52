// A list of batches of features, and what brings them to a magnitude whose squares neither overflow
// nor vanish: for every batch a power of two, or for every row the inverse of its length.
#pragma once

#include <algorithm>

#include "cuda/reduce.cuh"
#include "cuda/scalar.cuh"

namespace kdops {

constexpr int kMaxBatches = 32;
constexpr int kMeasureBlocks = 64, kMeasureThreads = 256;
constexpr int kSafeExponent = 20, kMaxExponent = 120;

// (n, d[b]) features, contiguous rows. Of a relation the students come first, the teacher last.
template <class S>
struct Batches {
  const S* x[kMaxBatches];
  int64_t d[kMaxBatches];
  int64_t n;
  int count;
};

// Memory that a launch function gets in one piece.
class Workspace {
 public:
  explicit Workspace(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t n) {
    T* const part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + size_);
    size_ += (static_cast<size_t>(n) * sizeof(T) + 255) / 256 * 256;
    return part;
  }
  size_t size() const { return size_; }

 private:
  char* memory_;
  size_t size_ = 0;
};

// As they are; over a power of two for the whole batch; rows over their length.
enum class Scaling { kNone, kBatch, kRows };

// What measure_features leaves behind: of each batch the largest magnitudes by block, of each row
// the inverse length, plus eps: 0 for a zero row without it.
template <class T>
struct Measures {
  Scaling scaling;
  T floor;                  // a length that is compared with the features', or eps
  magnitude_t<T>* largest;  // (count, kMeasureBlocks)
  T* inverses;              // (count, n), for rows of length 1
};

namespace {

struct Largest {
  template <class B, int N>
  SIMT_DEVICE Values<B, N> operator()(Values<B, N> a, const Values<B, N>& b) const {
#pragma unroll
    for (int k = 0; k < N; ++k) a.v[k] = max(a.v[k], b.v[k]);
    return a;
  }
};
template <class B>
SIMT_DEVICE B warp_largest(B x) {
  return warp_reduce(Values<B, 1>{{x}}, Largest{}).v[0];
}

// What brings the largest magnitude into [1/2, 1).
template <class T>
SIMT_DEVICE T unit_scale(magnitude_t<T> largest) {
  if (largest == 0 || !is_finite<T>(largest)) return T(1);
  return power_of_two<T>(min(kMaxExponent, max(-kMaxExponent, -exponent<T>(largest))));
}

// 1 / (|row| + eps), by a warp.
template <class S, class T = acc_t<S>>
SIMT_DEVICE T inverse_length(const S* row, int64_t d, magnitude_t<T> largest, T eps) {
  const T scale = unit_scale<T>(largest);
  T squares = 0;
  for (int64_t k = threadIdx.x % simt::kWarpSize; k < d; k += simt::kWarpSize) {
    const T x = simt::widen(row[k]) * scale;
    squares += x * x;
  }
  squares = warp_sum(squares);
  if (eps > T(0)) return T(scale / (double(sqrt(squares)) + double(eps) * scale));
  return squares > T(0) ? scale / sqrt(squares) : T(0);
}

// Grid: (blocks, batches). A warp takes row after row.
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kMeasureThreads)
measure_features(Batches<S> batches, Measures<T> measures) {
  const int lane = threadIdx.x % simt::kWarpSize, batch = blockIdx.y;
  const int64_t d = batches.d[batch];
  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / simt::kWarpSize;
  magnitude_t<T> top = 0;
  for (int64_t i = first; i < batches.n; i += gridDim.x * (blockDim.x / simt::kWarpSize)) {
    const S* row = batches.x[batch] + i * d;
    magnitude_t<T> largest = 0;
    for (int64_t k = lane; k < d; k += simt::kWarpSize)
      largest = max(largest, magnitude(simt::widen(row[k])));
    largest = warp_largest(largest);
    top = max(top, largest);
    if (measures.scaling != Scaling::kRows) continue;
    const T inverse = inverse_length(row, d, largest, measures.floor);
    if (lane == 0) measures.inverses[batch * batches.n + i] = inverse;
  }
  top = block_reduce(Values<magnitude_t<T>, 1>{{top}}, Largest{}).v[0];
  if (threadIdx.x == 0) measures.largest[batch * kMeasureBlocks + blockIdx.x] = top;
}

template <class T>
struct BatchScale {
  T scale;      // of the whole batch
  bool finite;  // neither NaN nor infinity
};

// By every warp for itself.
template <class T>
SIMT_DEVICE BatchScale<T> batch_scale(const Measures<T>& measures, int batch, int blocks) {
  magnitude_t<T> top = 0;
  for (int i = threadIdx.x % simt::kWarpSize; i < blocks; i += simt::kWarpSize)
    top = max(top, measures.largest[batch * kMeasureBlocks + i]);
  top = warp_largest(top);
  const bool finite = is_finite<T>(top);
  const magnitude_t<T> reference = max(top, magnitude(measures.floor));
  const bool safe = abs(exponent<T>(reference)) <= kSafeExponent || reference == 0;
  const bool scaled = measures.scaling == Scaling::kBatch && finite && !safe;
  return {scaled ? unit_scale<T>(reference) : T(1), finite};
}

// By every warp for itself.
template <class T>
SIMT_DEVICE bool all_finite(const Measures<T>& measures, int batches, int blocks) {
  bool finite = true;
  for (int b = 0; b < batches; ++b) finite = finite && batch_scale(measures, b, blocks).finite;
  return finite;
}

}  // namespace

inline int measure_blocks(int64_t n) {
  constexpr int64_t rows = kMeasureThreads / simt::kWarpSize;
  return static_cast<int>(
      std::min<int64_t>(kMeasureBlocks, std::max<int64_t>(1, (n + rows - 1) / rows)));
}

template <class S, class T = acc_t<S>>
Measures<T> take_measures(Workspace& workspace, const Batches<S>& batches, Scaling scaling,
                          double floor) {
  const int64_t rows = scaling == Scaling::kRows ? batches.count * batches.n : 0;
  return {scaling, static_cast<T>(floor),
          workspace.take<magnitude_t<T>>(batches.count * kMeasureBlocks), workspace.take<T>(rows)};
}

template <class S, class T = acc_t<S>>
void launch_measure(const Batches<S>& batches, const Measures<T>& measures, cudaStream_t stream) {
  simt::launch(measure_features<S, T>, dim3(measure_blocks(batches.n), batches.count),
               dim3(kMeasureThreads), 0, stream, batches, measures);
}

}  // namespace kdops
