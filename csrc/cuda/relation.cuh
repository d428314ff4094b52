// A loss between the maps of a batch: student layers against one teacher.
//
// Four launches: what scales the features; the maps, with what their normalisers need; the values,
// with the moments that the normalisers' gradients need; the gradients, with weights made on the
// way from both maps, so that nothing but the maps is kept. Without a gradient the fourth only adds
// up.
//
// A type Loss describes one loss:
//   kKind, kScaling           its map and the features' scaling
//   kDiagonal                 whether a row's pair with itself counts
//   kLaplacian                gradient sum_j w_ij (x_i - x_j), or sum_j w_ij x_j
//   measured(s, floor)        what its normaliser is made of
//   Formula<T>                a pair's value, weight and moment (formulas/relations.h)
//   formula<T>(self, other, moment, n)   the same, once the normalisers are known
//   term(formula, s, s_other)            of the maps' entries
//   floor, c                  lower bound of the squared length; the values' factor
#pragma once

#include <cmath>

#include "cuda/laplacian.cuh"
#include "formulas/relations.h"

namespace kdops {

// What the pairs of one map amount to, and the scale of its features.
struct Side {
  double sum, largest, ties, scale;
};

constexpr int kValueBlocks = 256;

template <class S, class Loss>
struct Relation {
  using T = acc_t<S>;
  Batches<S> batches;
  S* gradients[kMaxBatches];  // of each batch, or null
  T* value;
  Loss loss;
  Measures<T> measures;
  Maps<T> maps;
  double* parts;  // (students, value_blocks, kParts)
  int value_blocks;

  SIMT_DEVICE int teacher() const { return batches.count - 1; }
};

namespace {

// What a block of the second pass leaves behind.
enum { kPartValue, kPartMoment, kPartMomentOther, kParts };
using Parts = Values<double, kParts>;

template <class S, class Loss>
SIMT_DEVICE Side side_of(const Relation<S, Loss>& r, int batch) {
  const Stats stats = total_stats(r.maps, batch);
  return {stats.v[kStatSum], stats.v[kStatLargest], max(1.0, stats.v[kStatTies]),
          double(batch_scale(r.measures, batch, r.maps.measure_blocks).scale)};
}

template <class S, class Loss>
SIMT_DEVICE Parts total_parts(const Relation<S, Loss>& r, int student) {
  Parts total{};
  for (int i = threadIdx.x; i < r.value_blocks; i += blockDim.x) {
    const double* part = r.parts + (int64_t(student) * r.value_blocks + i) * kParts;
    total = Sum{}(total, Parts{{part[0], part[1], part[2]}});
  }
  return block_reduce(total, Sum{});
}

// Grid: (blocks, students). A block takes row after row of the maps. In float64: moments cancel.
template <class S, class Loss>
SIMT_KERNEL_BOUNDS(kTileThreads)
relation_values(Relation<S, Loss> r) {
  using T = acc_t<S>;
  SIMT_SHARED(typename Loss::template Formula<double>, formulas, [2]);
  const int student = blockIdx.y, teacher = r.teacher();
  const int64_t n = r.batches.n, stride = r.maps.stride;
  const Side self = side_of(r, student), other = side_of(r, teacher);
  if (threadIdx.x == 0) {
    formulas[0] = r.loss.template formula<double>(self, other, 0.0, n);
    formulas[1] = r.loss.template formula<double>(other, self, 0.0, n);
  }
  __syncthreads();
  Parts sums{};
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const T *s = r.maps.of(student) + i * stride, *t = r.maps.of(teacher) + i * stride;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      if (i == j && !Loss::kDiagonal) continue;
      const double a = s[j], b = t[j];
      const PairTerm<double> term = r.loss.term(formulas[0], a, b);
      sums = Sum{}(sums, Parts{{term.value, term.moment, r.loss.term(formulas[1], b, a).moment}});
    }
  }
  sums = block_reduce(sums, Sum{});
  if (threadIdx.x != 0) return;
  for (int k = 0; k < kParts; ++k)
    r.parts[(int64_t(student) * r.value_blocks + blockIdx.x) * kParts + k] = sums.v[k];
}

// By one block.
template <class S, class Loss, class T = acc_t<S>>
SIMT_DEVICE void write_value(const Relation<S, Loss>& r) {
  double value = 0;
  for (int student = 0; student < r.teacher(); ++student)
    value += total_parts(r, student).v[kPartValue];
  const bool finite = all_finite(r.measures, r.batches.count, r.maps.measure_blocks);
  if (threadIdx.x == 0) *r.value = finite ? static_cast<T>(value * r.loss.c) : not_a_number<T>();
}
template <class S, class Loss>
SIMT_KERNEL_BOUNDS(kTileThreads)
relation_value(Relation<S, Loss> r) {
  write_value(r);
}

