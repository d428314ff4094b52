// kd_loss: kd_weight KL(softmax(teacher / T) || softmax(student / T)) + ce_weight CE(student), a
// row; kd_weight comes with the T^2. The gradient is kd_weight / T (q - p) + ce_weight
// (softmax(student)
// - onehot(target)), over the number of rows for the mean. The plan is logit_rows.cpp's.
#include "common/logit_rows.h"

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) { m.impl("_kd_loss", TORCH_BOX(&kdops::kd_loss)); }
