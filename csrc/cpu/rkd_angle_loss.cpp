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
  Triplets(const AngleMap<T>& self, const AngleMap<T>& other)
      : self_(self), other_(other), n_(self.f.n) {}

  double value() { return half_sums(nullptr, nullptr) + pairs_with_themselves(nullptr); }

  // Adds to `weight`, symmetric.
  double value_and_weights(SquareMap<T>& weight, const Tensor& like) {
    const int64_t size = self_.vertices * self_.vertices;
    const Buffer<T> vertex(like, size);
    std::fill_n(vertex.data(), size, T(0));
    const double total = half_sums(vertex.data(), weight.data());
    const double rest = pairs_with_themselves(vertex.data());
    const WeightTile<T> t{self_.side().inverses, vertex.data(), weight.data(), n_, self_.vertices};
    parallel(self_.vertices / kTripletBlock, 4,
             [&](int64_t begin, int64_t end) { finish_weights(t, begin, end); });
    return total + rest;
  }

 private:
  // A thread's task, of tiles.
  Blocks blocks() const {
    Blocks b(n_);
    b.size = n_ < 512 ? kTripletBlock : 4 * kTripletBlock, b.count = (n_ + b.size - 1) / b.size;
    return b;
  }

  // The triplets with b < c stand for those with c < b too.
  double half_sums(T* vertex, T* weight) {
    const Blocks blocks = this->blocks();
    std::vector<double> parts(blocks.tiles());
    for_each_meeting(blocks, [&] {
      return [&](int64_t b, int64_t c) {
        TripletTile<T> t{};
        t.self = self_.side(), t.other = other_.side();
        t.vertices = self_.vertices;
        t.bound = 1 / self_.eps;
        t.vertex = vertex, t.weight = weight;
        double& part = parts[blocks.tile(b, c)];
        const int64_t b_end = blocks.begin(b) + blocks.length(b),
                      c_end = blocks.begin(c) + blocks.length(c);
        for (int64_t i = blocks.begin(b); i < b_end; i += kTripletBlock) {
          t.b_begin = i, t.b_end = std::min(b_end, i + kTripletBlock);
          for (int64_t j = b == c ? i : blocks.begin(c); j < c_end; j += kTripletBlock) {
            t.c_begin = j, t.c_end = std::min(c_end, j + kTripletBlock);
            part += triplet_tile(t);
          }
        }
      };
    });
    double total = 0;
    for (double part : parts) total += part;
    return total / 2;  // four times the value, of half of the triplets
  }

  // cos - cos' of b with itself at a: not 0 where one side's pair has no, or a bounded, length.
  double pairs_with_themselves(T* vertex) const {
    double total = 0;
    if (self_.regular && other_.regular) return total;
    for (int64_t a = 0; a < n_; ++a) {
      for (int64_t b = 0; b < n_; ++b) {
        const T u = self_.self_cosine(a, b) - other_.self_cosine(a, b), p = self_.inverse(a, b);
        const T slope = huber_slope<T>(u);
        total += huber_value<T>(u, slope);
        if (vertex != nullptr && p * self_.eps >= T(1))
          vertex[blocked(self_.vertices, b, a)] += 2 * p * slope;
      }
    }
    return total;
  }

  const AngleMap<T>&self_, &other_;
  const int64_t n_;
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
    Triplets<T> forward(maps[i], teacher);
    if (student_grad) {
      SquareMap<T> weight(teacher.f.n, inputs[0]);
      value += forward.value_and_weights(weight, inputs[0]);
      weight.scale(T(2 * c / maps[i].unit));
      weighted_gradient<S>(maps[i].f, weight, Gradient::kLaplacian, outputs[1 + i]);
    } else {
      value += forward.value();
    }
    if (teacher_grad) Triplets<T>(teacher, maps[i]).value_and_weights(*teachers, inputs[0]);
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
  maps.reserve(inputs.size());
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
    std::vector<Features<double>> wide;
    for (size_t i = 0; i < inputs.size(); ++i) wide.push_back(promoted(maps[i].f, inputs[i]));
    maps.clear();
    std::vector<AngleMap<double>> exact;
    for (size_t i = 0; i < inputs.size(); ++i)
      exact.emplace_back(std::move(wide[i]), eps, inputs[i]);
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
