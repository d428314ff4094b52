// Rows of logits: checks, outputs, and the split over threads.
//
// A row is read once: its chunks (chunk.h) leave e, h and f in scratch, the row's sums follow from
// theirs (softmax_row.h), and one sweep over the scratch writes the gradient. Threads share rows,
// never a row, and each row's value goes to its own place and is summed in order: results depend
// neither on threads nor on neighbours.
#include "common/logit_rows.h"

#include <algorithm>
#include <vector>

#include "cpu/long_rows.h"
#include "cpu/short_rows.h"
#include "cpu/tensor.h"

namespace kdops {
namespace {

constexpr int64_t kGrain = 16 * 1024;  // logits that are worth a thread

template <int W, class S>
KDOPS_INLINE void rows_impl(const Job<S>& job, int64_t begin, int64_t end, const Tensor& like) {
  alignas(64) acc_t<S> local[3 * kChunk];
  static_assert(3 * kChunk >= 5 * kShort * 64 / 4);
  if (job.cols > kShort) return long_rows<W>(job, begin, end, local, like);
  for (int64_t row = begin; row < end; row += lanes<acc_t<S>, W>) short_rows<W>(job, row, local);
}

#define KDOPS_ROWS(S)                                                                        \
  KDOPS_MULTIVERSION(rows, (const Job<S>& job, int64_t begin, int64_t end, const Tensor& t), \
                     (job, begin, end, t))
KDOPS_ROWS(float)
KDOPS_ROWS(double)
KDOPS_ROWS(BFloat16)
KDOPS_ROWS(Half)

template <class T>
void reduce(const LogitLoss& loss, const double* values, int64_t rows, int64_t counted, T* out) {
  if (loss.reduction == kNone) {
    for (int64_t row = 0; row < rows; ++row) out[row] = T(values[row]);
    return;
  }
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += values[row];
  out[0] = T(loss.reduction == kMean ? sum / double(std::max<int64_t>(counted, 1)) : sum);
}

}  // namespace

std::tuple<Tensor, Tensor> logit_loss(const LogitLoss& loss, const Tensor& student_,
                                      const Tensor& teacher_,
                                      const std::optional<Tensor>& target_) {
  check_logits(loss, student_, teacher_, target_);
  std::optional<Tensor> target;
  if (target_) target = as_contiguous(*target_);
  const Labels labels(target);
  const int64_t cols = student_.sizes().back(), rows = student_.numel() / cols;
  const int64_t counted = count_rows(loss, labels, loss.hard_weight != 0, rows, cols);

  const Tensor student = as_contiguous(student_), teacher = as_contiguous(teacher_);
  const Tensor value = new_value(loss, student), gradient = new_gradient(loss, student);
  std::vector<double> values(rows);
  dispatch_float(student.scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    const Job<S> job{loss,
                     const_data<S>(student),
                     const_data<S>(teacher),
                     labels,
                     rows,
                     cols,
                     loss.reduction == kMean ? 1 / double(std::max<int64_t>(counted, 1)) : 1.0,
                     values.data(),
                     loss.student_grad ? mutable_data<S>(gradient) : nullptr};
    // Short rows in whole vectors, on any level.
    const int64_t block = cols > kShort ? 1 : 64 / sizeof(acc_t<S>);
    parallel((rows + block - 1) / block, std::max<int64_t>(1, kGrain / (cols * block)),
             [&](int64_t begin, int64_t end) {
               kdops::rows(job, begin * block, std::min(end * block, rows), student);
             });
    reduce(loss, values.data(), rows, counted, mutable_data<acc_t<S>>(value));
  });
  return {value, gradient};
}

}  // namespace kdops
