// All triplets of a batch from its maps: the angle loss and what its gradient needs.
//
// Half of the triplets are visited, b < c at a vertex a, tile by tile of (b, c), so that the maps
// and Z stay in the cache while all vertices of a group pass. A group has its own Z; groups are
// fixed, not one a thread, and their Z are summed in order: the result does not depend on threads.
#pragma once

#include <algorithm>

#include "cpu/simd.h"
#include "formulas/angle.h"
#include "formulas/huber.h"

namespace kdops {

constexpr int64_t kTripletRows = 3, kTileRows = 48, kTileColumns = 512;

// A side's squared distances and inverse lengths, as excess, (n, stride).
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
  T *sum_a, *sum_b;        // 2 A and 4 B, (n, stride)
  T* sum_z;                // the group's 2 Z, (n, stride); none: the value alone
};

template <class V>
struct Spoke {
  V e, q, p;  // of the pairs of a vertex with one b, or with a vector of c
};
template <int W, class T>
KDOPS_INLINE Spoke<vec<T, W>> spoke(const AngleSide<T>& side, int64_t at) {
  const vec<T, W> q = load<T, W>(side.inverses + at);
  return {load<T, W>(side.squares + at), q, q + kTypical<T>};
}
// Of one b; of none, where all cosines are 0, if `missing`.
template <int W, class T>
KDOPS_INLINE Spoke<vec<T, W>> one_spoke(const AngleSide<T>& side, int64_t at, bool missing) {
  const T q = missing ? -kTypical<T> : side.inverses[at];
  return {vec<T, W>{} + side.squares[at], vec<T, W>{} + q, vec<T, W>{} + (q + kTypical<T>)};
}

// The rows b0 .. b0 + kTripletRows of the tile at vertex a; returns four times their value.
// u and its slope are those of 2 cos: twice as large, clipped at 2.
template <int W, bool kGradient, bool kDiagonal, class T>
KDOPS_INLINE double triplet_rows(const TripletTile<T>& t, int64_t a, int64_t b0) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  const int64_t row = a * t.stride, end = std::min(t.stride, t.c + kTileColumns);
  const int64_t first = kDiagonal ? b0 / L * L : t.c;  // tiles begin at whole vectors
  const int64_t rows = std::min(kTripletRows, std::min(t.n, t.b + kTileRows) - b0);
  int64_t at[kTripletRows];
  Spoke<V> self[kTripletRows], other[kTripletRows];
#pragma GCC unroll 4
  for (int64_t r = 0; r < kTripletRows; ++r) {
    const int64_t b = b0 + std::min(r, rows - 1);
    at[r] = b * t.stride;
    self[r] = one_spoke<W>(t.self, row + b, r >= rows);
    other[r] = one_spoke<W>(t.other, row + b, r >= rows);
  }
  integers_t<V> lane;
  for (int l = 0; l < L; ++l) lane[l] = l;
  V value = {}, row_a[kTripletRows] = {}, row_b[kTripletRows] = {};
  for (int64_t c = first; c < end; c += L) {
    const Spoke<V> to_self = spoke<W>(t.self, row + c), to_other = spoke<W>(t.other, row + c);
    V column_a = {}, column_b = {};
#pragma GCC unroll 4
    for (int64_t r = 0; r < kTripletRows; ++r) {
      const V v = cosine_excess<T>(to_self.e, to_self.q, self[r].e, self[r].q, self[r].p,
                                   load<T, W>(t.self.squares + at[r] + c));
      const V v_other = cosine_excess<T>(to_other.e, to_other.q, other[r].e, other[r].q, other[r].p,
                                         load<T, W>(t.other.squares + at[r] + c));
      const V u = rounded(v) - rounded(v_other);
      V h = max(min(u, V{} + T(2)), V{} - T(2));
      if (kDiagonal && c < b0 + kTripletRows)
        h = select(lane > element_t<integers_t<V>>(b0 + r - c), h, V{});
      value += huber_value<T>(u, h);
      if constexpr (kGradient) {
        const V hp = h * to_self.p, h_cos = h * (v + kTypical<T>);
        row_a[r] += hp, row_b[r] += h_cos;
        column_a += h * self[r].p, column_b += h_cos;
        T* z = t.sum_z + at[r] + c;
        store(z, load<T, W>(z) + hp * self[r].p);
      }
    }
    if constexpr (kGradient) {
      T *to_a = t.sum_a + row + c, *to_b = t.sum_b + row + c;
      store(to_a, load<T, W>(to_a) + column_a), store(to_b, load<T, W>(to_b) + column_b);
    }
  }
  if constexpr (kGradient) {
    for (int64_t r = 0; r < rows; ++r) {
      t.sum_a[row + b0 + r] += sum(row_a[r]);
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

// Four times the sum of the losses over the group's triplets of the tile; with a gradient, adds to
// A and B and writes the tile of Z.
template <int W, class T>
KDOPS_INLINE double triplet_tile_impl(const TripletTile<T>& t) {
  const bool diagonal = t.b == t.c;
  if (t.sum_z == nullptr)
    return diagonal ? triplet_group<W, false, true>(t) : triplet_group<W, false, false>(t);
  const int64_t columns = std::min(kTileColumns, t.stride - t.c);
  for (int64_t b = t.b; b < std::min(t.n, t.b + kTileRows); ++b)
    std::fill_n(t.sum_z + b * t.stride + t.c, columns, T(0));
  return diagonal ? triplet_group<W, true, true>(t) : triplet_group<W, true, false>(t);
}
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<float>& t), (t))
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<double>& t), (t))

}  // namespace kdops
