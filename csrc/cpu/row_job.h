// What short and long rows of logits share: the job, a chunk's part in it, a row's value.
#pragma once

#include "common/logit_rows.h"
#include "cpu/softmax_row.h"

namespace kdops {

// int64 or int32 labels, or none.
class Labels {
 public:
  explicit Labels(const std::optional<Tensor>& target)
      : data_(target ? target->const_data_ptr() : nullptr),
        wide_(target && target->scalar_type() == ScalarType::Long) {}
  bool given() const { return data_ != nullptr; }
  int64_t operator[](int64_t row) const {
    return wide_ ? static_cast<const int64_t*>(data_)[row]
                 : static_cast<const int32_t*>(data_)[row];
  }

 private:
  const void* data_;
  bool wide_;
};

// The number of rows that count; every label that is read must be a class.
template <class Loss>
int64_t count_rows(const Loss& loss, const Labels& labels, bool read, int64_t rows, int64_t cols) {
  if (!labels.given()) return rows;
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = labels[row];
    if (label == loss.ignore_index) continue;
    ++counted;
    KDOPS_CHECK(!read || (label >= 0 && label < cols), loss.name, ": target must be in [0, ", cols,
                ") or ignore_index, got ", label, " in row ", row);
  }
  return counted;
}

// Rows to be done.
template <class S>
struct Job {
  const LogitLoss& loss;
  const S *student, *teacher;
  Labels labels;
  int64_t rows, cols;
  double scale;    // of the gradient: 1 / rows for the mean
  double* values;  // one a row
  S* gradient;     // or null

  bool soft() const { return loss.soft_weight != 0; }
  bool hard() const { return loss.hard_weight != 0; }
  bool counted(int64_t row) const { return !labels.given() || labels[row] != loss.ignore_index; }
};

// A class's gradient is by_e e + by_h h + by_f f.
struct Factors {
  double by_e, by_h, by_f;
};

template <class S>
Factors factors(const Job<S>& job, const Chunk& c, const RowHard& hard) {
  Factors f{0, 0, 0};
  if (job.soft()) {
    const double weight = job.scale * job.loss.soft_weight / job.loss.temperature;
    f.by_h = kLn2 * weight * c.q / (c.z * c.ratio);
    f.by_e = weight * (c.q_less_p - c.q * c.x / c.ratio) / c.z;
  }
  if (job.hard()) f.by_f = job.scale * job.loss.hard_weight * hard.factor(c);
  return f;
}

// The row's value from its chunks.
template <class S>
double finish(const Job<S>& job, int64_t row, Chunk* chunks, int64_t n, RowHard& hard) {
  double value = 0;
  if (job.soft()) {
    const RowSoft soft = combine(chunks, n, job.loss.temperature);
    value = job.loss.soft_weight * (soft.kl + (job.loss.entropy ? soft.entropy : 0));
  }
  if (job.hard()) {
    const S* logit = job.student + row * job.cols + job.labels[row];
    hard = combine_hard(chunks, n, load_as_n<acc_t<S>, 16>(logit, 1, acc_t<S>(0))[0]);
    value += job.loss.hard_weight * hard.value;
  }
  return value;
}

template <class T>
struct Scratch {
  T *e, *h, *f;
};

// What source's chunk leaves behind, and its sums, a row a lane.
template <class Source, class S, class T = acc_t<S>>
KDOPS_INLINE void read_chunk(const Job<S>& job, const Source& source, const int64_t* label,
                             Chunk* const* chunks, const Scratch<T>& scratch) {
  using V = typename Source::V;
  if (job.soft()) {
    Soft<V> soft;
    const T inverse_t = T(1 / job.loss.temperature);
    const V far = job.loss.entropy
                      ? soft_chunk<true>(source, inverse_t, soft, scratch.e, scratch.h)
                      : soft_chunk<false>(source, inverse_t, soft, scratch.e, scratch.h);
    for (int r = 0; r < Source::kRows; ++r)
      read(*chunks[r], soft, far[r] != 0, job.loss.entropy, r);
  }
  if (job.hard()) {
    Hard<V> hard;
    hard_chunk(source, label, hard, scratch.f);
    for (int r = 0; r < Source::kRows; ++r)
      chunks[r]->max_s = hard.max[r], chunks[r]->hard_z = hard.z[r];
  }
}

// walk(at), where at(i) is the gradient of the classes at place i of the scratch.
template <class V, class T, class Walk>
KDOPS_INLINE void class_gradients(bool soft, bool hard, const Scratch<T>& scratch, V by_e, V by_h,
                                  V by_f, Walk walk) {
  const auto of_soft = [&](int64_t i) KDOPS_BODY {
    return load<T, sizeof(V)>(scratch.h + i) * by_h + load<T, sizeof(V)>(scratch.e + i) * by_e;
  };
  const auto of_hard = [&](int64_t i)
                           KDOPS_BODY { return load<T, sizeof(V)>(scratch.f + i) * by_f; };
  if (soft && hard) return walk([&](int64_t i) KDOPS_BODY { return of_soft(i) + of_hard(i); });
  if (soft) return walk(of_soft);
  if (hard) return walk(of_hard);
  walk([](int64_t) KDOPS_BODY { return V{}; });
}

}  // namespace kdops
