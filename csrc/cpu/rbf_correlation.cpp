// The map of RBF correlations: a polynomial in the inner product of (unit) rows, or the exponential
// of minus gamma times their squared distance.
#include "cpu/exp.h"
#include "cpu/square_map.h"

namespace kdops {

template <class T>
struct RbfRow {
  const T* map;  // whole vectors
  int64_t n;
  T* value;  // K, or dK/dmap, which pulls no rows that are equal
  bool slope;
};

template <int W, class T>
KDOPS_INLINE void taylor_row_impl(const RbfRow<T>& r, const Taylor<T>& kernel) {
  for (int64_t j = 0; j < r.n; j += lanes<T, W>) {
    vec<T, W> value, slope;
    kernel(load<T, W>(r.map + j), value, slope);
    store(r.value + j, r.slope ? slope : value);
  }
}
template <int W, class T>
KDOPS_INLINE void exponential_row_impl(const RbfRow<T>& r, T gamma) {
  for (int64_t j = 0; j < r.n; j += lanes<T, W>) {
    const vec<T, W> s = load<T, W>(r.map + j), value = exp(s * -gamma);
    store(r.value + j, r.slope ? select(s == vec<T, W>{}, s, value * -gamma) : value);
  }
}
#define KDOPS_RBF_KERNELS(T)                                                                 \
  KDOPS_MULTIVERSION(taylor_row, (const RbfRow<T>& r, const Taylor<T>& kernel), (r, kernel)) \
  KDOPS_MULTIVERSION(exponential_row, (const RbfRow<T>& r, T gamma), (r, gamma))
KDOPS_RBF_KERNELS(float)
KDOPS_RBF_KERNELS(double)

template <class S>
class RbfMap {
  using T = acc_t<S>;

 public:
  RbfMap(const Tensor& x, double gamma, const std::vector<double>& coefficients, bool normalize)
      : gamma_(static_cast<T>(gamma)),
        exact_(coefficients.empty()),
        normalize_(normalize),
        kernel_(taylor<T>(coefficients)),
        f_(normalize ? unit_rows<S>(x) : unscaled<S>(x)),
        map_(whole_map(f_, exact_ ? MapKind::kSquaredDistance : MapKind::kInnerProduct, x)) {}

  void write(T* out) {
    evaluate(false);
    for (int64_t i = 0; i < f_.n; ++i) std::copy_n(map_.row(i), f_.n, out + i * f_.n);
  }

  // A pair's slope times its upstream gradient in both orders. For unit rows the inner product's
  // gradient may be taken as a Laplacian: what it adds along a row drops out.
  void gradient(const T* upstream, const Tensor& out) {
    evaluate(true);
    const int64_t n = f_.n;
    const T sign = exact_ ? T(2) : normalize_ ? T(-1) : T(1);
    parallel(n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < n; ++j)
          map_.row(i)[j] *= sign * (upstream[i * n + j] + upstream[j * n + i]);
        std::fill(map_.row(i) + n, map_.row(i) + map_.stride, T(0));
      }
    });
    const bool product = !exact_ && !normalize_;
    weighted_gradient<S>(f_, map_, product ? Gradient::kProduct : Gradient::kLaplacian, out);
  }

 private:
  void evaluate(bool slope) {
    parallel(f_.n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RbfRow<T> row{map_.row(i), f_.n, map_.row(i), slope};
        exact_ ? exponential_row(row, gamma_) : taylor_row(row, kernel_);
      }
    });
  }

  T gamma_;
  bool exact_, normalize_;
  Taylor<T> kernel_;
  Features<T> f_;
  SquareMap<T> map_;
};

Tensor rbf_correlation_cpu(Tensor x, double gamma, std::vector<double> coefficients,
                           bool normalize) {
  const Tensor input = checked_features("rbf_correlation", {x})[0];
  KDOPS_CHECK(coefficients.size() <= kMaxOrder + 1, "rbf_correlation: order must be at most 8");
  Tensor out = new_map(input, 2);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    RbfMap<S>(input, gamma, coefficients, normalize).write(mutable_data<acc_t<S>>(out));
  });
  return out;
}

Tensor rbf_correlation_backward_cpu(Tensor upstream, Tensor x, double gamma,
                                    std::vector<double> coefficients, bool normalize) {
  const Tensor input = checked_features("rbf_correlation", {x})[0];
  const Tensor g = checked_upstream("rbf_correlation", upstream, input, 2);
  KDOPS_CHECK(coefficients.size() <= kMaxOrder + 1, "rbf_correlation: order must be at most 8");
  Tensor out = new_like(input);
  dispatch_float(input.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    RbfMap<S>(input, gamma, coefficients, normalize).gradient(const_data<acc_t<S>>(g), out);
  });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_rbf_correlation", TORCH_BOX(&rbf_correlation_cpu));
  m.impl("_rbf_correlation_backward", TORCH_BOX(&rbf_correlation_backward_cpu));
}

}  // namespace kdops