// The batches that one batch is compared with: each student with the teacher, the teacher with all.
template <class S, class Loss>
struct Partners {
  using T = acc_t<S>;
  using Formula = typename Loss::template Formula<T>;
  const Relation<S, Loss>& r;
  int self;
  Formula* formulas;  // shared

  SIMT_DEVICE int first() const { return self == r.teacher() ? 0 : r.teacher(); }
  SIMT_DEVICE int count() const { return self == r.teacher() ? r.teacher() : 1; }

  SIMT_DEVICE void find_formulas() const {
    const Side own = side_of(r, self);
    for (int p = 0; p < count(); ++p) {
      const Side other = side_of(r, first() + p);
      const bool swapped = self == r.teacher();
      const Parts parts = total_parts(r, swapped ? p : self);
      const double moment = swapped ? parts.v[kPartMomentOther] : parts.v[kPartMoment];
      if (threadIdx.x == 0)
        formulas[p] = r.loss.template formula<T>(own, other, moment, r.batches.n);
    }
  }
  SIMT_DEVICE T weight(int64_t i, int64_t j) const {
    const int64_t at =
        j * r.maps.stride + i;  // symmetric, and neighbouring lanes have neighbouring i
    const T s = r.maps.of(self)[at];
    T weight = 0;
    for (int p = 0; p < count(); ++p)
      weight += r.loss.term(formulas[p], s, r.maps.of(first() + p)[at]).weight;
    return weight;
  }
};

// Grid: (tiles of columns, tiles of rows, batches). The first block writes the value too.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads)
relation_gradients(Relation<S, Loss> r) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  SIMT_SHARED(typename Loss::template Formula<T>, formulas, [kMaxBatches]);
  const int self = blockIdx.z;
  if (blockIdx.x == 0 && blockIdx.y == 0 && self == 0) write_value(r);
  const int64_t i0 = blockIdx.y * int64_t(kTile), k0 = blockIdx.x * int64_t(kTile);
  if (r.gradients[self] == nullptr || k0 >= r.batches.d[self]) return;

  const Partners<S, Loss> partners{r, self, formulas};
  partners.find_formulas();
  const T scale = batch_scale(r.measures, self, r.maps.measure_blocks).scale;
  const FeatureRows<S, T> x = rows_of<T>(r.batches, r.measures, self, scale);
  const auto weight = [&](int64_t i, int64_t j) { return partners.weight(i, j); };
  gradient_tile<Loss::kLaplacian>(x, r.maps.of(self), r.maps.stride, i0, k0, memory, weight,
                                  all_finite(r.measures, r.batches.count, r.maps.measure_blocks),
                                  r.gradients[self]);
}

}  // namespace

// What a launch needs besides its inputs and outputs; memory may be null to learn the size.
template <class S, class Loss>
size_t place_relation(Relation<S, Loss>& r, void* memory) {
  Workspace workspace(memory);
  r.measures = take_measures(workspace, r.batches, Loss::kScaling, std::sqrt(r.loss.floor));
  r.maps = take_maps<acc_t<S>>(workspace, r.batches, r.loss.floor);
  r.value_blocks = static_cast<int>(std::min<int64_t>(kValueBlocks, r.batches.n));
  r.parts = workspace.take<double>(int64_t(r.batches.count - 1) * r.value_blocks * kParts);
  return workspace.size();
}

template <class S, class Loss>
void launch_relation(const Relation<S, Loss>& r, cudaStream_t stream) {
  const int count = r.batches.count;
  int64_t widest = 0;
  for (int b = 0; b < count; ++b)
    if (r.gradients[b] != nullptr) widest = std::max(widest, r.batches.d[b]);
  const int64_t n = r.batches.n;
  const dim3 threads(kTileThreads);
  launch_measure(r.batches, r.measures, stream);
  if (n > 0) {
    launch_maps<Loss::kKind>(r.batches, r.measures, r.maps, r.loss, stream);
    simt::launch(relation_values<S, Loss>, dim3(r.value_blocks, count - 1), threads, 0, stream, r);
  }
  if (n == 0 || widest == 0)
    return simt::launch(relation_value<S, Loss>, dim3(1), threads, 0, stream, r);
  simt::launch(relation_gradients<S, Loss>, dim3(tiles(widest), tiles(n), count), threads, 0,
               stream, r);
}

}  // namespace kdops
