// All triplets of a batch from its maps, tile by tile of pairs (b, c): the angle loss and what its
// gradient needs.
//
// Lanes are vertices a, half of the triplets are visited, b < c. So Z_bc is a sum over lanes that
// belongs to the tile alone, and A_ab and B_ab, as rows of b, belong to the tile's two blocks.
#pragma once

#include <algorithm>

#include "cpu/simd.h"
#include "cpu/tiles.h"
#include "formulas/angle.h"
#include "formulas/huber.h"

namespace kdops {

constexpr int64_t kTripletRows = 3, kTripletBlock = 16;

// The maps here have whole blocks of rows and columns and lie block by block, so that a tile reads
// a few streams: where (i, j) is.
KDOPS_INLINE int64_t blocked(int64_t vertices, int64_t i, int64_t j) {
  constexpr int64_t k = kTripletBlock;
  return (i / k * vertices + j / k * k + i % k) * k + j % k;
}

// A side's squared distances, lengths and inverse lengths, as excess: symmetric blocked maps.
template <class T>
struct AngleSide {
  const T *squares, *lengths, *inverses;
};

template <class T>
struct TripletTile {
  AngleSide<T> self, other;
  int64_t vertices;                        // in whole blocks
  int64_t b_begin, b_end, c_begin, c_end;  // the same block twice, or two blocks
  T bound;                                 // the inverse length from which lengths are bounded
  T* vertex;                               // 2 (A - p B), a row for every b, blocked
  T* weight;                               // loses Z at b < c, (n, vertices); none: the value alone
};

// The pairs of one b with a vector of vertices.
template <class V>
struct Arm {
  V e, p, q;
};
template <int W, class T>
KDOPS_INLINE Arm<vec<T, W>> arm(const AngleSide<T>& side, int64_t at) {
  const vec<T, W> q = load<T, W>(side.inverses + at);
  return {load<T, W>(side.squares + at), q + kTypical<T>, q};
}

// The clipped u, |.| <= limit.
template <class V>
KDOPS_INLINE V clipped(V u, V limit) {
#ifdef KDOPS_V4_BUILTINS
  if constexpr (std::is_same_v<V, vec<float>>)
    return __builtin_ia32_rangeps512_mask(u, limit, 2, u, -1, 4);
  if constexpr (std::is_same_v<V, vec<double>>)
    return __builtin_ia32_rangepd512_mask(u, limit, 2, u, -1, 4);
#endif
  return max(min(u, limit), -limit);
}

// Adds 2 (A - p B) of one b, from 2 A and 4 B.
template <class T, class V>
KDOPS_INLINE void add_vertices(T* to, V a, V b, V p, T bound) {
  if constexpr (kTypical<T> == T(0)) b = select(p < V{} + bound, b, V{});
  store(to, load<T, sizeof(V)>(to) + (a - p * (b * T(0.5))));
}

// kRows b from b0 on, all c of [c_begin, c_end), the vertices of one vector from a on. u and h are
// those of 2 cos: twice as large, clipped at 2. Returns four times the value.
template <int kRows, int W, bool kGradient, class T>
KDOPS_INLINE vec<T, W> triplet_rows(const TripletTile<T>& t, int64_t a, int64_t b0, int64_t c_begin,
                                    int64_t c_end, vec<T, W> (*z)[kTripletBlock]) {
  using V = vec<T, W>;
  Arm<V> self[kRows], other[kRows];
  const T *opposite[kRows], *opposite_other[kRows];
  V* sum_z[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const int64_t at = blocked(t.vertices, b0 + r, a);
    self[r] = arm<W>(t.self, at), other[r] = arm<W>(t.other, at);
    const int64_t row = blocked(t.vertices, b0 + r, t.c_begin) - t.c_begin;
    opposite[r] = t.self.squares + row, opposite_other[r] = t.other.squares + row;
    sum_z[r] = z[b0 + r - t.b_begin] - t.c_begin;
  }
  V value = {}, row_a[kRows] = {}, row_b[kRows] = {};
  int64_t at = blocked(t.vertices, c_begin, a);
  for (int64_t c = c_begin; c < c_end; ++c, at += kTripletBlock) {
    const V l = load<T, W>(t.self.lengths + at), p = load<T, W>(t.self.inverses + at) + kTypical<T>;
    const V l_other = load<T, W>(t.other.lengths + at);
    const V p_other = load<T, W>(t.other.inverses + at) + kTypical<T>;
    V column_a = {}, column_b = {};
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const V v = cosine_of_arms<T>(self[r].e, self[r].p, self[r].q, l, p, opposite[r][c]);
      const V v_other = cosine_of_arms<T>(other[r].e, other[r].p, other[r].q, l_other, p_other,
                                          opposite_other[r][c]);
      const V u = rounded(v) - rounded(v_other);
      const V h = clipped(u, V{} + T(2));
      value += huber_value<T>(u, h);
      if constexpr (kGradient) {
        const V hp = h * p, h_cos = kTypical<T> == T(0) ? h * v : fma(h, v, h);
        row_a[r] += hp, row_b[r] += h_cos;
        column_a += h * self[r].p, column_b += h_cos;
        sum_z[r][c] += hp * self[r].p;
      }
    }
    if constexpr (kGradient) add_vertices(t.vertex + at, column_a, column_b, p, t.bound);
  }
  if constexpr (kGradient) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
      add_vertices(t.vertex + blocked(t.vertices, b0 + r, a), row_a[r], row_b[r], self[r].p,
                   t.bound);
  }
  return value;
}

