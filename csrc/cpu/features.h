// A batch of feature vectors as the kernels want it: one accumulation type, contiguous rows, and
// magnitudes whose squares neither overflow nor vanish.
//
// The scale is a power of two, so it is exact, and is left out while the largest magnitude is
// within 2^+-20: the usual float32 or float64 batch is read where it lies.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

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
  std::optional<Buffer<T>> copy = {}, inverses = {};

  const T* row(int64_t i) const { return x + i * d; }
};

// What an op over features needs before it reads or writes: (N, D) of one type and one N.
inline std::vector<Tensor> checked_features(const char* name, const std::vector<Tensor>& tensors) {
  KDOPS_CHECK(!tensors.empty(), name, ": features must not be empty");
  std::vector<Tensor> checked;
  for (const Tensor& x : tensors) {
    KDOPS_CHECK(x.dim() == 2, name, ": features must be (N, D), got ", x.dim(), " dimensions");
    KDOPS_CHECK(x.size(1) > 0, name, ": features must have at least one column");
    KDOPS_CHECK(x.size(0) == tensors[0].size(0), name, ": features must have the same rows, got ",
                tensors[0].size(0), " and ", x.size(0));
    KDOPS_CHECK(x.scalar_type() == tensors[0].scalar_type(), name,
                ": features must have the same dtype");
    checked.push_back(contiguous(x));
  }
  return checked;
}

inline void fill_nan(Tensor& t) {
  torch::stable::fill_(t, std::numeric_limits<double>::quiet_NaN());
}

// The output of a map op: (n, ..., n) in the accumulation type.
inline Tensor new_map(const Tensor& x, int dimensions) {
  const std::vector<int64_t> sizes(dimensions, x.size(0));
  return torch::stable::new_empty(x, sizes, accumulation_dtype(x.scalar_type()));
}

// What a map op's upstream gradient must be.
inline Tensor checked_upstream(const char* name, const Tensor& upstream, const Tensor& x,
                               int dimensions) {
  KDOPS_CHECK(upstream.dim() == dimensions, name, ": upstream must have the map's shape");
  for (int i = 0; i < dimensions; ++i)
    KDOPS_CHECK(upstream.size(i) == x.size(0), name, ": upstream must have the map's shape");
  KDOPS_CHECK(upstream.scalar_type() == accumulation_dtype(x.scalar_type()), name,
              ": upstream must have the map's dtype");
  return contiguous(upstream);
}

// A relation's outputs: the value, then the gradients that are wanted, the teacher (last) last.
inline std::vector<Tensor> relation_outputs(const std::vector<Tensor>& inputs, bool student_grad,
                                            bool teacher_grad) {
  std::vector<Tensor> outputs{
      torch::stable::new_empty(inputs[0], {}, accumulation_dtype(inputs[0].scalar_type()))};
  for (size_t i = 0; i < inputs.size(); ++i)
    if (i + 1 == inputs.size() ? teacher_grad : student_grad)
      outputs.push_back(torch::stable::empty_like(inputs[i]));
  return outputs;
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

// Rows of length 1; a zero row stays 0 and has no gradient.
template <class S, class T = acc_t<S>>
Features<T> unit_rows(const Tensor& tensor) {
  Features<T> f{nullptr, tensor.size(0), tensor.size(1)};
  const S* input = const_data<S>(tensor);
  f.copy.emplace(tensor, f.n * f.d);
  f.inverses.emplace(tensor, f.n);
  for (int64_t i = 0; i < f.n; ++i) {
    T* row = f.copy->data() + i * f.d;
    const T top = largest(input + i * f.d, f.d);
    f.finite = f.finite && std::isfinite(top);
    const T scale = power_of_two(top);
    scaled_copy(input + i * f.d, f.d, scale, row);
    const T length = std::sqrt(dot(row, row, f.d));
    const T inverse = length > 0 ? T(1) / length : T(0);
    for (int64_t k = 0; k < f.d; ++k) row[k] *= inverse;
    f.inverses->data()[i] = scale * inverse;
  }
  f.x = f.copy->data();
  f.inverse = f.inverses->data();
  return f;
}

}  // namespace kdops
