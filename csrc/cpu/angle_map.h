// A batch's pairs as the angle loss wants them (formulas/angle.h): over a typical length, as
// excess.
#pragma once

#include "cpu/square_map.h"
#include "cpu/triplets.h"

namespace kdops {

// Squared lengths at one vertex whose ratio is beyond this send the batch through float64.
constexpr double kUneven = 64;

template <class T>
class AngleMap {
 public:
  AngleMap(Features<T> features, double length, const Tensor& like)
      : f(std::move(features)), squares(f.n, like), inverses(f.n, like) {
    if (!f.finite) return;
    const SquareMap<double> map = whole_map<T, double>(f, MapKind::kSquaredDistance, like);
    find_unit(map);
    eps = static_cast<T>(length * f.scale / std::sqrt(unit));
    parallel(f.n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) write_row(i, map.row(i));
    });
    for (int64_t i = 0; i < f.n; ++i) uneven = uneven || uneven_row(map.row(i), length * f.scale);
  }
  AngleSide<T> side() const { return {squares.data(), inverses.data()}; }

  // Of a pair, over the unit.
  T inverse(int64_t i, int64_t j) const { return inverses.row(i)[j] + kTypical<T>; }
  T self_cosine(int64_t i, int64_t j) const {
    return kdops::self_cosine(squares.row(i)[j] + kTypical<T>, inverse(i, j), eps);
  }

  Features<T> f;
  SquareMap<T> squares, inverses;  // S / unit and p sqrt(unit) as excess; the padding has p = 0
  double unit = 1;                 // the mean squared distance
  T eps = 0;                       // over the unit's root
  bool uneven = false;             // float32 would lose digits

 private:
  void find_unit(const SquareMap<double>& map) {
    double sum = 0;
    for (int64_t i = 0; i < f.n; ++i)
      for (int64_t j = 0; j < f.n; ++j) sum += map.row(i)[j];
    if (sum > 0) unit = sum / (double(f.n) * double(f.n - 1));
  }

  void write_row(int64_t i, const double* s) {
    const double over = 1 / unit, bound = eps;
    T *square = squares.row(i), *inverse = inverses.row(i);
    for (int64_t j = 0; j < squares.stride; ++j) {
      const double relative = s[j] * over, length = std::max(std::sqrt(relative), bound);
      square[j] = static_cast<T>(relative - kTypical<T>);
      inverse[j] = static_cast<T>((relative > 0 ? 1 / length : 0.0) - kTypical<T>);
    }
  }

  // Lengths too unequal, or bounded.
  bool uneven_row(const double* s, double bound) const {
    double longest = 0, shortest = std::numeric_limits<double>::max();
    for (int64_t j = 0; j < f.n; ++j) {
      longest = std::max(longest, s[j]);
      shortest = std::min(shortest, s[j] > 0 ? s[j] : shortest);
    }
    return shortest < std::max(longest / kUneven, bound * bound);
  }
};

}  // namespace kdops