// kRows b with all c beyond them, and with each other.
template <int kRows, int W, bool kGradient, class T>
KDOPS_INLINE vec<T, W> triplet_group(const TripletTile<T>& t, int64_t a, int64_t b0,
                                     vec<T, W> (*z)[kTripletBlock]) {
  vec<T, W> value = {};
  if (t.b_begin == t.c_begin)
    for (int64_t b = b0; b + 1 < b0 + kRows; ++b)
      value += triplet_rows<1, W, kGradient>(t, a, b, b + 1, b0 + kRows, z);
  const int64_t first = std::max(t.c_begin, t.b_begin == t.c_begin ? b0 + kRows : 0);
  return value + triplet_rows<kRows, W, kGradient>(t, a, b0, first, t.c_end, z);
}

// The sums of L vectors, a lane each.
template <int kDistance, class V>
KDOPS_INLINE V sums(V* v) {
#pragma GCC unroll 16
  for (int i = 0; i < kDistance; ++i) {
    exchange<kDistance>(v[i], v[i + kDistance]);
    v[i] += v[i + kDistance];
  }
  if constexpr (kDistance > 1) return sums<kDistance / 2>(v);
  return v[0];
}

// Takes Z out of the weights: 2 Z is the sum over the lanes of z.
template <int W, class T>
KDOPS_INLINE void subtract_opposites(const TripletTile<T>& t, vec<T, W> (*z)[kTripletBlock]) {
  constexpr int L = lanes<T, W>;
  for (int64_t b = t.b_begin; b < t.b_end; ++b) {
    T sum_z[kTripletBlock], *weight = t.weight + b * t.vertices + t.c_begin;
    for (int64_t c = 0; c < kTripletBlock; c += L)
      store(sum_z + c, sums<L / 2>(z[b - t.b_begin] + c));
    for (int64_t c = 0; c < t.c_end - t.c_begin; ++c) weight[c] -= sum_z[c] / 2;
  }
}

template <int W, bool kGradient, class T>
KDOPS_INLINE double triplet_tile_with(const TripletTile<T>& t) {
  constexpr int L = lanes<T, W>;
  vec<T, W> z[kTripletBlock][kTripletBlock];
  if (kGradient) std::memset(z, 0, sizeof(z));
  double total = 0;
  for (int64_t a = 0; a < t.vertices; a += L) {
    vec<T, W> value = {};
    int64_t b = t.b_begin;
    for (; b + kTripletRows <= t.b_end; b += kTripletRows)
      value += triplet_group<kTripletRows, W, kGradient>(t, a, b, z);
    for (; b < t.b_end; ++b) value += triplet_group<1, W, kGradient>(t, a, b, z);
    total += sum(value);
  }
  if (kGradient) subtract_opposites<W>(t, z);
  return total;
}

// Four times the sum of the losses over the tile's triplets; with a gradient, adds to its two
// blocks of rows of `vertex` and to its tile of `weight`.
template <int W, class T>
KDOPS_INLINE double triplet_tile_impl(const TripletTile<T>& t) {
  return t.weight == nullptr ? triplet_tile_with<W, false>(t) : triplet_tile_with<W, true>(t);
}
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<float>& t), (t))
KDOPS_MULTIVERSION(triplet_tile, (const TripletTile<double>& t), (t))

template <class T>
struct WeightTile {
  const T *inverses, *vertex;  // blocked
  T* weight;                   // (n, vertices)
  int64_t n, vertices;
};

// Adds p (A - p B) of both ends to the weights of the L by L tile at (i, j), i <= j, which has -Z
// where the column is beyond the row; and copies it to its mirror image.
template <int W, class T>
KDOPS_INLINE void weight_tile_at(const WeightTile<T>& t, int64_t i, int64_t j) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  V w[L], mirror[L];
  for (int l = 0; l < L; ++l) mirror[l] = load<T, W>(t.vertex + blocked(t.vertices, j + l, i));
  transpose<L / 2>(mirror);
  for (int l = 0; l < L; ++l) {
    const int64_t at = blocked(t.vertices, i + l, j);
    const V half_p = (load<T, W>(t.inverses + at) + kTypical<T>)*T(0.5);
    w[l] = half_p * (load<T, W>(t.vertex + at) + mirror[l]);
    if (i + l < t.n) w[l] += load<T, W>(t.weight + (i + l) * t.vertices + j);
    mirror[l] = w[l];
  }
  transpose<L / 2>(mirror);
  integers_t<V> lane;
  for (int l = 0; l < L; ++l) lane[l] = l;
  for (int l = 0; l < L; ++l) {
    if (i == j) mirror[l] = select(lane > element_t<integers_t<V>>(l), w[l], mirror[l]);
    if (i != j && i + l < t.n) store(t.weight + (i + l) * t.vertices + j, w[l]);
    if (j + l < t.n) store(t.weight + (j + l) * t.vertices + i, mirror[l]);
  }
}

// The rows [begin, end) of tiles, in blocks.
template <int W, class T>
KDOPS_INLINE void finish_weights_impl(const WeightTile<T>& t, int64_t begin, int64_t end) {
  constexpr int L = lanes<T, W>;
  for (int64_t i = begin * kTripletBlock; i < std::min(t.n, end * kTripletBlock); i += L)
    for (int64_t j = i; j < t.n; j += L) weight_tile_at<W>(t, i, j);
}
KDOPS_MULTIVERSION(finish_weights, (const WeightTile<float>& t, int64_t begin, int64_t end),
                   (t, begin, end))
KDOPS_MULTIVERSION(finish_weights, (const WeightTile<double>& t, int64_t begin, int64_t end),
                   (t, begin, end))

}  // namespace kdops
