// Two kernels on tiles: a map of rows against rows, and weights times rows.
//
// Map: a panel of rows is transposed so that its rows are lanes; four rows at a time are compared
// with it by direct differences (nothing cancels, equal rows give exactly 0). Partial sums over 16
// columns keep the rounding of a long row at that of a short one.
// Product: out_i += sum_j w_ij (x_j - centre), six rows by one vector of columns in registers.
#pragma once

#include <algorithm>

#include "cpu/simd.h"

namespace kdops {

enum class MapKind { kSquaredDistance, kInnerProduct };
constexpr int64_t kMapChunk = 16, kProductRows = 6;
template <int W>  // as many as hide the latency and have registers
constexpr int64_t kMapRows = W == 64 ? 8 : 4;

// ---- map ---------------------------------------------------------------------------------------

template <class T, class Out = T>  // Out = double: sums to float64 of products in float32
struct MapTile {
  const T *rows, *columns;  // the first row of each side, d apart
  int64_t n_rows, n_columns, d;
  bool diagonal;  // both sides are the same rows
  Out* out;       // (n_rows, stride)
  int64_t stride;
  T* panel;  // scratch of d vectors
};

// The blocks of kDistance lanes off the diagonal, of a's upper and b's lower half, change places.
template <int kDistance, class V>
KDOPS_INLINE void exchange(V& a, V& b) {
  constexpr int n = sizeof(V) / sizeof(element_t<V>);
  integers_t<V> low, high;
  for (int l = 0; l < n; ++l) {
    const bool upper = (l & kDistance) != 0;
    low[l] = upper ? n + l - kDistance : l;
    high[l] = upper ? n + l : l + kDistance;
  }
  const V first = __builtin_shuffle(a, b, low);
  b = __builtin_shuffle(a, b, high);
  a = first;
}

template <int kDistance, class V>
KDOPS_INLINE void transpose(V* t) {
  constexpr int n = sizeof(V) / sizeof(element_t<V>);
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i)
    if ((i & kDistance) == 0) exchange<kDistance>(t[i], t[i + kDistance]);
  if constexpr (kDistance > 1) transpose<kDistance / 2>(t);
}

// panel[k][lane] = x[lane][k], 0 beyond the last row.
template <int W, class T>
KDOPS_INLINE void pack_panel(const T* x, int64_t rows, int64_t d, T* panel) {
  constexpr int L = lanes<T, W>;
  for (int64_t k = 0; k < d; k += L) {
    const int64_t n = std::min<int64_t>(L, d - k);
    vec<T, W> t[L];
    for (int l = 0; l < L; ++l) {
      if (l >= rows)
        t[l] = vec<T, W>{};
      else
        t[l] = n == L ? load<T, W>(x + l * d + k) : load_n<T, W>(x + l * d + k, n, T(0));
    }
    transpose<L / 2>(t);
    for (int64_t l = 0; l < n; ++l) store(panel + (k + l) * L, t[l]);
  }
}

template <int W, MapKind kKind, class T, class Sum>
KDOPS_INLINE void map_rows(const T* const* a, const T* panel, int64_t d, Sum* total) {
  for (int r = 0; r < kMapRows<W>; ++r) total[r] = Sum{};
  for (int64_t begin = 0; begin < d; begin += kMapChunk) {
    const int64_t end = std::min(d, begin + kMapChunk);
    vec<T, W> part[kMapRows<W>] = {};
    for (int64_t k = begin; k < end; ++k) {
      const vec<T, W> b = load<T, W>(panel + k * lanes<T, W>);
#pragma GCC unroll 8
      for (int r = 0; r < kMapRows<W>; ++r) {
        if constexpr (kKind == MapKind::kSquaredDistance) {
          const vec<T, W> difference = b - a[r][k];  // a is the instruction's memory operand
          part[r] += difference * difference;
        } else {
          part[r] += a[r][k] * b;
        }
      }
    }
    for (int r = 0; r < kMapRows<W>; ++r) total[r] += __builtin_convertvector(part[r], Sum);
  }
}

// What lies below the squares of lanes on the diagonal from what lies above them.
template <int W, class T>
KDOPS_INLINE void mirror(T* tile, int64_t rows, int64_t stride) {
  constexpr int L = lanes<T, W>;
  for (int64_t i = L; i < rows; i += L) {
    for (int64_t j = 0; j < i; j += L) {
      vec<T, W> t[L];
      for (int l = 0; l < L; ++l) t[l] = load<T, W>(tile + (j + l) * stride + i);
      transpose<L / 2>(t);
      for (int l = 0; l < L && i + l < rows; ++l) store(tile + (i + l) * stride + j, t[l]);
    }
  }
}
// The diagonal and the columns beyond the last.
template <int W, class T, class Out>
KDOPS_INLINE void mark_no_pairs(const MapTile<T, Out>& m) {
  for (int64_t i = 0; i < m.n_rows; ++i) {
    for (int64_t j = m.n_columns; j % lanes<T, W> != 0; ++j) m.out[i * m.stride + j] = Out(-1);
    if (m.diagonal) m.out[i * m.stride + i] = Out(-1);
  }
}

