// The op of a loss between maps: tensors to a Relation and back.
#pragma once

#include "cuda/batches.h"
#include "cuda/relate.cuh"

namespace kdops {

// The factor of a reduction that divides by a power of the number of rows.
inline double power_factor(const std::vector<Tensor>& features, int64_t power) {
  const double n = static_cast<double>(features[0].size(0));
  return 1 / std::pow(std::max(1.0, n), static_cast<double>(power));
}
// That of a reduction over all pairs.
inline double pair_factor(const std::vector<Tensor>& features, bool mean) {
  return power_factor(features, mean ? 2 : 0);
}

// Of checked features, the teacher last.
template <class Loss>
std::vector<Tensor> relation(const std::vector<Tensor>& features, const Loss& loss,
                             bool student_grad, bool teacher_grad) {
  const Device device(features[0]);
  const std::vector<Tensor> outputs = relation_outputs(features, student_grad, teacher_grad);
  dispatch_float(features[0].scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    Relation<S, Loss> r{};
    r.loss = loss;
    r.batches = batches_of<S>(features);
    set_outputs<S>(r, outputs, student_grad, teacher_grad);
    const Buffer<char> memory(features[0], static_cast<int64_t>(place_relation(r, nullptr)));
    place_relation(r, memory.data());
    launch_relation(r, device.stream());
  });
  return outputs;
}

}  // namespace kdops
