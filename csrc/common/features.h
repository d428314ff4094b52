// What the ops over features need before they read or write: checks and outputs.
#pragma once

#include <vector>

#include "common/tensor.h"

namespace kdops {

// Features (N, D) of one type and one N, contiguous.
inline std::vector<Tensor> checked_features(const char* name, const std::vector<Tensor>& tensors) {
  KDOPS_CHECK(!tensors.empty(), name, ": features must not be empty");
  std::vector<Tensor> checked;
  for (const Tensor& x : tensors) {
    KDOPS_CHECK(x.dim() == 2, name, ": features must be (N, D), got ", x.dim(), " dimensions");
    KDOPS_CHECK(x.size(1) > 0, name, ": features must have at least one column");
    KDOPS_CHECK(x.size(0) == tensors[0].size(0), name, ": features must have the same rows, got ",
                tensors[0].size(0), " and ", x.size(0));
    KDOPS_CHECK(x.scalar_type() == tensors[0].scalar_type(), name,
                ": features must have the same dtype");
    KDOPS_CHECK(on_one_device(x, tensors[0]), name, ": features must be on one device");
    checked.push_back(as_contiguous(x));
  }
  return checked;
}

// The same of one student and its teacher.
inline std::vector<Tensor> checked_pair(const char* name, const std::vector<Tensor>& tensors) {
  KDOPS_CHECK(tensors.size() == 2, name, ": features must be a student's and a teacher's");
  return checked_features(name, tensors);
}

// The output of a map op: (n, ..., n) in the accumulation type.
inline Tensor new_map(const Tensor& x, int dimensions) {
  const std::vector<int64_t> sizes(dimensions, x.size(0));
  return new_tensor(x, sizes, accumulation_dtype(x.scalar_type()));
}

// What a map op's upstream gradient must be.
inline Tensor checked_upstream(const char* name, const Tensor& upstream, const Tensor& x,
                               int dimensions) {
  KDOPS_CHECK(upstream.dim() == dimensions, name, ": upstream must have the map's shape");
  for (int i = 0; i < dimensions; ++i)
    KDOPS_CHECK(upstream.size(i) == x.size(0), name, ": upstream must have the map's shape");
  KDOPS_CHECK(upstream.scalar_type() == accumulation_dtype(x.scalar_type()), name,
              ": upstream must have the map's dtype");
  KDOPS_CHECK(on_one_device(upstream, x), name, ": upstream must be on the map's device");
  return as_contiguous(upstream);
}

// A relation's outputs: the value, then the gradients that are wanted, the teacher (last) last.
inline std::vector<Tensor> relation_outputs(const std::vector<Tensor>& inputs, bool student_grad,
                                            bool teacher_grad) {
  std::vector<Tensor> outputs{
      new_tensor(inputs[0], {}, accumulation_dtype(inputs[0].scalar_type()))};
  for (size_t i = 0; i < inputs.size(); ++i)
    if (i + 1 == inputs.size() ? teacher_grad : student_grad)
      outputs.push_back(new_like(inputs[i]));
  return outputs;
}

}  // namespace kdops
