// A loss between two maps of a batch whose rows are normalised each by itself.
//
// Passes over the tiles of half of each map. The first makes them and keeps them, and takes the
// sums of their rows; the last takes the values, the weights, and the weights' product with the
// rows. Where a normaliser's gradient needs a sum over the row, a pass between takes that.
//
// A type Loss describes one loss:
//   Formula<T>                     a pair's terms and weights (formulas/row_pairs.h)
//   kind, form                     its map, the form of its gradient
//   no_pair<T>()                   what a map holds where there is no pair
//   features_of<S>(tensor)         the features that it compares
//   formula(self, other)           of their maps
//   self_pairs, power              whether a row pairs with itself; the value's divisor N^power
#pragma once

#include "cpu/laplacian.h"
#include "cpu/map.h"
#include "cpu/row_tile.h"

namespace kdops {

template <class S, class Loss>
class RowRelation {
  using T = acc_t<S>;
  using Formula = typename Loss::template Formula<T>;
  static constexpr bool kNear = Loss::kind == MapKind::kSquaredDistance;

 public:
  RowRelation(const std::vector<Tensor>& inputs, const Loss& loss)
      : loss_(loss),
        blocks_(inputs[0].size(0)),
        map_(loss.template features_of<S>(inputs[0]), loss.kind, blocks_, true, inputs[0]),
        other_(loss.template features_of<S>(inputs[1]), loss.kind, blocks_, true, inputs[0]),
        formula_(loss.formula(map_.f, other_.f)),
        stride_(blocks_.count * blocks_.size),
        sums_(6 * stride_),
        scales_(5 * stride_),
        values_(blocks_.tiles()),
        factor_(std::pow(1 / std::max(1.0, double(blocks_.rows)), loss.power)) {}
  bool finite() const { return map_.f.finite && other_.f.finite; }

  // The loss; the gradient into `gradient` where that is wanted.
  double operator()(const Tensor* gradient) {
    take_sums();
    if (gradient == nullptr || Formula::kMoments) take_values();
    if (gradient != nullptr) write_gradient(*gradient);
    double total = 0;
    for (const double value : values_) total += value;
    return total * factor_;
  }

 private:
  RowTile<T> tile(int64_t a, int64_t b, T* self, T* other) {
    const int64_t i = blocks_.begin(a), j = blocks_.begin(b);
    double* sum = sums_.data();
    const RowScales<T> scales{scales_.data(), stride_};
    return {self,
            other,
            blocks_.length(a),
            blocks_.length(b),
            blocks_.size,
            a == b,
            sum + i,
            sum + stride_ + i,
            sum + j,
            sum + stride_ + j,
            sum + 2 * stride_ + i,
            sum + 2 * stride_ + j,
            scales.from(i),
            scales.from(j)};
  }
  RowTile<T> kept_tile(int64_t a, int64_t b) {
    return tile(a, b, map_.get(a, b, nullptr, nullptr), other_.get(a, b, nullptr, nullptr));
  }

  // What is no pair, in a tile of either map.
  void mark(const RowTile<T>& p) const {
    const T none = loss_.template no_pair<T>();
    const int64_t end = std::min(blocks_.size, (p.columns + lanes<T> - 1) / lanes<T> * lanes<T>);
    for (T* map : {p.self, p.other}) {
      for (int64_t i = 0; i < p.rows; ++i) {
        std::fill(map + i * p.stride + p.columns, map + i * p.stride + end, none);
        if (p.diagonal && !loss_.self_pairs) map[i * p.stride + i] = none;
      }
    }
  }

  void take_sums() {
    for_each_meeting(blocks_, [&] {
      return
          [&, panel = Scratch<T>(std::max(map_.f.d, other_.f.d) * lanes<T>)](int64_t a, int64_t b) {
            T* self = map_.make(a, b, nullptr, panel.get());
            const RowTile<T> p = tile(a, b, self, other_.make(a, b, nullptr, panel.get()));
            mark(p);
            row_sums_tile(p, formula_);
          };
    });
    const RowScales<T> scales{scales_.data(), stride_};
    for (int64_t i = 0; i < blocks_.rows; ++i)
      scales.set(i, Formula::scale(sums_[i], sums_[stride_ + i]));
  }

  void take_values() {
    for_each_meeting(blocks_, [&] {
      return [&](int64_t a, int64_t b) {
        values_[blocks_.tile(a, b)] = row_terms_tile(kept_tile(a, b), formula_);
      };
    });
    const RowScales<T> scales{scales_.data(), stride_};
    for (int64_t i = 0; i < blocks_.rows; ++i) scales.set_sum(i, T(sums_[2 * stride_ + i]));
  }

  void write_gradient(const Tensor& out) {
    Laplacian<S> side(map_.f, out, loss_.form, kNear);
    for_each_meeting(blocks_, [&] {
      return [&, weight = Scratch<T>(blocks_.size * blocks_.size),
              sums = Scratch<T>(2 * blocks_.size), panel = Scratch<T>(blocks_.size * lanes<T>),
              near = std::vector<NearPair<T>>()](int64_t a, int64_t b) mutable {
        RowTile<T> tile = kept_tile(a, b);
        tile.weight = weight.get(), tile.factor = T(factor_);
        values_[blocks_.tile(a, b)] = row_terms_tile(tile, formula_);
        PairTile<T> p{tile.self, nullptr, tile.rows, tile.columns, tile.stride, weight.get()};
        p.row_sum = sums.get(), p.column_sum = sums.get() + blocks_.size;
        if constexpr (kNear) {
          p.row_limit = side.limit(blocks_.begin(a)), p.column_limit = side.limit(blocks_.begin(b));
          p.near = &near;
          near.clear();
        }
        sum_tile(p);
        side.add(blocks_, a, b, p, panel.get());
      };
    });
    side.finish();
  }

  const Loss& loss_;
  Blocks blocks_;
  Map<T> map_, other_;
  Formula formula_;
  int64_t stride_;
  std::vector<double> sums_;  // of the student's rows, the teacher's, the moments
  std::vector<T> scales_;
  std::vector<double> values_;  // of the tiles
  double factor_;
};

// The value, and the student's gradient where that is wanted.
template <class Loss>
std::vector<Tensor> row_relation(const char* name, const std::vector<Tensor>& features,
                                 const Loss& loss, bool student_grad) {
  const std::vector<Tensor> inputs = checked_pair(name, features);
  std::vector<Tensor> outputs = relation_outputs(inputs, student_grad, false);
  dispatch_float(inputs[0].scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    RowRelation<S, Loss> relation(inputs, loss);
    auto* value = mutable_data<acc_t<S>>(outputs[0]);
    if (relation.finite()) {
      *value = static_cast<acc_t<S>>(relation(student_grad ? &outputs[1] : nullptr));
    } else {
      for (Tensor& output : outputs) fill_nan(output);
    }
  });
  return outputs;
}

}  // namespace kdops
