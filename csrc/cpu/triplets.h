// All triplets of a batch from its maps: the angle loss and what its gradient needs.
//
// Half of the triplets are visited, b < c at a vertex a, tile by tile of (b, c), so that the maps
// and Z stay in the cache while all vertices of a group pass. A group has its own Z; groups are
// fixed, not one a thread, and their Z are summed in order: the result does not depend on threads.
#pragma once

#include <algorithm>
#include <limits>

#include "cpu/simd.h"
#include "formulas/angle.h"
#include "formulas/huber.h"

namespace kdops {

constexpr int64_t kTripletRows = 3, kTileRows = 48, kTileColumns = 512;
constexpr float kUneven = 64;  // of squared lengths

// A side's squared distances and inverse lengths, (n, stride), 0 in the padding.
template <class T>
struct AngleSide {
  const T *squares, *inverses;
};

template <class T>
struct TripletTile {
  AngleSide<T> self, other;
  int64_t n, stride;
  int64_t a_begin, a_end;  // the vertices of a group
  int64_t b, c;            // the first row and column of the tile, b <= c
  T *sum_a, *sum_b;        // A and B, (n, stride)
  T* half_z;               // the group's Z / 2, (n, stride); none: the value alone
};

template <class V>
struct HalfSpoke {
  V p, d;  // of a vector of c: half the inverse length, half the length
};
template <int W, class T>
KDOPS_INLINE HalfSpoke<vec<T, W>> half_spoke(const AngleSide<T>& side, int64_t at) {
  const vec<T, W> p = load<T, W>(side.inverses + at) * T(0.5);
  return {p, load<T, W>(side.squares + at) * p};
}

// The rows b0 .. b0 + kTripletRows of the tile at vertex a; returns their value.
template <int W, bool kGradient, bool kDiagonal, class T>
KDOPS_INLINE double triplet_rows(const TripletTile<T>& t, int64_t a, int64_t b0) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  const int64_t row = a * t.stride, end = std::min(t.stride, t.c + kTileColumns);
  const int64_t first = kDiagonal ? b0 / L * L : t.c;  // tiles begin at whole vectors
  const int64_t rows = std::min(kTripletRows, std::min(t.n, t.b + kTileRows) - b0);
  int64_t at[kTripletRows];
  V s[kTripletRows], p[kTripletRows], s_other[kTripletRows], p_other[kTripletRows];
#pragma GCC unroll 4
  for (int64_t r = 0; r < kTripletRows;
       ++r) {  // a row too many has length 0: all its cosines are 0
    const int64_t b = b0 + std::min(r, rows - 1);
    at[r] = b * t.stride;
    s[r] = V{} + t.self.squares[row + b], s_other[r] = V{} + t.other.squares[row + b];
    p[r] = V{} + (r < rows ? t.self.inverses[row + b] : T(0));
    p_other[r] = V{} + (r < rows ? t.other.inverses[row + b] : T(0));
  }
  integers_t<V> lane;
  for (int l = 0; l < L; ++l) lane[l] = l;
  V value = {}, row_a[kTripletRows] = {}, row_b[kTripletRows] = {};
  for (int64_t c = first; c < end; c += L) {
    const HalfSpoke<V> spoke = half_spoke<W>(t.self, row + c),
                       other = half_spoke<W>(t.other, row + c);
    V column_a = {}, column_b = {};
#pragma GCC unroll 4
    for (int64_t r = 0; r < kTripletRows; ++r) {
      const V square = load<T, W>(t.self.squares + at[r] + c);
      const V cos = rounded(p[r] * cosine_part(s[r], square, spoke.p, spoke.d));
      const V square_other = load<T, W>(t.other.squares + at[r] + c);
      const V u =
          cos - rounded(p_other[r] * cosine_part(s_other[r], square_other, other.p, other.d));
      V h = huber_slope<T>(u);
      if (kDiagonal && c < b0 + kTripletRows)
        h = select(lane > element_t<integers_t<V>>(b0 + r - c), h, V{});
      value += huber_value<T>(u, h);
      if constexpr (kGradient) {
        const V hp = h * spoke.p;
        row_a[r] += hp, row_b[r] += h * cos;
        column_a += h * p[r], column_b += h * cos;
        T* z = t.half_z + at[r] + c;
        store(z, load<T, W>(z) + hp * p[r]);
      }
    }
    if constexpr (kGradient) {
      T *to_a = t.sum_a + row + c, *to_b = t.sum_b + row + c;
      store(to_a, load<T, W>(to_a) + column_a), store(to_b, load<T, W>(to_b) + column_b);
    }
  }
  if constexpr (kGradient) {
    for (int64_t r = 0; r < rows; ++r) {
      t.sum_a[row + b0 + r] += 2 * sum(row_a[r]);
      t.sum_b[row + b0 + r] += sum(row_b[r]);
    }
  }
  return sum(value);
}

template <int W, bool kGradient, bool kDiagonal, class T>
KDOPS_INLINE double triplet_group(const TripletTile<T>& t) {
  const int64_t end = std::min(t.n, t.b + kTileRows);
  double total = 0;
  for (int64_t a = t.a_begin; a < t.a_end; ++a)
    for (int64_t b = t.b; b < end; b += kTripletRows)
      total += triplet_rows<W, kGradient, kDiagonal>(t, a, b);
  return total;
}

// The sum of the losses over the group's triplets of the tile; with a gradient, adds to A and B and
// writes the tile of Z.
template <int W, class T>
KDOPS_INLINE double triplet_tile_impl(const TripletTile<T>& t) {
  const bool diagonal = t.b == t.c;
  if (t.half_z == nullptr)
    return diagonal ? triplet_group<W, false, true>(t) : triplet_group<W, false, false>(t);
  const int64_t columns = std::min(kTileColumns, t.stride - t.c);
  for (int64_t b = t.b; b < std::min(t.n, t.b + kTileRows); ++b)
    std::fill_n(t.half_z + b * t.stride + t.c, columns, T(0));
  return diagonal ? triplet_group<W, true, true>(t) : triplet_group<W, true, false>(t);
}
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<float>& t), (t))
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<double>& t), (t))

// One map's inverse lengths.
template <int W, class T>
KDOPS_INLINE void inverse_lengths_impl(const T* squares, int64_t n, T eps, T* inverses) {
  for (int64_t i = 0; i < n; i += lanes<T, W>)
    store(inverses + i, inverse_length<T>(load<T, W>(squares + i), eps));
}
KDOPS_MULTIVERSION(inverse_lengths, (const float* s, int64_t n, float eps, float* p),
                   (s, n, eps, p))
KDOPS_MULTIVERSION(inverse_lengths, (const double* s, int64_t n, double eps, double* p),
                   (s, n, eps, p))

// Whether a row has two lengths, not 0, so unequal that float32 would lose the angle between them.
template <int W, class T>
KDOPS_INLINE bool uneven_row_impl(const T* s, int64_t stride) {
  using V = vec<T, W>;
  V longest = {}, shortest = V{} + std::numeric_limits<T>::max();
  for (int64_t j = 0; j < stride; j += lanes<T, W>) {
    const V v = load<T, W>(s + j);
    longest = max(longest, v);
    shortest = min(shortest, select(v > V{}, v, shortest));
  }
  return -max(-shortest) < max(longest) / kUneven;
}
KDOPS_MULTIVERSION(uneven_row, (const float* s, int64_t stride), (s, stride))

}  // namespace kdops
