// The op of a loss between maps: tensors to a Relation and back.
#pragma once

#include "common/features.h"
#include "cuda/relation.cuh"
#include "cuda/tensor.h"

namespace kdops {

// The factor of a reduction over all pairs.
inline double pair_factor(const std::vector<Tensor>& features, bool mean) {
  const double n = static_cast<double>(features[0].size(0));
  return mean ? 1 / std::max(1.0, n * n) : 1;
}

// Of checked features, the teacher last.
template <class Loss>
std::vector<Tensor> relation(const std::vector<Tensor>& features, const Loss& loss,
                             bool student_grad, bool teacher_grad) {
  KDOPS_CHECK(features.size() <= kMaxBatches, "kdops: at most ", kMaxBatches - 1,
              " students have CUDA kernels, got ", features.size() - 1);
  const Device device(features[0]);
  std::vector<Tensor> outputs = relation_outputs(features, student_grad, teacher_grad);
  dispatch_float(features[0].scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    Relation<S, Loss> r{};
    r.loss = loss;
    r.value = mutable_data<simt::acc_t<S>>(outputs[0]);
    r.batches.n = features[0].size(0);
    r.batches.count = static_cast<int>(features.size());
    size_t output = 1;
    for (int b = 0; b < r.batches.count; ++b) {
      r.batches.x[b] = const_data<S>(features[b]);
      r.batches.d[b] = features[b].size(1);
      if (b + 1 == r.batches.count ? teacher_grad : student_grad)
        r.gradients[b] = mutable_data<S>(outputs[output++]);
    }
    const Buffer<char> memory(features[0], static_cast<int64_t>(place_relation(r, nullptr)));
    place_relation(r, memory.data());
    launch_relation(r, device.stream());
  });
  return outputs;
}

}  // namespace kdops
