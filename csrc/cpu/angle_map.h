// A batch, its map of squared distances, and the bound of its lengths, for kernels over triplets.
#pragma once

#include "cpu/square_map.h"
#include "cpu/triplets.h"

namespace kdops {

template <class T>
struct AngleMap {
  Features<T> f;
  SquareMap<T> map, inverses;
  T eps;

  AngleMap(Features<T> features, double length, const Tensor& like)
      : f(std::move(features)),
        map(whole_map(f, MapKind::kSquaredDistance, like)),
        inverses(f.n, like),
        eps(static_cast<T>(length * static_cast<double>(f.scale))) {
    inverse_lengths(map.data(), map.n * map.stride, eps, inverses.data());
  }
  AngleSide<T> side() const { return {map.data(), inverses.data()}; }
};

// Maps between whose angles float32 would lose digits: some two lengths at a vertex are too uneven.
template <class T>
bool uneven(const std::vector<AngleMap<T>>& maps) {
  if constexpr (std::is_same_v<T, float>)
    for (const auto& m : maps)
      for (int64_t i = 0; i < m.map.n; ++i)
        if (uneven_row(m.map.row(i), m.map.stride)) return true;
  return false;
}

}  // namespace kdops
