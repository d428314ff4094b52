// All triplets of a batch from its maps: the angle loss, and the weights of the pairs behind its
// gradient (formulas/angle.h).
//
// A thread owns a pair (i, j) and walks the third point r: the angles at i, at j and at r. A block
// owns 8 x 8 pairs, and its four groups of 64 threads take a quarter of the third points each;
// their sums are added in order. Nothing is stored but the weights.
//
// Maps are float64. Where distances are alike the triplets are in float32, as excess; where the
// ratio of two squared distances is beyond kUneven, that would lose digits, and they are in
// float64.
#pragma once

#include "cuda/laplacian.cuh"
#include "formulas/angle.h"
#include "formulas/huber.h"

namespace kdops {

constexpr int kPairs = 8, kTripletGroups = 4, kThird = 32;
constexpr int kTripletThreads = kPairs * kPairs * kTripletGroups;
constexpr double kUneven = 64;

template <class S>
struct Triplets {
  using T = acc_t<S>;
  Batches<S> batches;
  S* gradients[kMaxBatches];  // of each batch, or null
  T* value;
  double eps, c;
  Measures<T> measures;
  Maps<double> maps;
  T* weights;     // (count, n, stride), of the batches with a gradient
  double* parts;  // (students, tiles)

  SIMT_DEVICE int teacher() const { return batches.count - 1; }
  SIMT_DEVICE T* weights_of(int batch) const { return weights + batch * maps.n * maps.stride; }
};

// One batch's map over its mean squared distance.
struct AngleMap {
  const double* map;
  int64_t n, stride;
  double inverse_unit, eps;  // eps over the unit's root
  bool uneven;

  SIMT_DEVICE double square(int64_t i, int64_t j) const {
    return map[i * stride + j] * inverse_unit;
  }
};

namespace {

constexpr int kThirdStride = kThird + 1;

template <class S>
SIMT_DEVICE AngleMap angle_map(const Triplets<S>& t, int batch) {
  const Stats stats = total_stats(t.maps, batch);
  const double scale = batch_scale(t.measures, batch, t.maps.measure_blocks).scale;
  const double n = static_cast<double>(t.maps.n), sum = stats.v[kStatSum];
  const double inverse = sum > 0 ? n * (n - 1) / sum : 1;
  const double bound = t.eps * scale, inverse_least = stats.v[kStatInverse];
  const bool uneven =
      stats.v[kStatLargest] * inverse_least > kUneven || bound * bound * inverse_least > 1;
  return {t.maps.of(batch), t.maps.n, t.maps.stride, inverse, bound * sqrt(inverse), uneven};
}

// By the whole block; barriers before and after.
template <class S>
SIMT_DEVICE void set_side(const Triplets<S>& t, int batch, AngleMap* side) {
  const AngleMap map = angle_map(t, batch);
  __syncthreads();
  if (threadIdx.x == 0) *side = map;
  __syncthreads();
}

// A pair's squared distance and inverse length, as excess over 1 in float32.
template <class T>
struct Spoke {
  T e, q;
  SIMT_DEVICE T inverse() const { return q + kTypical<T>; }
};
SIMT_DEVICE Spoke<double> spoke(const AngleMap& m, int64_t i, int64_t j, double) {
  const double s = m.square(i, j);
  return {s, s > 0 ? 1 / max(sqrt(s), m.eps) : 0.0};
}
SIMT_DEVICE Spoke<float> spoke(const AngleMap& m, int64_t i, int64_t j, float) {
  const float e = static_cast<float>(m.square(i, j) - 1.0), s = e + 1.0f;
  return {e, s > 0 ? -e / (s + sqrt(s)) : -1.0f};  // 1 / sqrt(1 + e) - 1
}

// The rows i and j of a tile and the third points of a step, of one map, in shared memory.
template <class T>
struct Third {
  T *e, *q;  // (2 kPairs, kThirdStride)

