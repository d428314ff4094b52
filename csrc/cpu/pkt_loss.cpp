// PKT's loss: c sum_i D(p_i, q_i), q_ij = k_ij / sum_m k_im of a similarity k of the student's
// rows, p of the teacher's, D the KL or Jeffreys divergence. With eps, as it is published: lengths
// of rows and both probabilities in the KL divergence's logarithm are larger by eps.
#include "cpu/log.h"
#include "cpu/row_relation.h"

namespace kdops {

template <class T>
using CosineKl = ConditionalPair<T, CosineSimilarity<T>, false>;
template <class T>
using CosineJeffreys = ConditionalPair<T, CosineSimilarity<T>, true>;
template <class T>
using StudentTKl = ConditionalPair<T, StudentT<T>, false>;
template <class T>
using StudentTJeffreys = ConditionalPair<T, StudentT<T>, true>;
KDOPS_ROW_KERNELS(CosineKl)
KDOPS_ROW_KERNELS(CosineJeffreys)
KDOPS_ROW_KERNELS(StudentTKl)
KDOPS_ROW_KERNELS(StudentTJeffreys)
KDOPS_ROW_KERNELS(SmoothedPair)

template <template <class> class Similarity, bool kJeffreys>
struct PktLoss {
  static constexpr bool kCosine = std::is_same_v<Similarity<float>, CosineSimilarity<float>>;
  static constexpr MapKind kind = kCosine ? MapKind::kInnerProduct : MapKind::kSquaredDistance;
  static constexpr Gradient form = Gradient::kLaplacian;
  template <class T>
  using Formula = ConditionalPair<T, Similarity<T>, kJeffreys>;

  bool self_pairs;
  int64_t power;

  template <class S>
  auto features_of(const Tensor& x) const {
    if constexpr (kCosine)
      return unit_rows<S>(x);
    else
      return features<S>(x);
  }
  template <class T>
  T no_pair() const {
    return Similarity<T>::kNoPair;
  }
  template <class T>
  static Similarity<T> similarity(const Features<T>& f) {
    if constexpr (kCosine)
      return {};
    else
      return {T(1) / f.scale};
  }
  template <class T>
  Formula<T> formula(const Features<T>& self, const Features<T>& other) const {
    return {similarity(self), similarity(other)};
  }
};

struct SmoothedPktLoss {
  static constexpr MapKind kind = MapKind::kInnerProduct;
  static constexpr Gradient form = Gradient::kLaplacian;
  template <class T>
  using Formula = SmoothedPair<T>;

  bool self_pairs;
  int64_t power;
  double eps;

  template <class S>
  auto features_of(const Tensor& x) const {
    return unit_rows<S>(x, divisor<acc_t<S>>(eps));
  }
  template <class T>
  T no_pair() const {
    return CosineSimilarity<T>::kNoPair;
  }
  template <class T>
  SmoothedPair<T> formula(const Features<T>&, const Features<T>&) const {
    return {{}, divisor<T>(eps)};
  }
};

std::vector<Tensor> pkt_loss_cpu(std::vector<Tensor> features, bool student_t, bool jeffreys,
                                 bool self_pairs, double eps, int64_t power, bool student_grad) {
  const auto run = [&](auto loss) {
    return row_relation("pkt_loss", features, loss, student_grad);
  };
  if (eps != 0) {
    KDOPS_CHECK(!student_t && !jeffreys, "pkt_loss: only the KL divergence of cosines has an eps");
    return run(SmoothedPktLoss{self_pairs, power, eps});
  }
  if (student_t)
    return jeffreys ? run(PktLoss<StudentT, true>{self_pairs, power})
                    : run(PktLoss<StudentT, false>{self_pairs, power});
  return jeffreys ? run(PktLoss<CosineSimilarity, true>{self_pairs, power})
                  : run(PktLoss<CosineSimilarity, false>{self_pairs, power});
}

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_pkt_loss", TORCH_BOX(&pkt_loss_cpu)); }

}  // namespace kdops
