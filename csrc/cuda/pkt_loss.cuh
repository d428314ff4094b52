// PKT's loss: c sum_i D(p_i, q_i), q_ij = k_ij / sum_m k_im of a similarity k of the student's
// rows, p of the teacher's, D the KL or Jeffreys divergence. With eps, as it is published: lengths
// of rows and both probabilities in the KL divergence's logarithm are larger by eps.
#pragma once

#include "cuda/relate.cuh"

namespace kdops {

template <template <class> class Similarity, bool kJeffreys>
struct PktLoss {
  template <class T>
  using Formula = ConditionalRow<T, Similarity<T>, kJeffreys>;
  static constexpr bool kCosine = std::is_same_v<Similarity<float>, CosineOfSum<float>>;
  static constexpr MapKind kKind = kCosine ? MapKind::kSum : MapKind::kDistance;
  static constexpr Scaling kScaling = kCosine ? Scaling::kRows : Scaling::kBatch;
  static constexpr bool kLaplacian = true;
  static constexpr Normalised kNormalised = Normalised::kRows;

  bool self_pairs;
  double c, floor = 0;

  template <class T>
  SIMT_DEVICE T entry(T s, bool own) const {
    return own && !self_pairs ? Similarity<T>::kNoPair : s;
  }
  template <class T>
  SIMT_DEVICE Similarity<T> measure(T scale) const {
    if constexpr (kCosine)
      return {};
    else
      return {T(1) / scale};
  }
  template <class T>
  SIMT_DEVICE Formula<T> formula(const Similarity<T>& self, const Similarity<T>& other, double sum,
                                 double sum_other) const {
    return conditional_row<kJeffreys>(self, other, sum, sum_other);
  }
};

struct SmoothedPktLoss {
  template <class T>
  using Formula = SmoothedRow<T>;
  static constexpr MapKind kKind = MapKind::kProduct;
  static constexpr Scaling kScaling = Scaling::kRows;
  static constexpr bool kLaplacian = true;
  static constexpr Normalised kNormalised = Normalised::kRows;

  bool self_pairs;
  double c, eps;
  double floor = eps * eps;

  template <class T>
  SIMT_DEVICE T entry(T g, bool own) const {
    return own && !self_pairs ? CosineSimilarity<T>::kNoPair : g;
  }
  template <class T>
  SIMT_DEVICE CosineSimilarity<T> measure(T) const {
    return {};
  }
  template <class T>
  SIMT_DEVICE SmoothedRow<T> formula(CosineSimilarity<T>, CosineSimilarity<T>, double sum,
                                     double sum_other) const {
    return smoothed_row(divisor<T>(eps), sum, sum_other);
  }
};

// f(loss) for the loss that the arguments choose.
template <class F>
auto with_pkt_loss(bool student_t, bool jeffreys, bool self_pairs, double eps, double c, F f) {
  if (eps != 0) return f(SmoothedPktLoss{self_pairs, c, eps});
  if (student_t)
    return jeffreys ? f(PktLoss<StudentT, true>{self_pairs, c})
                    : f(PktLoss<StudentT, false>{self_pairs, c});
  return jeffreys ? f(PktLoss<CosineOfSum, true>{self_pairs, c})
                  : f(PktLoss<CosineOfSum, false>{self_pairs, c});
}

}  // namespace kdops