  SIMT_DEVICE Spoke<T> operator()(int row, int r) const {
    return {e[row * kThirdStride + r], q[row * kThirdStride + r]};
  }
  SIMT_DEVICE void fill(const AngleMap& m, int64_t i0, int64_t j0, int64_t r0) const {
    for (int at = threadIdx.x; at < 2 * kPairs * kThird; at += kTripletThreads) {
      const int row = at / kThird, r = at % kThird;
      const int64_t point = row < kPairs ? i0 + row : j0 + row - kPairs;
      Spoke<T> s{T(0), -kTypical<T>};
      if (point < m.n && r0 + r < m.n) s = spoke(m, point, r0 + r, T(0));
      e[row * kThirdStride + r] = s.e;
      q[row * kThirdStride + r] = s.q;
    }
  }
};

// 2 A and 4 B of both orders of the pair, 2 Z, and four times the loss of the angles at r.
enum { kA, kB, kAOther, kBOther, kZ, kLoss, kPairSums };
template <class T>
using PairSums = Values<T, kPairSums>;

// An angle's 2 cos, less kTypical, and four times its loss' slope against the other map's.
template <class T>
struct Angle {
  T v, u, h;
};
template <class T>
SIMT_DEVICE Angle<T> angle(const Spoke<T>& ab, const Spoke<T>& ac, T e_bc, const Spoke<T>& ab_other,
                           const Spoke<T>& ac_other, T e_bc_other) {
  const T v = cosine_excess<T>(ab.e, ab.q, ac.e, ac.q, ac.inverse(), e_bc);
  const T v_other = cosine_excess<T>(ab_other.e, ab_other.q, ac_other.e, ac_other.q,
                                     ac_other.inverse(), e_bc_other);
  const T u = rounded(v) - rounded(v_other);
  return {v, u, max(min(u, T(2)), T(-2))};
}

// Adds the triangle (i, j, r).
template <class T>
SIMT_DEVICE void add_triangle(const Spoke<T>& ij, const Spoke<T>& ir, const Spoke<T>& jr,
                              const Spoke<T>& ij_other, const Spoke<T>& ir_other,
                              const Spoke<T>& jr_other, PairSums<T>& sums) {
  const Angle<T> at_i = angle(ij, ir, jr.e, ij_other, ir_other, jr_other.e);
  const Angle<T> at_j = angle(ij, jr, ir.e, ij_other, jr_other, ir_other.e);
  const Angle<T> at_r = angle(ir, jr, ij.e, ir_other, jr_other, ij_other.e);
  sums.v[kA] += at_i.h * ir.inverse();
  sums.v[kB] += at_i.h * (at_i.v + kTypical<T>);
  sums.v[kAOther] += at_j.h * jr.inverse();
  sums.v[kBOther] += at_j.h * (at_j.v + kTypical<T>);
  sums.v[kZ] += at_r.h * ir.inverse() * jr.inverse();
  sums.v[kLoss] += huber_value<T>(at_r.u, at_r.h);
}

// A thread's pair, and its group's third points.
struct Walk {
  int64_t i0, j0;
  int row, column, group;
  SIMT_DEVICE int64_t i() const { return i0 + row; }
  SIMT_DEVICE int64_t j() const { return j0 + column; }
};
SIMT_DEVICE Walk walk_of(HalfTile tile) {
  const int pair = threadIdx.x % (kPairs * kPairs);
  return {tile.a * kPairs, tile.b * kPairs, pair / kPairs, pair % kPairs,
          static_cast<int>(threadIdx.x) / (kPairs * kPairs)};
}

// The sums of the thread's pair over the group's third points; `memory` holds 8 kPairs
// kThirdStride.
template <class T>
SIMT_DEVICE PairSums<T> walk(const Walk& w, const AngleMap& self, const AngleMap& other,
                             T* memory) {
  constexpr int size = 2 * kPairs * kThirdStride, share = kThird / kTripletGroups;
  const Third<T> near{memory, memory + size}, far{memory + 2 * size, memory + 3 * size};
  const bool pair = w.i() < self.n && w.j() < self.n;
  const Spoke<T> none{T(0), -kTypical<T>};
  const Spoke<T> ij = pair ? spoke(self, w.i(), w.j(), T(0)) : none;
  const Spoke<T> ij_other = pair ? spoke(other, w.i(), w.j(), T(0)) : none;
  PairSums<T> total{};
  for (int64_t r0 = 0; r0 < self.n; r0 += kThird) {
    __syncthreads();
    near.fill(self, w.i0, w.j0, r0);
    far.fill(other, w.i0, w.j0, r0);
    __syncthreads();
    PairSums<T> sums{};                 // of few: the total rounds less often
#pragma unroll(sizeof(T) == 8 ? 1 : 4)  // more doubles than that spill
    for (int k = 0; k < share; ++k) {
      const int r = w.group * share + k;
      const int64_t third = r0 + r;
      if (third >= self.n || third == w.i() || third == w.j()) continue;
      add_triangle(ij, near(w.row, r), near(kPairs + w.column, r), ij_other, far(w.row, r),
                   far(kPairs + w.column, r), sums);
    }
    total = Sum{}(total, sums);
  }
  return total;
}

// The groups' sums of each pair, by the threads of the first group; begins with a barrier.
template <class T>
SIMT_DEVICE PairSums<T> gather_groups(const PairSums<T>& sums, T* memory) {
  PairSums<T> total{};
  __syncthreads();
  for (int k = 0; k < kPairSums; ++k) memory[k * kTripletThreads + threadIdx.x] = sums.v[k];
  __syncthreads();
  for (int group = 0; group < kTripletGroups; ++group)
    for (int k = 0; k < kPairSums; ++k)
      total.v[k] +=
          memory[k * kTripletThreads + group * kPairs * kPairs + threadIdx.x % (kPairs * kPairs)];
  return total;
}
constexpr int kTripletMemory = std::max(8 * kPairs * kThirdStride, kPairSums* kTripletThreads);

// What a pair adds to the loss (four times, in both orders) and its weight.
struct PairResult {
  double loss, weight;
};
template <class T>
SIMT_DEVICE PairResult pair_result(const Walk& w, const AngleMap& self, const AngleMap& other,
                                   const PairSums<T>& sums) {
  const Spoke<T> ij = spoke(self, w.i(), w.j(), T(0)), ij_other = spoke(other, w.i(), w.j(), T(0));
  const T p = ij.inverse(), eps = static_cast<T>(self.eps);
  // The pair with itself, seen from either end: not 1 - 1 where one side has no, or a bounded,
  // length.
  const T u = self_cosine<T>(ij.e + kTypical<T>, p, eps) -
              self_cosine<T>(ij_other.e + kTypical<T>, ij_other.inverse(), T(other.eps));
  const T slope = huber_slope<T>(u);
  const T bounded = p * eps < T(1) ? T(0) : p * p * slope;
  const T weight = vertex_weight<T>(sums.v[kA] / 2, sums.v[kB] / 4, p, eps) +
                   vertex_weight<T>(sums.v[kAOther] / 2, sums.v[kBOther] / 4, p, eps) +
                   2 * bounded - sums.v[kZ] / 2;
  return {double(sums.v[kLoss]) + 4 * double(huber_value<T>(u, slope)), double(weight)};
}

template <class T>
SIMT_DEVICE PairResult compare(const Walk& w, const AngleMap& self, const AngleMap& other,
                               T* memory) {
  const PairSums<T> sums = gather_groups(walk(w, self, other, memory), memory);
  const bool pair = w.group == 0 && w.i() < w.j() && w.j() < self.n;
  return pair ? pair_result(w, self, other, sums) : PairResult{0, 0};
}

// Grid: (half of the tiles, batches): each student against the teacher, the teacher against all.
template <class S, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTripletThreads, kTileBlocks<T>)
compare_triplets(Triplets<S> t) {
  SIMT_SHARED(double, exact_memory, [kTripletMemory]);
  SIMT_SHARED(T, memory, [kTripletMemory]);
  SIMT_SHARED(AngleMap, sides, [2]);  // not in registers, which are scarce here
  const AngleMap &self = sides[0], &other = sides[1];
  const int batch = blockIdx.y, teacher = t.teacher();
  if (batch == teacher && t.gradients[teacher] == nullptr) return;
  const Walk w = walk_of(half_tile(blockIdx.x));
  set_side(t, batch, sides);
  const int first = batch == teacher ? 0 : teacher, end = batch == teacher ? teacher : teacher + 1;
  PairResult result{0, 0};
  for (int b = first; b < end; ++b) {
    set_side(t, b, sides + 1);
    const PairResult part = self.uneven || other.uneven ? compare(w, self, other, exact_memory)
                                                        : compare(w, self, other, memory);
    result.loss += part.loss, result.weight += part.weight;
  }
  const double loss = block_sum(result.loss);
  if (threadIdx.x == 0 && batch != teacher)
    t.parts[int64_t(batch) * gridDim.x + blockIdx.x] = loss / 2;
  if (t.gradients[batch] == nullptr || w.group != 0 || w.i() > w.j() || w.j() >= self.n) return;
  const T weight = static_cast<T>(result.weight * (2 * t.c * self.inverse_unit));
  t.weights_of(batch)[w.i() * self.stride + w.j()] = weight;
  t.weights_of(batch)[w.j() * self.stride + w.i()] = weight;
}

}  // namespace
}  // namespace kdops
