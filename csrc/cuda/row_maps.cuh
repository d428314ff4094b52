// The value and the gradient of a relation of two maps whose rows have normalisers of their own;
// the maps are kept.
//
// A block walks a row three times while it lies in the cache: for its normalisers, its terms, its
// weights, which go where the teacher's row was. The gradient adds those of both orders of a pair.
//
// Such a Loss has of those of relation.cuh kKind, kScaling, kLaplacian, floor and c, and
//   kNormalised = Normalised::kRows
//   Formula<T>           a row's terms and weights (formulas/row_relations.h)
//   entry(s, own)        of a map's entry what the formula takes; own: a row's pair with itself
//   measure(scale)       the function of an entry that a normaliser sums, of scaled features
//   formula(measure, measure_other, sum, sum_other)   once the sums are known
#pragma once

#include "cuda/expm1.cuh"
#include "cuda/relation.cuh"
#include "formulas/row_relations.h"

namespace kdops {

namespace {

constexpr int kRowBlocks = 4;  // on a multiprocessor: for more, some compilers spill registers

// Row i of the student's and of the teacher's map, by one block.
template <class T, class Loss>
struct MapRow {
  const Loss& loss;
  const T* self;
  T* other;  // the weights on return
  int64_t i, n;

  SIMT_DEVICE T own_entry(int64_t j) const { return loss.entry(self[j], i == j); }
  SIMT_DEVICE T other_entry(int64_t j) const { return loss.entry(other[j], i == j); }

  // What the two normalisers are made of.
  template <class Measure>
  SIMT_DEVICE Values<double, 2> sums(const Measure& measure, const Measure& measure_other) const {
    Values<double, 2> sums{};
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      sums.v[0] += double(measure(own_entry(j)));
      sums.v[1] += double(measure_other(other_entry(j)));
    }
    return block_reduce(sums, Sum{});
  }
  // A thread's part of the value and of the moment; leaves the pulls behind, if they are wanted.
  template <class Formula>
  SIMT_DEVICE Values<T, 2> terms(const Formula& formula, bool wanted) const {
    Values<T, 2> part{};
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      const RowTerm<T> term = formula(own_entry(j), other_entry(j));
      part = Sum{}(part, Values<T, 2>{{term.value, term.moment}});
      if (wanted) other[j] = term.pull;
    }
    return part;
  }
  // The weights of the pulls that terms() left to the same thread.
  template <class Formula>
  SIMT_DEVICE void weigh(const Formula& formula, T moment) const {
    const T factor = static_cast<T>(loss.c);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
      other[j] = formula.weight(own_entry(j), other[j], moment) * factor;
  }
};

template <class S, class Loss>
SIMT_DEVICE auto row_measure(const Relation<S, Loss>& r, int batch) {
  return r.loss.measure(batch_scale(r.measures, batch, r.maps.measure_blocks).scale);
}

// A block takes row after row.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kRowBlocks)
row_values(Relation<S, Loss> r) {
  SIMT_SHARED(typename Loss::template Formula<T>, formula, [1]);
  const int64_t n = r.batches.n, stride = r.maps.stride;
  const auto measure = row_measure(r, 0), measure_other = row_measure(r, r.teacher());
  const bool wanted = r.gradients[0] != nullptr;
  double value = 0;
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const MapRow<T, Loss> row{r.loss, r.maps.of(0) + i * stride,
                              r.maps.of(r.teacher()) + i * stride, i, n};
    const Values<double, 2> sums = row.sums(measure, measure_other);
    if (threadIdx.x == 0) formula[0] = r.loss.formula(measure, measure_other, sums.v[0], sums.v[1]);
    __syncthreads();
    const Values<T, 2> part = row.terms(formula[0], wanted);
    value += double(part.v[0]);
    if (wanted) row.weigh(formula[0], static_cast<T>(block_sum(double(part.v[1]))));
    // The next row's sums are a barrier before its formula.
  }
  store_parts(r, 0, Parts{{value}});
}

// Grid: (tiles of columns, tiles of rows). The first block writes the value too.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
row_gradients(Relation<S, Loss> r) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  if (blockIdx.x == 0 && blockIdx.y == 0) write_value(r);
  const int64_t i0 = blockIdx.y * int64_t(kTile), k0 = blockIdx.x * int64_t(kTile);
  const int64_t stride = r.maps.stride;
  const T* const weights = r.maps.of(r.teacher());
  const auto weight = [&](int64_t i, int64_t j) {
    return weights[j * stride + i] + weights[i * stride + j];
  };
  gradient_tile<Loss::kLaplacian, Loss::kKind>(
      relation_rows(r, 0), r.maps.of(0), stride, i0, k0, memory, weight,
      all_finite(r.measures, r.batches.count, r.maps.measure_blocks), r.gradients[0]);
}

}  // namespace
}  // namespace kdops
