// A loss between the maps of a batch: student layers against one teacher.
//
// Four launches: what scales the features; the pairs' statistics, which the normalisers are made
// of; the values, with the moments that the normalisers' gradients need; the gradients, with
// weights made on the way. The maps are kept between them (kept_maps.cuh), or made anew in each
// where they would take too much memory (streamed_maps.cuh). Where each row has a normaliser of its
// own, they are kept (row_maps.cuh).
//
// A type Loss describes one loss:
//   kKind, kScaling           its map and the features' scaling
//   kDiagonal                 whether a row's pair with itself counts
//   kLaplacian                gradient sum_j w_ij (x_i - x_j), or sum_j w_ij x_j
//   kNormalised               what has a normaliser; that of a map needs statistics and moments
//   measured(s, floor)        what its normaliser is made of
//   Formula<T>                a pair's value, weight and moment (formulas/relations.h)
//   formula<T>(self, other, moment, n)   the same, once the normalisers are known
//   term(formula, s, s_other)            of the maps' entries
//   floor, c                  lower bound of the squared length, of unit rows the square of what
//                             is added to theirs; the values' factor
#pragma once

#include <cmath>

#include "cuda/laplacian.cuh"
#include "formulas/relations.h"

namespace kdops {

enum class Normalised { kNone, kMap, kRows };

// What the pairs of one map amount to, and the scale of its features.
struct Side {
  double sum, largest, ties, scale;
};

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
  T* sums[kMaxBatches];  // as gradients: where they are added up, if S is too coarse for it

  SIMT_DEVICE int teacher() const { return batches.count - 1; }
  SIMT_DEVICE T* sums_of(int batch) const {
    if constexpr (std::is_same_v<S, T>) return gradients[batch];
    return sums[batch];
  }
};

namespace {

// What a block of the second pass leaves behind.
enum { kPartValue, kPartMoment, kPartMomentOther, kParts };
using Parts = Values<double, kParts>;

template <class S, class Loss>
SIMT_DEVICE Side side_of(const Relation<S, Loss>& r, int batch) {
  if constexpr (Loss::kNormalised == Normalised::kNone) return {};
  const Stats stats = total_stats(r.maps, batch);
  return {stats.v[kStatSum], stats.v[kStatLargest], max(1.0, stats.v[kStatTies]),
          double(batch_scale(r.measures, batch, r.maps.measure_blocks).scale)};
}

template <class S, class Loss, class T = acc_t<S>>
SIMT_DEVICE FeatureRows<S, T> relation_rows(const Relation<S, Loss>& r, int batch) {
  const T scale = batch_scale(r.measures, batch, r.maps.measure_blocks).scale;
  return rows_of<T>(r.batches, r.measures, batch, scale);
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

// A pair's value, and its moment as either map's.
template <class Loss, class Formula>
SIMT_DEVICE Parts pair_parts(const Loss& loss, const Formula (&formulas)[2], double s,
                             double s_other) {
  const PairTerm<double> term = loss.term(formulas[0], s, s_other);
  return {{term.value, term.moment, loss.term(formulas[1], s_other, s).moment}};
}
// Those of a student and the teacher, and of the teacher and the student; by the whole block.
template <class S, class Loss, class Formula>
SIMT_DEVICE void find_value_formulas(const Relation<S, Loss>& r, int student,
                                     Formula (&formulas)[2]) {
  const Side self = side_of(r, student), other = side_of(r, r.teacher());
  if (threadIdx.x == 0) {
    formulas[0] = r.loss.template formula<double>(self, other, 0.0, r.batches.n);
    formulas[1] = r.loss.template formula<double>(other, self, 0.0, r.batches.n);
  }
  __syncthreads();
}
template <class S, class Loss>
SIMT_DEVICE void store_parts(const Relation<S, Loss>& r, int student, Parts sums) {
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
  SIMT_DEVICE T weight(int p, T s, T s_other) const {
    return r.loss.term(formulas[p], s, s_other).weight;
  }
};

}  // namespace
}  // namespace kdops
