// The ops over rows of logits: tensors to LogitRows and back.
#include "common/logit_rows.h"
#include "cuda/logit_rows.cuh"
#include "cuda/tensor.h"

namespace kdops {
namespace {

template <class S>
LogitRows<S> logit_rows_of(const LogitLoss& loss, int64_t rows, int64_t cols) {
  LogitRows<S> r{};
  r.rows = rows;
  r.cols = cols;
  r.temperature = loss.temperature;
  r.soft_weight = loss.soft_weight;
  r.hard_weight = loss.hard_weight;
  r.entropy = loss.entropy;
  r.reduction = static_cast<RowReduction>(loss.reduction);
  r.ignore_index = loss.ignore_index;
  return r;
}

static_assert(int(RowReduction::kMean) == kMean && int(RowReduction::kSum) == kSum &&
              int(RowReduction::kNone) == kNone);

}  // namespace

std::tuple<Tensor, Tensor> logit_loss(const LogitLoss& loss, const Tensor& student_,
                                      const Tensor& teacher_,
                                      const std::optional<Tensor>& target_) {
  check_logits(loss, student_, teacher_, target_);
  const Device device(student_);
  const Tensor student = as_contiguous(student_), teacher = as_contiguous(teacher_);
  std::optional<Tensor> target;
  if (target_) target = as_contiguous(*target_);
  const Tensor value = new_value(loss, student), gradient = new_gradient(loss, student);
  dispatch_float(student.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    const int64_t cols = student.sizes().back();
    LogitRows<S> r = logit_rows_of<S>(loss, student.numel() / cols, cols);
    r.student = const_data<S>(student);
    r.teacher = const_data<S>(teacher);
    r.labels = target ? target->const_data_ptr() : nullptr;
    r.labels_wide = target && target->scalar_type() == ScalarType::Long;
    r.value = mutable_data<simt::acc_t<S>>(value);
    r.gradient = loss.student_grad ? mutable_data<S>(gradient) : nullptr;
    r.shared_limit = shared_limit(student.get_device_index());
    const Buffer<char> memory(student, static_cast<int64_t>(logit_rows_workspace(r)));
    r.workspace = memory.data();
    launch_logit_rows(r, device.stream());
  });
  return {value, gradient};
}

}  // namespace kdops

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_kd_loss", TORCH_BOX(&kdops::kd_loss));
  m.impl("_soft_cross_entropy", TORCH_BOX(&kdops::soft_cross_entropy));
}
