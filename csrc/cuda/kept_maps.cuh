// The values and the gradients of a relation whose maps were kept.
#pragma once

#include "cuda/relation.cuh"

namespace kdops {

namespace {

// Grid: (blocks, students). A block takes row after row of the maps. In float64: moments cancel.
template <class S, class Loss>
SIMT_KERNEL_BOUNDS(kTileThreads)
relation_values(Relation<S, Loss> r) {
  using T = acc_t<S>;
  SIMT_SHARED(typename Loss::template Formula<double>, formulas, [2]);
  const int student = blockIdx.y;
  const int64_t n = r.batches.n, stride = r.maps.stride;
  find_value_formulas(r, student, formulas);
  Parts sums{};
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const T *s = r.maps.of(student) + i * stride, *t = r.maps.of(r.teacher()) + i * stride;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
      if (i != j || Loss::kDiagonal)
        sums = Sum{}(sums, pair_parts(r.loss, formulas, double(s[j]), double(t[j])));
  }
  store_parts(r, student, sums);
}

// Of the pair (i, j) with all partners, from the maps.
template <class S, class Loss, class T = acc_t<S>>
SIMT_DEVICE T kept_weight(const Partners<S, Loss>& partners, int64_t i, int64_t j) {
  const Maps<T>& maps = partners.r.maps;
  // Maps are symmetric, and neighbouring lanes have neighbouring i.
  const int64_t at = j * maps.stride + i;
  const T s = maps.of(partners.self)[at];
  T weight = 0;
  for (int p = 0; p < partners.count(); ++p)
    weight += partners.weight(p, s, maps.of(partners.first() + p)[at]);
  return weight;
}

// Grid: (tiles of columns, tiles of rows, batches). The first block writes the value too.
template <class S, class Loss, class T = acc_t<S>>
SIMT_KERNEL_BOUNDS(kTileThreads, kTileBlocks<T>)
relation_gradients(Relation<S, Loss> r) {
  SIMT_SHARED(T, memory, [kTileMemory]);
  SIMT_SHARED(typename Loss::template Formula<T>, formulas, [kMaxBatches]);
  const int self = blockIdx.z;
  if (blockIdx.x == 0 && blockIdx.y == 0 && self == 0) write_value(r);
  const int64_t i0 = blockIdx.y * int64_t(kTile), k0 = blockIdx.x * int64_t(kTile);
  if (r.gradients[self] == nullptr || k0 >= r.batches.d[self]) return;

  const Partners<S, Loss> partners{r, self, formulas};
  partners.find_formulas();
  const auto weight = [&](int64_t i, int64_t j) { return kept_weight(partners, i, j); };
  gradient_tile<Loss::kLaplacian>(
      relation_rows(r, self), r.maps.of(self), r.maps.stride, i0, k0, memory, weight,
      all_finite(r.measures, r.batches.count, r.maps.measure_blocks), r.gradients[self]);
}

}  // namespace
}  // namespace kdops
