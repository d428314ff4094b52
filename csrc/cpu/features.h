// A batch of feature vectors as the kernels want it: one accumulation type, contiguous rows, and
// magnitudes whose squares neither overflow nor vanish.
//
// The scale is a power of two, so it is exact, and is left out while the largest magnitude is
// within 2^+-20: the usual float32 or float64 batch is read where it lies.
#pragma once

#include <cmath>
#include <limits>
#include <optional>

#include "common/features.h"
#include "cpu/tensor.h"
#include "cpu/vectors.h"

namespace kdops {

constexpr int kSafeExponent = 20;
constexpr int kMaxExponent = 120;

// The power of two that brings x into [1/2, 1); 1 for what is no number.
template <class T>
T power_of_two(T x) {
  if (!(x > 0) || !std::isfinite(x)) return 1;
  int exponent;
  std::frexp(x, &exponent);
  return std::ldexp(T(1), std::min(kMaxExponent, std::max(-kMaxExponent, -exponent)));
}

template <class T>
struct Features {
  const T* x;
  int64_t n, d;
  T scale = 1;                 // x is the input times scale
  bool finite = true;          // neither NaN nor infinity
  const T* inverse = nullptr;  // unit rows: d(row) / d(input row), 0 for a zero row
  T eps = 0;                   // that was added to the lengths of unit rows
  std::optional<Buffer<T>> copy = {};
  std::vector<T> inverses = {};

  const T* row(int64_t i) const { return x + i * d; }
};

inline void fill_nan(Tensor& t) {
  torch::stable::fill_(t, std::numeric_limits<double>::quiet_NaN());
}

// Features in the accumulation type: the input itself, or a copy times scale.
template <class S, class T = acc_t<S>>
Features<T> unscaled(const Tensor& tensor, T scale = 1) {
  Features<T> f{nullptr, tensor.size(0), tensor.size(1), scale};
  const S* input = const_data<S>(tensor);
  if constexpr (std::is_same_v<S, T>) {
    if (scale == T(1)) {
      f.x = input;
      return f;
    }
  }
  f.copy.emplace(tensor, f.n * f.d);
  scaled_copy(input, f.n * f.d, scale, f.copy->data());
  f.x = f.copy->data();
  return f;
}

// Features as they are, over a power of two where their squares would leave the range. `floor` is a
// length that is compared with theirs.
template <class S, class T = acc_t<S>>
Features<T> features(const Tensor& tensor, double floor = 0) {
  const T top = largest(const_data<S>(tensor), tensor.numel());
  const bool finite = std::isfinite(top);
  const T reference = std::max(top, static_cast<T>(floor));
  int exponent = 0;
  if (finite) std::frexp(reference, &exponent);
  const bool safe = std::abs(exponent) <= kSafeExponent;
  Features<T> f = unscaled<S>(tensor, safe ? T(1) : power_of_two(reference));
  f.finite = finite;
  return f;
}

// The same features in float64.
inline Features<double> promoted(const Features<float>& f, const Tensor& like) {
  Features<double> g{nullptr, f.n, f.d, f.scale, f.finite};
  g.copy.emplace(like, f.n * f.d);
  std::copy_n(f.x, f.n * f.d, g.copy->data());
  g.x = g.copy->data();
  return g;
}

// Rows over their length plus eps: of length 1 without it; a zero row stays 0, and without eps has
// no gradient.
template <class S, class T = acc_t<S>>
Features<T> unit_rows(const Tensor& tensor, double eps = 0) {
  Features<T> f{nullptr, tensor.size(0), tensor.size(1)};
  f.eps = static_cast<T>(eps);
  const S* input = const_data<S>(tensor);
  f.copy.emplace(tensor, f.n * f.d);
  f.inverses.resize(f.n);
  for (int64_t i = 0; i < f.n; ++i) {
    T* row = f.copy->data() + i * f.d;
    const T top = largest(input + i * f.d, f.d);
    f.finite = f.finite && std::isfinite(top);
    const T scale = power_of_two(top);
    scaled_copy(input + i * f.d, f.d, scale, row);
    const double length = std::sqrt(dot(row, row, f.d)) + eps * double(scale);
    const T inverse = static_cast<T>(length > 0 ? 1 / length : 0);
    if (f.d == 1 && length > 0)
      row[0] = static_cast<T>(row[0] / length);  // exactly 1
    else
      scaled_copy(row, f.d, inverse, row);
    f.inverses[i] = scale * inverse;
  }
  f.x = f.copy->data();
  f.inverse = f.inverses.data();
  return f;
}

}  // namespace kdops
