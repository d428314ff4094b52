// A batch's pairs as the angle loss wants them (formulas/angle.h): over a typical length, as
// excess.
#pragma once

#include "cpu/square_map.h"
#include "cpu/triplets.h"

namespace kdops {

// Squared lengths at one vertex whose ratio is beyond this send the batch through float64.
constexpr double kUneven = 64;

// Of a row of squared distances: over those above 0, their number too.
struct RowRange {
  double sum, count, longest, shortest;
};
template <int W>
KDOPS_INLINE RowRange row_range_impl(const double* s, int64_t n) {
  using D = vec<double, W>;
  const D infinity = D{} + std::numeric_limits<double>::infinity();
  D sum = {}, count = {}, longest = {}, shortest = infinity;
  for (int64_t j = 0; j < n; j += lanes<double, W>) {
    const D v = load<double, W>(s + j);
    sum += v, count += select(v > D{}, D{} + 1.0, D{});
    longest = max(longest, v), shortest = min(shortest, select(v > D{}, v, infinity));
  }
  return {kdops::sum(sum), kdops::sum(count), max(longest), -max(-shortest)};
}
KDOPS_MULTIVERSION(row_range, (const double* s, int64_t n), (s, n))

// A row of blocked maps.
template <class T>
struct AngleRow {
  T *squares, *lengths, *inverses;
};

// From n squared distances times `over`, whose lengths are bounded by `bound`.
template <int W, class T>
KDOPS_INLINE void write_angle_row_impl(const double* s, int64_t n, double over, double bound,
                                       const AngleRow<T>& row) {
  using D = vec<double, W>;
  constexpr int L = lanes<double, W>;
  using V = vec<T, L* int(sizeof(T))>;
  for (int64_t j = 0; j < n; j += L) {
    const int64_t at = blocked(n, 0, j);
    const D square = load<double, W>(s + j) * over;
    const D inverse = select(square > D{}, 1.0 / max(sqrt(square), D{} + bound), D{});
    store(row.squares + at, __builtin_convertvector(square - double(kTypical<T>), V));
    store(row.lengths + at, __builtin_convertvector(square * inverse - double(kTypical<T>), V));
    store(row.inverses + at, __builtin_convertvector(inverse - double(kTypical<T>), V));
  }
}
#define KDOPS_ANGLE_ROW(T)                                                             \
  KDOPS_MULTIVERSION(                                                                  \
      write_angle_row,                                                                 \
      (const double* s, int64_t n, double over, double bound, const AngleRow<T>& row), \
      (s, n, over, bound, row))
KDOPS_ANGLE_ROW(float)
KDOPS_ANGLE_ROW(double)
#undef KDOPS_ANGLE_ROW

template <class T>
class AngleMap {
 public:
  AngleMap(Features<T> features, double length, const Tensor& like)
      : f(std::move(features)),
        vertices((f.n + kTripletBlock - 1) / kTripletBlock * kTripletBlock),
        values_(like, 3 * vertices * vertices) {
    if (!f.finite) return;
    const SquareMap<double> map = whole_map<T, double>(f, MapKind::kSquaredDistance, like);
    const double bound = length * f.scale;
    find_unit(map, bound);
    eps = static_cast<T>(bound / std::sqrt(unit));
    parallel(vertices, 16, [&](int64_t begin, int64_t end) {
      const std::vector<double> padding(vertices);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = blocked(vertices, i, 0);
        write_angle_row(i < f.n ? map.row(i) : padding.data(), vertices, 1 / unit, eps,
                        {values(0) + at, values(1) + at, values(2) + at});
      }
    });
  }
  AngleSide<T> side() const { return {values(0), values(1), values(2)}; }

  // Of a pair, over the unit.
  T inverse(int64_t i, int64_t j) const { return values(2)[blocked(vertices, i, j)] + kTypical<T>; }
  T self_cosine(int64_t i, int64_t j) const {
    return kdops::self_cosine(values(0)[blocked(vertices, i, j)] + kTypical<T>, inverse(i, j), eps);
  }

  Features<T> f;
  int64_t vertices;     // in whole blocks
  double unit = 1;      // the mean squared distance
  T eps = 0;            // over the unit's root
  bool uneven = false;  // float32 would lose digits
  bool regular = true;  // every pair has a length, and none is bounded

 private:
  void find_unit(const SquareMap<double>& map, double bound) {
    double sum = 0;
    for (int64_t i = 0; i < f.n; ++i) {
      const RowRange r = row_range(map.row(i), map.stride);
      sum += r.sum;
      uneven = uneven || r.shortest < std::max(r.longest / kUneven, bound * bound);
      regular = regular && r.count == f.n - 1 && r.shortest > bound * bound;
    }
    if (sum > 0) unit = sum / (double(f.n) * double(f.n - 1));
  }
  T* values(int64_t map) const { return values_.data() + map * vertices * vertices; }

  Buffer<T> values_;  // S / unit, d / sqrt(unit), p sqrt(unit) as excess; the padding has p = 0
};

}  // namespace kdops
