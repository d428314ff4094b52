// The losses over rows of logits: soft term, hard term, and both in one pass.
#pragma once

#include <cmath>
#include <optional>
#include <tuple>

#include "common/tensor.h"

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

inline void check_logits(const LogitLoss& loss, const Tensor& student, const Tensor& teacher,
                         const std::optional<Tensor>& target) {
  const ScalarType dtype = student.scalar_type();
  KDOPS_CHECK(dtype == teacher.scalar_type(), loss.name, ": teacher must have student's dtype");
  KDOPS_CHECK(student.dim() >= 1 && student.sizes().equals(teacher.sizes()), loss.name,
              ": teacher must have student's shape");
  KDOPS_CHECK(on_one_device(student, teacher), loss.name, ": teacher must be on student's device");
  KDOPS_CHECK(student.size(student.dim() - 1) > 0, loss.name,
              ": student must have at least one class, got 0");
  KDOPS_CHECK(loss.temperature > 0 && std::isfinite(loss.temperature), loss.name,
              ": temperature must be finite and > 0, got ", loss.temperature);
  KDOPS_CHECK(loss.reduction >= kMean && loss.reduction <= kNone, loss.name,
              ": reduction must be 0, 1 or 2, got ", loss.reduction);
  KDOPS_CHECK(loss.hard_weight == 0 || target, loss.name, ": target must be given for ce_weight");
  if (!target) return;
  const ScalarType type = target->scalar_type();
  KDOPS_CHECK(type == ScalarType::Long || type == ScalarType::Int, loss.name,
              ": target must be int64 or int32");
  KDOPS_CHECK(on_one_device(student, *target), loss.name, ": target must be on student's device");
  KDOPS_CHECK(target->sizes().equals(student.sizes().slice(0, student.dim() - 1)), loss.name,
              ": target must have student's leading shape");
}

// A value, or one a row.
inline Tensor new_value(const LogitLoss& loss, const Tensor& student) {
  const auto sizes = student.sizes();
  return new_tensor(student, loss.reduction == kNone ? sizes.slice(0, sizes.size() - 1) : Sizes{},
                    accumulation_dtype(student.scalar_type()));
}
// The student's gradient, or an empty tensor.
inline Tensor new_gradient(const LogitLoss& loss, const Tensor& student) {
  const int64_t none = 0;
  return new_tensor(student, loss.student_grad ? student.sizes() : Sizes(&none, 1),
                    student.scalar_type());
}

// Value and gradient: each device's own.
std::tuple<Tensor, Tensor> logit_loss(const LogitLoss& loss, const Tensor& student,
                                      const Tensor& teacher, const std::optional<Tensor>& target);

inline std::tuple<Tensor, Tensor> kd_loss(const Tensor& student, const Tensor& teacher,
                                          const std::optional<Tensor>& target, double temperature,
                                          double kd_weight, double ce_weight, int64_t reduction,
                                          int64_t ignore_index, bool student_grad) {
  const LogitLoss loss{"kd_loss", temperature, kd_weight,    ce_weight,
                       false,     reduction,   ignore_index, student_grad};
  return logit_loss(loss, student, teacher, target);
}

inline std::tuple<Tensor, Tensor> soft_cross_entropy(const Tensor& student, const Tensor& teacher,
                                                     double temperature, double weight,
                                                     int64_t reduction, bool student_grad) {
  const LogitLoss loss{"soft_cross_entropy", temperature, weight, 0, true, reduction, 0,
                       student_grad};
  return logit_loss(loss, student, teacher, std::nullopt);
}

}  // namespace kdops
