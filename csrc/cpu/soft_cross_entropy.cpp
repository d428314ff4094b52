// soft_cross_entropy: weight times -sum p log q, p = softmax(teacher / T), q = softmax(student /
// T), a row, as the KL of p and q plus the entropy of p, both of them sums without cancellation.
// The gradient is the KL's. The plan is logit_rows.cpp's.
#include "common/logit_rows.h"

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_soft_cross_entropy", TORCH_BOX(&kdops::soft_cross_entropy));
}
