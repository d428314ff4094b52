// One tile of two maps whose rows have normalisers of their own: what these need, the values, the
// weights. A pair counts for both its rows; in a tile of the diagonal, where its mirror image lies
// too, the vectors from the diagonal on stand for the rest.
#pragma once

#include "cpu/pair_tile.h"
#include "formulas/row_pairs.h"

namespace kdops {

// The fields of rows' RowScale, each an array.
template <class T>
struct RowScales {
  T* data;
  int64_t stride;

  RowScales from(int64_t row) const { return {data + row, stride}; }
  void set(int64_t i, const RowScale<T>& s) const {
    const T fields[] = {s.inverse, s.inverse_other, s.gain, s.fall, s.sum};
    for (int f = 0; f < 5; ++f) data[f * stride + i] = fields[f];
  }
  void set_sum(int64_t i, T sum) const { data[4 * stride + i] = sum; }
  template <int W>
  KDOPS_INLINE RowScale<vec<T, W>> load(int64_t i) const {
    const auto field = [&](int f) { return kdops::load<T, W>(data + f * stride + i); };
    return {field(0), field(1), field(2), field(3), field(4)};
  }
  template <int W>
  KDOPS_INLINE RowScale<vec<T, W>> broadcast(int64_t i) const {
    const auto field = [&](int f) { return kdops::broadcast<T, W>(data[f * stride + i]); };
    return {field(0), field(1), field(2), field(3), field(4)};
  }
};

template <class T>
struct RowTile {
  T* self;
  T* other;  // on return of the sums what the formula makes of it
  int64_t rows, columns, stride;
  bool diagonal;
  // Of the first row and the first column.
  double *row_sum, *row_sum_other, *column_sum, *column_sum_other;
  double *row_moment, *column_moment;
  RowScales<T> row_scale, column_scale;
  T* weight = nullptr;
  T factor = 0;  // of the weights
};

// y += x in float64.
template <class V>
KDOPS_INLINE void add_wide(double* y, wide<V> x) {
  wide<V> sum;
  __builtin_memcpy(&sum, y, sizeof(sum));
  sum += x;
  __builtin_memcpy(y, &sum, sizeof(sum));
}

template <int W, class T, class Formula>
KDOPS_INLINE void row_sums_tile_impl(const RowTile<T>& p, const Formula& formula) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t first = p.diagonal ? i - i % L : 0;
    wide<V> sum = {}, sum_other = {};
    for (int64_t j = first; j < p.columns; j += L) {
      const V other = formula.other(load<T, W>(p.other + i * p.stride + j));
      store(p.other + i * p.stride + j, other);
      const wide<V> x = widened(formula.amount(load<T, W>(p.self + i * p.stride + j)));
      const wide<V> y = widened(formula.amount_other(other));
      sum += x, sum_other += y;
      if (p.diagonal && j == first) continue;
      add_wide<V>(p.column_sum + j, x), add_wide<V>(p.column_sum_other + j, y);
    }
    p.row_sum[i] += sum_wide<V>(sum), p.row_sum_other[i] += sum_wide<V>(sum_other);
  }
}

// The tile's discrepancy; the moments of its rows, or the weights.
template <int W, class T, class Formula>
KDOPS_INLINE double row_terms_tile_impl(const RowTile<T>& p, const Formula& formula) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  double total = 0;
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t first = p.diagonal ? i - i % L : 0;
    const RowScale<V> row = p.row_scale.template broadcast<W>(i);
    V value = {}, moment = {};
    for (int64_t j = first; j < p.columns; j += L) {
      const RowScale<V> column = p.column_scale.template load<W>(j);
      const auto entry = formula.entry(load<T, W>(p.self + i * p.stride + j),
                                       load<T, W>(p.other + i * p.stride + j));
      const RowTerm<V> ours = formula.term(entry, row), theirs = formula.term(entry, column);
      if (p.weight != nullptr) {
        const V w = formula.weight(entry, ours.pull, row, theirs.pull, column);
        store(p.weight + i * p.stride + j, w * p.factor);
      }
      value += ours.value, moment += ours.moment;
      if (p.diagonal && j == first) continue;
      value += theirs.value;
      if (Formula::kMoments && p.weight == nullptr)
        add_wide<V>(p.column_moment + j, widened(theirs.moment));
    }
    total += sum(value);
    if (Formula::kMoments && p.weight == nullptr) p.row_moment[i] += sum(moment);
  }
  if (p.weight != nullptr && p.diagonal) mirror<W>(p.weight, p.rows, p.stride);
  return total;
}

#define KDOPS_ROW_KERNELS(Formula)                                                                \
  KDOPS_MULTIVERSION(row_sums_tile, (const RowTile<float>& p, const Formula<float>& f), (p, f))   \
  KDOPS_MULTIVERSION(row_sums_tile, (const RowTile<double>& p, const Formula<double>& f), (p, f)) \
  KDOPS_MULTIVERSION(row_terms_tile, (const RowTile<float>& p, const Formula<float>& f), (p, f))  \
  KDOPS_MULTIVERSION(row_terms_tile, (const RowTile<double>& p, const Formula<double>& f), (p, f))

}  // namespace kdops
