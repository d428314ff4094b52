// The map of distances m_ij = |x_i - x_j|, or their squares; over its mean or maximum if asked.
//
// With U_ij = g_ij + g_ji the upstream gradient of a pair and m over s = mean(m) or max(m):
// dL/dm_ij = U_ij / s - 2 sum(g m) / s^2 ds/dm, ds/dm = 1 / pairs or [m = s] / ties.
#pragma once

#include "cuda/map_op.cuh"

namespace kdops {

enum class Normalizer { kNone, kMean, kMax };

template <class T>
struct DistanceEntry {
  bool squared, all, ties;  // what the normaliser pulls: all pairs, or the longest
  T floor, factor, pull, largest;

  SIMT_DEVICE T measure(T s) const { return squared ? max(floor, s) : sqrt(max(floor, s)); }
  SIMT_DEVICE T value(T s, bool diagonal) const { return diagonal ? T(0) : measure(s) * factor; }
  // A bounded length, or none, has subgradient 0.
  SIMT_DEVICE T weight(T s, T upstream, bool) const {
    if (!(s > floor)) return T(0);
    const T m = measure(s);
    const T slope = upstream * factor - (all || (ties && m == largest) ? pull : T(0));
    return squared ? 2 * slope : slope / m;
  }
};

struct PairwiseDistance {
  template <class T>
  using Formula = DistanceEntry<T>;
  static constexpr MapKind kKind = MapKind::kDistance;
  static constexpr Scaling kScaling = Scaling::kBatch;
  static constexpr bool kLaplacian = true;

  bool squared;
  Normalizer normalizer;
  double floor;

  bool normalized() const { return normalizer != Normalizer::kNone; }
  template <class T>
  SIMT_DEVICE T measured(T s, T scaled_floor) const {
    return squared ? max(scaled_floor, s) : sqrt(max(scaled_floor, s));
  }
  template <class T>
  SIMT_DEVICE DistanceEntry<T> formula(const Side& side, double moment, int64_t n) const {
    const bool mean = normalizer == Normalizer::kMean, most = normalizer == Normalizer::kMax;
    const double pairs = max(1.0, double(n) * double(n - 1));
    const double unit = squared ? side.scale * side.scale : side.scale;
    const double norm = mean ? side.sum / pairs : most ? side.largest : unit;
    const double factor = norm > 0 ? 1 / norm : 0;
    const double pull = 2 * moment * factor / (mean ? pairs : side.ties);
    return {squared,   mean,    most,           T(floor * side.scale * side.scale),
            T(factor), T(pull), T(side.largest)};
  }
};

}  // namespace kdops
