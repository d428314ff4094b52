// soft_cross_entropy: weight times -sum p log q, p = softmax(teacher / T), q = softmax(student /
// T), a row, as the KL of p and q plus the entropy of p, both of them sums without cancellation.
// The gradient is the KL's. The plan is logit_rows.cpp's.
#include "common/logit_rows.h"

namespace kdops {
namespace {

std::tuple<Tensor, Tensor> soft_cross_entropy_cpu(const Tensor& student, const Tensor& teacher,
                                                  double temperature, double weight,
                                                  int64_t reduction, bool student_grad) {
  const LogitLoss loss{"soft_cross_entropy", temperature, weight, 0, true, reduction, 0,
                       student_grad};
  return logit_loss(loss, student, teacher, std::nullopt);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_soft_cross_entropy", TORCH_BOX(&soft_cross_entropy_cpu));
}

}  // namespace kdops
