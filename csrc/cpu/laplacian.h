// The gradient of every loss over pairs: g_i = sum_j w_ij (x_i - x_j), a graph Laplacian times
// rows.
//
// It is taken as (sum_j w_ij) (x_i - c) - sum_j w_ij (x_j - c), a matrix product of centred rows.
// A pair that is near for its distance from the centre c would lose its digits there: its
// difference is added explicitly (`near`).
#pragma once

#include <vector>

#include "cpu/blocks.h"
#include "cpu/features.h"
#include "cpu/pair_tile.h"
#include "cpu/tiles.h"

namespace kdops {

enum class Gradient { kLaplacian, kProduct };  // kProduct: g_i = sum_j w_ij x_j

template <class S, class T = acc_t<S>>
class Laplacian {
 public:
  // The gradient will be written to `out`, in out's type S.
  Laplacian(const Features<T>& f, const Tensor& out, Gradient form, bool near = false)
      : f_(f), out_(mutable_data<S>(out)), form_(form), centre_(f.d), degree_(f.n) {
    if constexpr (std::is_same_v<S, T>) {
      sum_ = out_;
    } else {
      own_.emplace(out, f.n * f.d);
      sum_ = own_->data();
    }
    std::fill_n(sum_, f.n * f.d, T(0));
    find_centre();
    if (near) find_limits();
  }

  // Pairs whose squared distance is below the sum of their rows' limits are near.
  const T* limit(int64_t row) const { return limits_.data() + row; }

  // The weights of tile (a, b), with their sums and near pairs.
  void add(const Blocks& blocks, int64_t a, int64_t b, const PairTile<T>& p, T* panel) {
    const int64_t i0 = blocks.begin(a), j0 = blocks.begin(b);
    for (int64_t i = 0; i < p.rows; ++i) degree_[i0 + i] += p.row_sum[i];
    add_side(blocks, a, b, p.weight, p.stride, 1, panel);
    if (a != b) {
      for (int64_t j = 0; j < blocks.length(b); ++j) degree_[j0 + j] += p.column_sum[j];
      add_side(blocks, b, a, p.weight, 1, p.stride, panel);
    }
    if (p.near == nullptr) return;
    for (const NearPair<T>& pair : *p.near) add_pair(i0 + pair.i, j0 + pair.j, pair.weight, a != b);
  }

  // Through the scaling or the row normalisation, to the output.
  void finish() {
    parallel(f_.n, std::max<int64_t>(1, 16384 / f_.d), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) finish_row(i);
    });
  }

 private:
  void find_centre() {
    T* centre = centre_.data();
    if (form_ == Gradient::kProduct || f_.n == 0) return;
    for (int64_t i = 0; i < f_.n; ++i) accumulate(f_.row(i), f_.d, centre);
    for (int64_t k = 0; k < f_.d; ++k) centre[k] /= static_cast<T>(f_.n);
  }

  static constexpr T kNear = T(1) / 64;
  void find_limits() {
    limits_.resize(f_.n + lanes<T>);  // kernels load whole vectors of them
    for (int64_t i = 0; i < f_.n; ++i)
      limits_[i] = kNear * squared_distance(f_.row(i), centre_.data(), f_.d);
  }

  // One pair, by its difference: for both rows, or for i alone.
  void add_pair(int64_t i, int64_t j, T weight, bool both) {
    add_difference(-weight, f_.row(i), f_.row(j), f_.d, sum_ + i * f_.d);
    if (both) add_difference(weight, f_.row(i), f_.row(j), f_.d, sum_ + j * f_.d);
  }

  void add_side(const Blocks& blocks, int64_t a, int64_t b, const T* weight, int64_t row_stride,
                int64_t column_stride, T* panel) {
    product_tile(ProductTile<T>{weight, row_stride, column_stride, blocks.length(a),
                                blocks.length(b), f_.d, f_.row(blocks.begin(b)), centre_.data(),
                                sum_ + blocks.begin(a) * f_.d, panel});
  }

  void finish_row(int64_t i) {
    const T* x = f_.row(i);
    T* g = sum_ + i * f_.d;
    const T degree = static_cast<T>(degree_[i]);
    if (form_ == Gradient::kLaplacian) difference_less(degree, x, centre_.data(), f_.d, g);
    T scale = f_.scale;
    if (f_.inverse != nullptr) {
      scale = f_.inverse[i];
      subtract_multiple(along(i, g, degree, scale), x, f_.d, g);
    }
    if constexpr (std::is_same_v<T, acc_t<S>>) {
      scaled_store(g, f_.d, scale, out_ + i * f_.d);
    } else {
      std::vector<acc_t<S>> rounded(f_.d);
      for (int64_t k = 0; k < f_.d; ++k) rounded[k] = static_cast<acc_t<S>>(g[k] * scale);
      scaled_store(rounded.data(), f_.d, acc_t<S>(1), out_ + i * f_.d);
    }
  }

  // What is to be taken off along row i, x: all, for only what turns a unit row is left. With eps,
  // c = 1 - eps * inverse is the row's length, and 1 - c of what stretches it is left.
  T along(int64_t i, const T* g, T degree, T inverse) const {
    const T* x = f_.row(i);
    const T product = dot(g, x, f_.d);
    if (f_.eps == 0) return product;
    const T squares = dot(x, x, f_.d), turned = squares > 0 ? product / squares : T(0);
    return turned - f_.eps * inverse * (turned - degree);
  }

  const Features<T>& f_;
  S* out_;
  T* sum_;
  Gradient form_;
  std::optional<Buffer<T>> own_;
  std::vector<T> limits_, centre_;
  std::vector<double> degree_;
};

}  // namespace kdops
