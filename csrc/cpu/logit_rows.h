// The losses over rows of logits: soft term, hard term, and both in one pass.
#pragma once

#include <optional>
#include <tuple>

#include "cpu/tensor.h"

namespace kdops {

enum Reduction { kMean, kSum, kNone };

struct LogitLoss {
  const char* name;
  double temperature;
  double soft_weight;  // of KL, with T^2
  double hard_weight;
  bool entropy;  // add the teacher's: KL becomes the soft cross-entropy
  int64_t reduction, ignore_index;
  bool student_grad;
};

// The value, and its gradient to student, or an empty tensor.
std::tuple<Tensor, Tensor> logit_loss(const LogitLoss& loss, const Tensor& student,
                                      const Tensor& teacher, const std::optional<Tensor>& target);

}  // namespace kdops
