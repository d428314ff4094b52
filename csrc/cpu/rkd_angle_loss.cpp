// RKD's angle loss: c sum_abc huber(cos_abc - cos'_abc), the angle at a between b and c.
//
// Cosines come from the map of squared distances (formulas/angle.h): memory O(N^2). In float32 that
// identity loses the ratio of two lengths from a vertex; a batch with a ratio above 8 goes through
// float64 as a whole.
#include "cpu/angle_map.h"
#include "cpu/triplets.h"

namespace kdops {

// Of two maps: the sum of the losses; with a gradient, the weights of self's pairs.
template <class T>
class Triplets {
 public:
  Triplets(const AngleMap<T>& self, const AngleMap<T>& other, const Tensor& like)
      : self_(self), other_(other), like_(like), n_(self.f.n), stride_(self.squares.stride) {}

  double value() { return half_sums(nullptr, nullptr, nullptr) + pairs_with_themselves(); }

  // Adds to `weight`, symmetric.
  double value_and_weights(SquareMap<T>& weight) {
    SquareMap<T> sum_a(n_, like_), sum_b(n_, like_);
    Buffer<T> sum_z(like_, groups() * n_ * stride_);
    const double total = half_sums(&sum_a, &sum_b, sum_z.data()) + pairs_with_themselves();
    parallel(n_, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) add_weights(i, sum_a, sum_b, sum_z.data(), weight);
    });
    return total;
  }

 private:
  int64_t groups() const { return std::min<int64_t>(n_, n_ < 1024 ? 8 : 4); }

  // The triplets with b < c stand for those with c < b too.
  double half_sums(SquareMap<T>* sum_a, SquareMap<T>* sum_b, T* sum_z) {
    std::vector<double> parts(groups());
    parallel(groups(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) {
        TripletTile<T> t{};
        t.self = self_.side(), t.other = other_.side(), t.n = n_, t.stride = stride_;
        t.a_begin = n_ * g / groups(), t.a_end = n_ * (g + 1) / groups();
        t.sum_a = sum_a ? sum_a->data() : nullptr, t.sum_b = sum_b ? sum_b->data() : nullptr;
        t.sum_z = sum_z ? sum_z + g * n_ * stride_ : nullptr;
        for (t.b = 0; t.b < n_; t.b += kTileRows)
          for (t.c = t.b; t.c < n_; t.c += kTileColumns) parts[g] += triplet_tile(t);
      }
    });
    double total = 0;
    for (double part : parts) total += part;
    return total / 2;  // four times the value, of half of the triplets
  }

  // cos - cos' of b with itself at a: not 0 where one side's pair has no, or a bounded, length.
  T self_difference(int64_t a, int64_t b) const {
    return self_.self_cosine(a, b) - other_.self_cosine(a, b);
  }
  double pairs_with_themselves() const {
    double total = 0;
    for (int64_t a = 0; a < n_; ++a) {
      for (int64_t b = 0; b < n_; ++b) {
        const T u = self_difference(a, b);
        if (u != T(0)) total += huber_value<T>(u, huber_slope<T>(u));
      }
    }
    return total;
  }

  T vertex(int64_t i, int64_t j, const SquareMap<T>& a, const SquareMap<T>& b) const {
    const T p = self_.inverse(i, j);
    const T bounded = p * self_.eps < T(1) ? T(0) : p * p * huber_slope<T>(self_difference(i, j));
    return vertex_weight(a.row(i)[j] / 2, b.row(i)[j] / 4, p, self_.eps) + bounded;
  }
  // Row i above the diagonal, and its mirror image.
  void add_weights(int64_t i, const SquareMap<T>& a, const SquareMap<T>& b, const T* sum_z,
                   SquareMap<T>& weight) const {
    for (int64_t j = i + 1; j < n_; ++j) {
      T w = vertex(i, j, a, b) + vertex(j, i, a, b);
      for (int64_t g = 0; g < groups(); ++g) w -= sum_z[(g * n_ + i) * stride_ + j] / 2;
      weight.row(i)[j] += w;
      weight.row(j)[i] = weight.row(i)[j];
    }
  }

  const AngleMap<T>&self_, &other_;
  const Tensor& like_;
  const int64_t n_, stride_;
};

template <class S, class T>
void angle_loss(const std::vector<Tensor>& inputs, const std::vector<AngleMap<T>>& maps, double c,
                bool student_grad, bool teacher_grad, std::vector<Tensor>& outputs) {
  const auto& teacher = maps.back();
  const size_t students = maps.size() - 1;
  std::optional<SquareMap<T>> teachers;
  if (teacher_grad) teachers.emplace(teacher.f.n, inputs[0]);
  double value = 0;
  for (size_t i = 0; i < students; ++i) {
    Triplets<T> forward(maps[i], teacher, inputs[0]);
    if (student_grad) {
      SquareMap<T> weight(teacher.f.n, inputs[0]);
      value += forward.value_and_weights(weight);
      weight.scale(T(2 * c / maps[i].unit));
      weighted_gradient<S>(maps[i].f, weight, Gradient::kLaplacian, outputs[1 + i]);
    } else {
      value += forward.value();
    }
    if (teacher_grad) Triplets<T>(teacher, maps[i], inputs[0]).value_and_weights(*teachers);
  }
  if (teacher_grad) {
    teachers->scale(T(2 * c / teacher.unit));
    weighted_gradient<S>(teacher.f, *teachers, Gradient::kLaplacian, outputs.back());
  }
  *mutable_data<acc_t<S>>(outputs[0]) = static_cast<acc_t<S>>(c * value);
}

template <class S>
void angle_loss(const std::vector<Tensor>& inputs, double eps, double c, bool student_grad,
                bool teacher_grad, std::vector<Tensor>& outputs) {
  using T = acc_t<S>;
  std::vector<AngleMap<T>> maps;
  bool finite = true, uneven = false;
  for (const Tensor& x : inputs) {
    maps.emplace_back(features<S>(x, eps), eps, x);
    finite = finite && maps.back().f.finite;
    uneven = uneven || maps.back().uneven;
  }
  if (!finite) {
    for (Tensor& x : outputs) fill_nan(x);
  } else if (std::is_same_v<T, double> || !uneven) {
    angle_loss<S, T>(inputs, maps, c, student_grad, teacher_grad, outputs);
  } else if constexpr (std::is_same_v<T, float>) {
    std::vector<AngleMap<double>> exact;
    for (size_t i = 0; i < inputs.size(); ++i)
      exact.emplace_back(promoted(maps[i].f, inputs[i]), eps, inputs[i]);
    angle_loss<S, double>(inputs, exact, c, student_grad, teacher_grad, outputs);
  }
}

std::vector<Tensor> rkd_angle_loss_cpu(std::vector<Tensor> features, double eps, bool mean,
                                       bool student_grad, bool teacher_grad) {
  const std::vector<Tensor> inputs = checked_features("rkd_angle_loss", features);
  const double n = static_cast<double>(inputs[0].size(0));
  std::vector<Tensor> outputs = relation_outputs(inputs, student_grad, teacher_grad);
  dispatch_float(inputs[0].scalar_type(), [&](auto tag) {
    angle_loss<typename decltype(tag)::type>(inputs, eps, mean ? 1 / std::max(1.0, n * n * n) : 1,
                                             student_grad, teacher_grad, outputs);
  });
  return outputs;
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_rkd_angle_loss", TORCH_BOX(&rkd_angle_loss_cpu));
}

}  // namespace kdops