template <int W, MapKind kKind, class T, class Out>
KDOPS_INLINE void map_tile_kind(const MapTile<T, Out>& m) {
  constexpr int L = lanes<T, W>;
  using Sum = vec<Out, L* int(sizeof(Out))>;
  for (int64_t j = 0; j < m.n_columns; j += L) {
    pack_panel<W>(m.columns + j * m.d, m.n_columns - j, m.d, m.panel);
    const int64_t end = m.diagonal ? std::min(m.n_rows, j + L) : m.n_rows;
    for (int64_t i = 0; i < end; i += kMapRows<W>) {
      const T* a[kMapRows<W>];
      Sum total[kMapRows<W>];
      for (int64_t r = 0; r < kMapRows<W>; ++r) a[r] = m.rows + std::min(i + r, m.n_rows - 1) * m.d;
      map_rows<W, kKind>(a, m.panel, m.d, total);
      for (int64_t r = 0; r < kMapRows<W> && i + r < m.n_rows; ++r)
        store(m.out + (i + r) * m.stride + j, total[r]);
    }
  }
  if (m.diagonal) mirror<W>(m.out, m.n_rows, m.stride);
  if constexpr (kKind == MapKind::kSquaredDistance) mark_no_pairs<W>(m);
}

template <int W, class T, class Out>
KDOPS_INLINE void squared_distance_tile_impl(const MapTile<T, Out>& m) {
  map_tile_kind<W, MapKind::kSquaredDistance>(m);
}
template <int W, class T>
KDOPS_INLINE void inner_product_tile_impl(const MapTile<T>& m) {
  map_tile_kind<W, MapKind::kInnerProduct>(m);
}
KDOPS_MULTIVERSION(squared_distance_tile, (const MapTile<float>& m), (m))
KDOPS_MULTIVERSION(squared_distance_tile, (const MapTile<double>& m), (m))
using PreciseMapTile = MapTile<float, double>;
KDOPS_MULTIVERSION(squared_distance_tile, (const PreciseMapTile& m), (m))
KDOPS_MULTIVERSION(inner_product_tile, (const MapTile<float>& m), (m))
KDOPS_MULTIVERSION(inner_product_tile, (const MapTile<double>& m), (m))

// ---- product -----------------------------------------------------------------------------------

template <class T>
struct ProductTile {
  const T* weight;  // w_ij at i * row_stride + j * column_stride
  int64_t row_stride, column_stride;
  int64_t n_rows, n_columns, d;
  const T* x;  // (n_columns, d)
  const T* centre;
  T* out;    // (n_rows, d)
  T* panel;  // scratch of n_columns vectors
};

template <int W, class T>
KDOPS_INLINE void product_rows(const ProductTile<T>& p, int64_t i, int64_t k, int64_t n) {
  constexpr int L = lanes<T, W>;
  const T* w[kProductRows];
  for (int64_t r = 0; r < kProductRows; ++r)
    w[r] = p.weight + std::min(i + r, p.n_rows - 1) * p.row_stride;
  vec<T, W> sum[kProductRows] = {};
  for (int64_t j = 0; j < p.n_columns; ++j) {
    const vec<T, W> x = load<T, W>(p.panel + j * L);
#pragma GCC unroll 6
    for (int r = 0; r < kProductRows; ++r) sum[r] += w[r][j * p.column_stride] * x;
  }
  for (int64_t r = 0; r < kProductRows && i + r < p.n_rows; ++r) {
    T* out = p.out + (i + r) * p.d + k;
    if (n == L)
      store(out, load<T, W>(out) + sum[r]);
    else
      store_n(out, load_n<T, W>(out, n, T(0)) + sum[r], n);
  }
}

template <int W, class T>
KDOPS_INLINE void product_tile_impl(const ProductTile<T>& p) {
  constexpr int L = lanes<T, W>;
  for (int64_t k = 0; k < p.d; k += L) {
    const int64_t n = std::min<int64_t>(L, p.d - k);
    const vec<T, W> centre =
        n == L ? load<T, W>(p.centre + k) : load_n<T, W>(p.centre + k, n, T(0));
    for (int64_t j = 0; j < p.n_columns; ++j) {
      const T* x = p.x + j * p.d + k;
      store(p.panel + j * L, (n == L ? load<T, W>(x) : load_n<T, W>(x, n, T(0))) - centre);
    }
    for (int64_t i = 0; i < p.n_rows; i += kProductRows) product_rows<W>(p, i, k, n);
  }
}
KDOPS_MULTIVERSION(product_tile, (const ProductTile<float>& p), (p))
KDOPS_MULTIVERSION(product_tile, (const ProductTile<double>& p), (p))

}  // namespace kdops
