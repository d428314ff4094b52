// The map of cosines of all triplets, in float64 inside whatever the input (formulas/angle.h).
#include "cpu/square_map.h"
#include "formulas/angle.h"

namespace kdops {

// A batch's squared distances S and inverse lengths p.
struct LengthMap {
  Features<double> f;
  SquareMap<double> map, inverses;
  double eps;

  LengthMap(Features<double> features, double length, const Tensor& like)
      : f(std::move(features)),
        map(whole_map(f, MapKind::kSquaredDistance, like)),
        inverses(f.n, like),
        eps(length * f.scale) {
    for (int64_t i = 0; i < f.n; ++i)
      for (int64_t j = 0; j < f.n; ++j)
        if (map.row(i)[j] > 0) inverses.row(i)[j] = 1 / std::max(std::sqrt(map.row(i)[j]), eps);
  }
};

template <class S>
LengthMap length_map(const Tensor& x, double eps) {
  if constexpr (std::is_same_v<S, double>) {
    return {features<S>(x, eps), eps, x};
  } else {
    return {promoted(features<S>(x, eps), x), eps, x};
  }
}

template <class T>
void write_cosines(const LengthMap& m, T* out) {
  const int64_t n = m.f.n;
  parallel(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      const double* s = m.map.row(a);
      const double* p = m.inverses.row(a);
      for (int64_t b = 0; b < n; ++b) {
        const double* s_b = m.map.row(b);
        T* cos = out + (a * n + b) * n;
        for (int64_t c = 0; c < n; ++c)
          cos[c] = static_cast<T>(0.5 * p[b] * p[c] * ((s[b] - s_b[c]) + s[c]));
        cos[b] = static_cast<T>(self_cosine(s[b], p[b], m.eps));
      }
    }
  });
}

// The weights of the pairs, w = 2 dL/dS, for an upstream gradient of the cosines.
template <class T>
class CosineGradient {
 public:
  CosineGradient(const LengthMap& m, const T* upstream, const Tensor& like)
      : m_(m), g_(upstream), n_(m.f.n), weight(n_, like) {
    SquareMap<double> vertex(n_, like);
    parallel(n_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t a = begin; a < end; ++a) vertex_row(a, vertex.row(a));
    });
    parallel(n_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) opposite_row(b, weight.row(b));
    });
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = 0; j < n_; ++j)
        weight.row(i)[j] =
            i == j ? 0 : 2 * (vertex.row(i)[j] + vertex.row(j)[i] - weight.row(i)[j]);
  }

 private:
  // Half of the upstream gradient of both orders: dL/dcos of a triplet, as in the angle loss.
  double slope(int64_t a, int64_t b, int64_t c) const {
    return 0.5 * (double(g_[(a * n_ + b) * n_ + c]) + double(g_[(a * n_ + c) * n_ + b]));
  }

  void vertex_row(int64_t a, double* out) const {
    const double* s = m_.map.row(a);
    const double* p = m_.inverses.row(a);
    for (int64_t b = 0; b < n_; ++b) {
      double sum_a = 0, sum_b = 0;
      for (int64_t c = 0; c < n_; ++c) {
        if (b == c) continue;
        const double h = slope(a, b, c);
        sum_a += h * p[c];
        sum_b += h * 0.5 * p[b] * p[c] * ((s[b] - m_.map.row(b)[c]) + s[c]);
      }
      out[b] = vertex_weight(sum_a, sum_b, p[b], m_.eps);
      if (p[b] * m_.eps >= 1) out[b] += p[b] * p[b] * slope(a, b, b);
    }
  }

  void opposite_row(int64_t b, double* out) const {
    for (int64_t a = 0; a < n_; ++a) {
      const double* p = m_.inverses.row(a);
      for (int64_t c = 0; c < n_; ++c) out[c] += slope(a, b, c) * p[b] * p[c];
    }
  }

  const LengthMap& m_;
  const T* g_;
  int64_t n_;

 public:
  SquareMap<double> weight;
};

Tensor triplet_angle_cpu(Tensor x, double eps) {
  const Tensor input = checked_features("triplet_angle", {x})[0];
  Tensor out = new_map(input, 3);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    const LengthMap map = length_map<S>(input, eps);
    map.f.finite ? write_cosines(map, mutable_data<acc_t<S>>(out)) : fill_nan(out);
  });
  return out;
}

Tensor triplet_angle_backward_cpu(Tensor upstream, Tensor x, double eps) {
  const Tensor input = checked_features("triplet_angle", {x})[0];
  const Tensor g = checked_upstream("triplet_angle", upstream, input, 3);
  Tensor out = new_like(input);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    const LengthMap map = length_map<S>(input, eps);
    if (!map.f.finite) return fill_nan(out);
    const CosineGradient<acc_t<S>> gradient(map, const_data<acc_t<S>>(g), input);
    weighted_gradient<S>(map.f, gradient.weight, Gradient::kLaplacian, out);
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_triplet_angle", TORCH_BOX(&triplet_angle_cpu));
  m.impl("_triplet_angle_backward", TORCH_BOX(&triplet_angle_backward_cpu));
}

}  // namespace kdops
