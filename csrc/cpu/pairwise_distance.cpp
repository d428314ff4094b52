// The map of distances m_ij = |x_i - x_j|, or their squares; over its mean or maximum if asked.
//
// Backward, with U_ij = g_ij + g_ji the upstream gradient of a pair and m over s = mean(m) or
// max(m): dL/dm_ij = U_ij / s - 2 sum(g m) / s^2 ds/dm, ds/dm = 1 / pairs or [m = s] / ties.
#include "cpu/square_map.h"

namespace kdops {

enum class Normalizer { kNone, kMean, kMax };

template <class S>
class DistanceMap {
  using T = acc_t<S>;

 public:
  DistanceMap(const Tensor& x, bool squared, int64_t normalize, double eps)
      : f_(features<S>(x, std::sqrt(eps))),
        map_(whole_map(f_, MapKind::kSquaredDistance, x)),
        n_(f_.n),
        squared_(squared),
        normalizer_(static_cast<Normalizer>(normalize)),
        floor_(static_cast<T>(eps * f_.scale * f_.scale)) {
    if (f_.finite) find_norm();
  }
  bool finite() const { return f_.finite; }

  void write(T* out) const {
    parallel(n_, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < n_; ++j) out[i * n_ + j] = static_cast<T>(measure(i, j) * factor_);
    });
  }

  void gradient(const T* upstream, const Tensor& out) {
    double pull = 0;  // what the normaliser's gradient takes from each pair that it has a part in
    if (normalizer_ != Normalizer::kNone) {
      for (int64_t i = 0; i < n_; ++i)
        for (int64_t j = 0; j < n_; ++j) pull += double(upstream[i * n_ + j]) * measure(i, j);
      pull *= 2 * factor_ * factor_ / parts_;
    }
    SquareMap<T> weight(n_, out);
    parallel(n_, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) write_weights(i, upstream, pull, weight);
    });
    weighted_gradient<S>(f_, weight, Gradient::kLaplacian, out, &map_);
  }

 private:
  T measure(int64_t i, int64_t j) const {
    if (i == j) return T(0);
    const T s = max(floor_, map_.row(i)[j]);
    return squared_ ? s : sqrt(s);
  }

  void find_norm() {
    double sum = 0, ties = 0;
    T largest = 0;
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < n_; ++j) {
        const T m = measure(i, j);
        sum += m;
        ties = m > largest ? 1 : m == largest ? ties + 1 : ties;
        largest = max(largest, m);
      }
    }
    const double pairs = std::max(1.0, double(n_) * double(n_ - 1)), scale = f_.scale;
    const double norm = normalizer_ == Normalizer::kNone   ? (squared_ ? scale * scale : scale)
                        : normalizer_ == Normalizer::kMean ? sum / pairs
                                                           : largest;
    parts_ = normalizer_ == Normalizer::kMean ? pairs : std::max(1.0, ties);
    largest_ = largest;
    factor_ = norm > 0 ? 1 / norm : 0;
  }

  // w_ij = 2 dL/dS_ij; a bounded length, or none, has subgradient 0.
  void write_weights(int64_t i, const T* upstream, double pull, SquareMap<T>& weight) const {
    for (int64_t j = 0; j < n_; ++j) {
      const T m = measure(i, j);
      if (i == j || !(map_.row(i)[j] > floor_)) continue;
      double slope = (double(upstream[i * n_ + j]) + double(upstream[j * n_ + i])) * factor_;
      if (normalizer_ == Normalizer::kMean || (normalizer_ == Normalizer::kMax && m == largest_))
        slope -= pull;
      weight.row(i)[j] = static_cast<T>(squared_ ? 2 * slope : slope / m);
    }
  }

  Features<T> f_;
  SquareMap<T> map_;
  int64_t n_;
  bool squared_;
  Normalizer normalizer_;
  T floor_, largest_ = 0;
  double factor_ = 1, parts_ = 1;
};

Tensor pairwise_distance_cpu(Tensor x, bool squared, int64_t normalize, double eps) {
  const Tensor input = checked_features("pairwise_distance", {x})[0];
  Tensor out = new_map(input, 2);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    const DistanceMap<S> map(input, squared, normalize, eps);
    map.finite() ? map.write(mutable_data<acc_t<S>>(out)) : fill_nan(out);
  });
  return out;
}

Tensor pairwise_distance_backward_cpu(Tensor upstream, Tensor x, bool squared, int64_t normalize,
                                      double eps) {
  const Tensor input = checked_features("pairwise_distance", {x})[0];
  const Tensor g = checked_upstream("pairwise_distance", upstream, input, 2);
  Tensor out = new_like(input);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    DistanceMap<S> map(input, squared, normalize, eps);
    map.finite() ? map.gradient(const_data<acc_t<S>>(g), out) : fill_nan(out);
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_pairwise_distance", TORCH_BOX(&pairwise_distance_cpu));
  m.impl("_pairwise_distance_backward", TORCH_BOX(&pairwise_distance_backward_cpu));
}

}  // namespace kdops
