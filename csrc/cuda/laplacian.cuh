// The gradient of every loss over pairs: g_i = sum_j w_ij (x_i - x_j), a graph Laplacian times
// rows.
//
// Its differences are taken one by one, so that near pairs lose no digits, and the weights w_ij are
// made where they are needed: no matrix of them exists.
#pragma once

#include "cuda/map.cuh"

namespace kdops {
namespace {

constexpr int kWarps = kTileThreads / simt::kWarpSize;

// Whether rows may be of other lengths than 1 although each is over its own.
template <bool kLaplacian, MapKind kKind>
constexpr bool kStretches = kLaplacian && kKind == MapKind::kProduct;

// Of the rows i0 .. and the features k0 .. by one block. `map` is that of x; weight(i, j) is asked
// for i, j < n. kLaplacian = false: g_i = sum_j w_ij x_j.
template <bool kLaplacian, MapKind kKind, class S, class T, class Weight>
struct GradientTile {
  const FeatureRows<S, T>& x;
  const T* map;
  int64_t stride, i0, k0;
  const Weight& weight;
  T* memory;  // shared, kTileMemory
  T along;    // of row i0 + threadIdx % kTile: sum_j w_ij <x_i, x_i - x_j> over the thread's j
  T degree;   // and sum_j w_ij, where lengths have an eps

  // A pair of unit rows has S = 2 -+ 2 <x_i, x_j>. Zero rows have a constant map.
  SIMT_DEVICE T pair(int64_t i, int64_t j) {
    if (i >= x.n || j >= x.n || x.zero(i) || x.zero(j)) return T(0);
    const T w = weight(i, j);
    if (x.inverses == nullptr) return w;
    const T entry = map[j * stride + i];
    if constexpr (kStretches<kLaplacian, kKind>) {
      along += w * (map[i * stride + i] - entry), degree += w;
    } else {
      along += w * (kKind == MapKind::kSum ? T(2) - entry / T(2) : entry / T(2));
    }
    return w;
  }

  SIMT_DEVICE void accumulate(T (&sums)[4][4]) {
    const Place p = place();
    T own[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int k = 0; k < 4; ++k) own[i][k] = x(i0 + p.row + i, k0 + p.column + k);
    T* const others = memory + kPanel;
    for (int64_t j0 = 0; j0 < x.n; j0 += kDepth) {
      __syncthreads();
      fill_by_depths(memory, [&](int i, int j) { return pair(i0 + i, j0 + j); });
      fill_by_depths(others, [&](int k, int j) { return x(j0 + j, k0 + k); });
      __syncthreads();
      add_panels(memory, others, sums, [&](T sum, T w, T other, int i, int k) {
        if constexpr (kLaplacian) return sum + w * (own[i][k] - other);
        return sum + w * other;
      });
    }
    gather(memory, sums);
  }
};

// The sum over the warps of what each has of row threadIdx % kTile, for row `row`; by all threads.
template <class T>
SIMT_DEVICE T sum_of_row(T own, T (*parts)[kTile], int row) {
  parts[threadIdx.x / kTile][threadIdx.x % kTile] = own;
  __syncthreads();
  T sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += parts[warp][row];
  return sum;
}

// What is to be taken off along row i where its length has an eps: it is c = 1 - eps / (|x_i| +
// eps), and 1 - c of what stretches it is left.
template <class S, class T>
SIMT_DEVICE T turning_part(const FeatureRows<S, T>& x, int64_t i, T squares, T along, T degree) {
  const T turned = squares > T(0) ? along / squares : T(0);
  return turned - x.eps * x.factor(i) * (turned - degree);
}

// The gradient that a sum amounts to: scaled back, and of a unit row only what turns it.
template <class S, class T>
SIMT_DEVICE S finished(const FeatureRows<S, T>& x, int64_t i, int64_t k, T sum, T along,
                       bool finite) {
  if (x.inverses != nullptr) sum -= along * x(i, k);
  return simt::narrow<S>(finite ? sum * x.factor(i) : not_a_number<T>());
}

// Writes the gradient's tile; begins with a barrier.
template <bool kLaplacian, MapKind kKind = MapKind::kCosine, class S, class T, class Weight>
SIMT_DEVICE void gradient_tile(const FeatureRows<S, T>& x, const T* map, int64_t stride, int64_t i0,
                               int64_t k0, T* memory, const Weight& weight, bool finite,
                               S* gradient) {
  SIMT_SHARED(T, parts, [kWarps][kTile]);
  static_assert(kTile == simt::kWarpSize);
  GradientTile<kLaplacian, kKind, S, T, Weight> tile{x,      map,    stride, i0,  k0,
                                                     weight, memory, T(0),   T(0)};
  T sums[4][4] = {};
  tile.accumulate(sums);
  const int row = threadIdx.x / 8, column = threadIdx.x % 8 * 4;
  T along = sum_of_row(tile.along, parts, row);
  const int64_t i = i0 + row;
  if constexpr (kStretches<kLaplacian, kKind>) {
    __syncthreads();
    const T degree = sum_of_row(tile.degree, parts, row);
    if (i < x.n) along = turning_part(x, i, map[i * stride + i], along, degree);
  }
  for (int c = 0; c < 4; ++c) {
    const int64_t k = k0 + column + c;
    if (i >= x.n || k >= x.d) continue;
    const T sum = total(memory, row, column + c);
    gradient[i * x.d + k] = finished(x, i, k, sum, along, finite);
  }
}

}  // namespace
}  // namespace kdops
