// Tensors to what the kernels over features take, and to what they write.
#pragma once

#include "common/features.h"
#include "cuda/features.cuh"
#include "cuda/tensor.h"

namespace kdops {

template <class S>
Batches<S> batches_of(const std::vector<Tensor>& features) {
  KDOPS_CHECK(features.size() <= kMaxBatches, "kdops: at most ", kMaxBatches - 1,
              " students have CUDA kernels, got ", features.size() - 1);
  Batches<S> batches{};
  batches.n = features[0].size(0);
  batches.count = static_cast<int>(features.size());
  for (int b = 0; b < batches.count; ++b) {
    batches.x[b] = const_data<S>(features[b]);
    batches.d[b] = features[b].size(1);
  }
  return batches;
}

// A relation's outputs (common/features.h) to the value and the gradients of a job over batches.
template <class S, class Job>
void set_outputs(Job& job, const std::vector<Tensor>& outputs, bool student_grad,
                 bool teacher_grad) {
  job.value = mutable_data<simt::acc_t<S>>(outputs[0]);
  size_t output = 1;
  for (int b = 0; b < job.batches.count; ++b)
    if (b + 1 == job.batches.count ? teacher_grad : student_grad)
      job.gradients[b] = mutable_data<S>(outputs[output++]);
}

}  // namespace kdops
