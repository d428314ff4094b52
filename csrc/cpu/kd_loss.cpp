// kd_loss: kd_weight KL(softmax(teacher / T) || softmax(student / T)) + ce_weight CE(student), a
// row; kd_weight comes with the T^2. The gradient is kd_weight / T (q - p) + ce_weight
// (softmax(student)
// - onehot(target)), over the number of rows for the mean. The plan is logit_rows.cpp's.
#include "common/logit_rows.h"

namespace kdops {
namespace {

std::tuple<Tensor, Tensor> kd_loss_cpu(const Tensor& student, const Tensor& teacher,
                                       const std::optional<Tensor>& target, double temperature,
                                       double kd_weight, double ce_weight, int64_t reduction,
                                       int64_t ignore_index, bool student_grad) {
  const LogitLoss loss{"kd_loss", temperature, kd_weight,    ce_weight,
                       false,     reduction,   ignore_index, student_grad};
  return logit_loss(loss, student, teacher, target);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_kd_loss", TORCH_BOX(&kd_loss_cpu)); }

}  // namespace kdops
