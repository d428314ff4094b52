// A loss between two maps of a batch whose rows are normalised each by itself.
//
// Both maps are made whole; then each row is walked three times while it lies in the cache: its
// normalisers, its terms, its weights. The weights of row i go where the teacher's row was, those
// of both orders of a pair are added, and the gradient is their Laplacian, or their product, with
// the rows.
//
// A type Loss describes one loss:
//   Formula<T>                     a row's terms and weights (formulas/row_relations.h)
//   kind, form                     its map, the form of its gradient
//   no_pair<T>()                   what a map holds where there is no pair
//   features_of<S>(tensor)         the features that it compares
//   measure(self, other, s, k)     of an entry of each map, what their normalisers sum
//   row(self, other, sum, sum_other)     the formula, once the sums are known
//   self_pairs, power              whether a row pairs with itself; the value's divisor N^power
#pragma once

#include "cpu/square_map.h"
#include "formulas/row_relations.h"

namespace kdops {

template <class T>
struct MapRow {
  const T* self;
  T* other;   // whole vectors; its weights on return
  int64_t n;  // of them
  double factor;
  bool wanted;  // the weights
};
struct RowSums {
  double self, other;
};

template <int W, class T, class Measure>
KDOPS_INLINE RowSums row_sums_impl(const MapRow<T>& r, const Measure& measure) {
  using V = vec<T, W>;
  wide<V> sum = {}, sum_other = {};
  for (int64_t j = 0; j < r.n; j += lanes<T, W>) {
    sum += widened(measure.self(load<T, W>(r.self + j)));
    sum_other += widened(measure.other(load<T, W>(r.other + j)));
  }
  return {sum_wide(sum), sum_wide(sum_other)};
}

// The row's discrepancy.
template <int W, class T, class Formula>
KDOPS_INLINE double row_terms_impl(const MapRow<T>& r, const Formula& formula) {
  using V = vec<T, W>;
  constexpr int L = lanes<T, W>;
  V value = {}, moment = {};
  for (int64_t j = 0; j < r.n; j += L) {
    const RowTerm<V> term = formula(load<T, W>(r.self + j), load<T, W>(r.other + j));
    value += term.value, moment += term.moment;
    if (r.wanted) store(r.other + j, term.pull);
  }
  const V total = V{} + sum(moment);
  for (int64_t j = 0; r.wanted && j < r.n; j += L) {
    const V weight = formula.weight(load<T, W>(r.self + j), load<T, W>(r.other + j), total);
    store(r.other + j, weight * T(r.factor));
  }
  return sum(value);
}

template <class T>
void mark_no_pairs(const SquareMap<T>& map, T mark, bool diagonal) {
  for (int64_t i = 0; i < map.n; ++i) {
    std::fill(map.row(i) + map.n, map.row(i) + map.stride, mark);
    if (diagonal) map.row(i)[i] = mark;
  }
}

// w_ij + w_ji for the tiles of one half, which is all that the gradient reads.
template <class T>
void add_transposed(const SquareMap<T>& weight) {
  const Blocks blocks(weight.n);
  for_each_tile(blocks, [&] {
    return [&](int64_t a, int64_t b) {
      const int64_t i0 = blocks.begin(a), j0 = blocks.begin(b);
      for (int64_t i = i0; i < i0 + blocks.length(a); ++i)
        for (int64_t j = a == b ? i : j0; j < j0 + blocks.length(b); ++j) {
          const T w = weight.row(i)[j] + weight.row(j)[i];
          weight.row(i)[j] = w;
          if (a == b) weight.row(j)[i] = w;
        }
    };
  });
}

template <class S, class Loss>
class RowRelation {
  using T = acc_t<S>;

 public:
  RowRelation(const std::vector<Tensor>& inputs, const Loss& loss)
      : loss_(loss),
        self_(loss.template features_of<S>(inputs[0])),
        other_(loss.template features_of<S>(inputs[1])),
        map_(whole_map(self_, loss.kind, inputs[0])),
        map_other_(whole_map(other_, loss.kind, inputs[0])) {
    for (const auto* map : {&map_, &map_other_})
      mark_no_pairs(*map, loss.template no_pair<T>(), !loss.self_pairs);
  }
  bool finite() const { return self_.finite && other_.finite; }

  // The loss; the gradient into `gradient` where that is wanted.
  double operator()(const Tensor* gradient, const Tensor& like) {
    const int64_t n = self_.n;
    const double factor = std::pow(1 / std::max(1.0, double(n)), loss_.power);
    Buffer<double> values(like, std::max<int64_t>(1, n));
    parallel(n, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, n)),
             [&](int64_t begin, int64_t end) {
               for (int64_t i = begin; i < end; ++i) {
                 const MapRow<T> row{map_.row(i), map_other_.row(i), map_.stride, factor,
                                     gradient != nullptr};
                 const RowSums sums = row_sums(row, loss_.measure(self_, other_));
                 values.data()[i] = row_terms(row, loss_.row(self_, other_, sums));
               }
             });
    if (gradient != nullptr) write_gradient(*gradient);
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += values.data()[i];
    return total * factor;
  }

 private:
  void write_gradient(const Tensor& out) {
    add_transposed(map_other_);
    for (int64_t i = 0; i < map_other_.n; ++i)
      std::fill(map_other_.row(i) + map_other_.n, map_other_.row(i) + map_other_.stride, T(0));
    const bool distances = loss_.kind == MapKind::kSquaredDistance;
    weighted_gradient<S>(self_, map_other_, loss_.form, out, distances ? &map_ : nullptr);
  }

  Loss loss_;
  Features<T> self_, other_;
  SquareMap<T> map_, map_other_;
};

// The value, and the student's gradient where that is wanted.
template <class Loss>
std::vector<Tensor> row_relation(const char* name, const std::vector<Tensor>& features,
                                 const Loss& loss, bool student_grad) {
  KDOPS_CHECK(features.size() == 2, name, ": features must be a student's and a teacher's");
  const std::vector<Tensor> inputs = checked_features(name, features);
  std::vector<Tensor> outputs = relation_outputs(inputs, student_grad, false);
  dispatch_float(inputs[0].scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    RowRelation<S, Loss> relation(inputs, loss);
    auto* value = mutable_data<acc_t<S>>(outputs[0]);
    if (relation.finite()) {
      *value = static_cast<acc_t<S>>(relation(student_grad ? &outputs[1] : nullptr, inputs[0]));
    } else {
      for (Tensor& output : outputs) fill_nan(output);
    }
  });
  return outputs;
}

#define KDOPS_ROW_KERNELS(Formula)                                                         \
  KDOPS_MULTIVERSION(row_terms, (const MapRow<float>& r, const Formula<float>& f), (r, f)) \
  KDOPS_MULTIVERSION(row_terms, (const MapRow<double>& r, const Formula<double>& f), (r, f))
#define KDOPS_ROW_MEASURE(Measure)                                                        \
  KDOPS_MULTIVERSION(row_sums, (const MapRow<float>& r, const Measure<float>& m), (r, m)) \
  KDOPS_MULTIVERSION(row_sums, (const MapRow<double>& r, const Measure<double>& m), (r, m))

}  // namespace kdops
