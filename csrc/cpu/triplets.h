// All triplets of a batch from its map: the angle loss and what its gradient needs.
//
// Half of the triplets are visited, b < c at a vertex a, tile by tile of (b, c), so that the map
// and Z stay in the cache while all vertices of a group pass. A group has its own Z; groups are
// fixed, not one a thread, and their Z are summed in order: the result does not depend on threads.
#pragma once

#include <algorithm>
#include <limits>

#include "cpu/simd.h"
#include "formulas/angle.h"
#include "formulas/huber.h"

namespace kdops {

constexpr int64_t kTripletRows = 4, kTripletTile = 64;
constexpr float kUneven = 64;  // of squared lengths

// One side's map and lengths' bound.
template <class T>
struct AngleSide {
  const T* map;  // (n, stride) squared distances, 0 in the padding
  T eps;
};

template <class T>
struct TripletTile {
  AngleSide<T> self, other;
  int64_t n, stride;
  int64_t a_begin, a_end;  // the vertices of a group
  int64_t b, c;            // the first row and column of the tile, b <= c
  T *sum_a, *sum_b;        // A and B, (n, stride); none: the value alone
  T* z;                    // the group's, (n, stride)
};

// A vertex's distances to kTripletTile rows from `first` on.
template <class T>
struct Spokes {
  T s[kTripletTile], p[kTripletTile], d[kTripletTile];
};

template <int W, class T>
KDOPS_INLINE void load_spokes(const AngleSide<T>& side, const T* row, int64_t count,
                              Spokes<T>& out) {
  for (int64_t i = 0; i < count; i += lanes<T, W>) {
    const vec<T, W> s = load<T, W>(row + i), p = inverse_length<T>(s, side.eps);
    store(out.s + i, s), store(out.p + i, p), store(out.d + i, s * p);
  }
}

template <class T>
struct VertexSpokes {
  Spokes<T> b_self, b_other, c_self, c_other;
};

template <int W, class T>
KDOPS_INLINE void load_vertex(const TripletTile<T>& t, int64_t a, VertexSpokes<T>& v) {
  const int64_t b_count = std::min(kTripletTile, t.stride - t.b);
  const int64_t c_count = std::min(kTripletTile, t.stride - t.c);
  const T *self = t.self.map + a * t.stride, *other = t.other.map + a * t.stride;
  load_spokes<W>(t.self, self + t.b, b_count, v.b_self);
  load_spokes<W>(t.other, other + t.b, b_count, v.b_other);
  load_spokes<W>(t.self, self + t.c, c_count, v.c_self);
  load_spokes<W>(t.other, other + t.c, c_count, v.c_other);
}

template <int W, bool kGradient, class T>
KDOPS_INLINE double triplet_vertex(const TripletTile<T>& t, int64_t a) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  const int64_t b_count = std::min(kTripletTile, t.n - t.b);
  const int64_t c_count = std::min(kTripletTile, t.stride - t.c);
  VertexSpokes<T> v;
  load_vertex<W>(t, a, v);
  T *sum_a = t.sum_a + a * t.stride, *sum_b = t.sum_b + a * t.stride;
  integers_t<V> lane;
  for (int l = 0; l < L; ++l) lane[l] = l;

  double total = 0;
  for (int64_t b0 = 0; b0 < b_count; b0 += kTripletRows) {
    const int64_t rows = std::min(kTripletRows, b_count - b0);
    V value = {}, row_a[kTripletRows] = {}, row_b[kTripletRows] = {};
    const int64_t first = t.b == t.c ? b0 / L * L : 0;
    for (int64_t c0 = first; c0 < c_count; c0 += L) {
      const V p = load<T, W>(v.c_self.p + c0), d = load<T, W>(v.c_self.d + c0);
      const V p_other = load<T, W>(v.c_other.p + c0), d_other = load<T, W>(v.c_other.d + c0);
      V column_a = {}, column_b = {};
#pragma GCC unroll 4
      for (int64_t r = 0; r < kTripletRows; ++r) {
        const int64_t b = std::min(b0 + r, b_count - 1), at = (t.b + b) * t.stride + t.c + c0;
        const T half = v.b_self.p[b] * T(0.5), half_other = v.b_other.p[b] * T(0.5);
        const V s_ab = V{} + v.b_self.s[b], s_ab_other = V{} + v.b_other.s[b];
        const V cos = rounded(half * cosine_part(s_ab, load<T, W>(t.self.map + at), p, d));
        const V part = cosine_part(s_ab_other, load<T, W>(t.other.map + at), p_other, d_other);
        const V u = cos - rounded(half_other * part);
        V h = huber_slope<T>(u);
        const bool partial = t.b == t.c && c0 < b + 1;  // some c <= b, or a repeated last row
        if (r >= rows) h = V{};
        if (partial) h = select(lane + element_t<decltype(lane)>(c0 - b) > 0, h, V{});
        value += huber_value<T>(u, h);
        if constexpr (kGradient) {
          const V hp = h * p;
          row_a[r] += hp, row_b[r] += h * cos;
          column_a += h * v.b_self.p[b], column_b += h * cos;
          if (r < rows) store(t.z + at, load<T, W>(t.z + at) + hp * v.b_self.p[b]);
        }
      }
      if constexpr (kGradient) {
        T *column = sum_a + t.c + c0, *column_other = sum_b + t.c + c0;
        store(column, load<T, W>(column) + column_a);
        store(column_other, load<T, W>(column_other) + column_b);
      }
    }
    total += sum(value);
    if constexpr (kGradient) {
      for (int64_t r = 0; r < rows; ++r) {
        sum_a[t.b + b0 + r] += sum(row_a[r]);
        sum_b[t.b + b0 + r] += sum(row_b[r]);
      }
    }
  }
  return total;
}

// The sum of the losses over the group's triplets of the tile; with a gradient, adds to A and B and
// writes the tile of Z.
template <int W, class T>
KDOPS_INLINE double triplet_tile_impl(const TripletTile<T>& t) {
  double total = 0;
  if (t.z == nullptr) {
    for (int64_t a = t.a_begin; a < t.a_end; ++a) total += triplet_vertex<W, false>(t, a);
    return total;
  }
  for (int64_t b = t.b; b < std::min(t.n, t.b + kTripletTile); ++b)
    std::fill_n(t.z + b * t.stride + t.c, std::min(kTripletTile, t.stride - t.c), T(0));
  for (int64_t a = t.a_begin; a < t.a_end; ++a) total += triplet_vertex<W, true>(t, a);
  return total;
}
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<float>& t), (t))
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<double>& t), (t))

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
