// Rows of logits: checks, the split into rows and chunks, and the gradient's sweep.
//
// A row is read once: its chunks (chunk.h) leave e, h and f in scratch, the row's sums follow from
// theirs (softmax_row.h), and one sweep over the scratch writes the gradient. Short rows are taken
// as many at a time as a vector has lanes. Threads share rows, never a row, and each row's value
// goes to its own place and is summed in order: results do not depend on threads or neighbours.
#include "cpu/logit_rows.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/softmax_row.h"

namespace kdops {
namespace {

constexpr int64_t kShort = 48;         // columns up to which lanes are rows
constexpr int64_t kGrain = 16 * 1024;  // logits that are worth a thread

class Labels {
 public:
  explicit Labels(const std::optional<Tensor>& target) {
    if (!target) return;
    const_cast<bool&>(wide_) = target->scalar_type() == ScalarType::Long;
    data_ = target->const_data_ptr();
  }
  bool given() const { return data_ != nullptr; }
  int64_t operator[](int64_t row) const {
    return wide_ ? static_cast<const int64_t*>(data_)[row]
                 : static_cast<const int32_t*>(data_)[row];
  }

 private:
  const void* data_ = nullptr;
  bool wide_ = false;
};

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
    f.by_h = weight * c.q / (c.z * c.ratio);
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

template <bool kSoft, bool kHard, class V, class T>
KDOPS_INLINE V class_gradient(const Scratch<T>& scratch, int64_t i, V by_e, V by_h, V by_f) {
  V g{};
  if constexpr (kSoft)
    g = load<T, sizeof(V)>(scratch.h + i) * by_h + load<T, sizeof(V)>(scratch.e + i) * by_e;
  if constexpr (kHard) g += load<T, sizeof(V)>(scratch.f + i) * by_f;
  return g;
}

template <bool kSoft, bool kHard, int W, class S, class T = acc_t<S>>
KDOPS_INLINE void write_chunk(const Scratch<T>& scratch, const Factors& by, S* out, int64_t n) {
  const auto by_e = broadcast<T, W>(by.by_e), by_h = broadcast<T, W>(by.by_h),
             by_f = broadcast<T, W>(by.by_f);
  const auto at = [&](int64_t i) KDOPS_BODY {
    return class_gradient<kSoft, kHard>(scratch, i, by_e, by_h, by_f);
  };
  constexpr int L = lanes<T, W>;
  for (int64_t i = 0; i + L <= n; i += L) store_as(out + i, at(i));
  if (n % L == 0) return;
  if (n > L) store_as(out + n - L, at(n - L));
  if (n < L) store_as_n(out, at(0), n);
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void write_chunk(const Job<S>& job, const Scratch<T>& scratch, const Factors& by,
                              S* out, int64_t n) {
  if (!job.hard()) return write_chunk<true, false, W>(scratch, by, out, n);
  if (job.soft()) return write_chunk<true, true, W>(scratch, by, out, n);
  write_chunk<false, true, W>(scratch, by, out, n);
}

// One row, its columns in chunks. The scratch holds the row, or a chunk when no gradient is wanted.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void long_row(const Job<S>& job, int64_t row, const Scratch<T>& scratch,
                           std::vector<Chunk>& chunks) {
  S* out = job.gradient ? job.gradient + row * job.cols : nullptr;
  if (!job.counted(row)) {
    job.values[row] = 0;
    if (out) std::memset(out, 0, job.cols * sizeof(S));
    return;
  }
  const int64_t label = job.hard() ? job.labels[row] : -1;
  const auto at = [&](int64_t begin) {
    const int64_t i = out ? begin : 0;
    return Scratch<T>{scratch.e + i, scratch.h + i, scratch.f + i};
  };
  for (int64_t begin = 0, c = 0; begin < job.cols; begin += kChunk, ++c) {
    const int64_t first = row * job.cols + begin, in_chunk = label - begin;
    const Columns<S, W> source{job.student + first, job.teacher + first,
                               std::min(kChunk, job.cols - begin)};
    Chunk* const chunk = &chunks[c];
    read_chunk(job, source, &in_chunk, &chunk, at(begin));
  }
  RowHard hard{};
  job.values[row] = finish(job, row, chunks.data(), int64_t(chunks.size()), hard);
  if (!out) return;
  for (int64_t begin = 0, c = 0; begin < job.cols; begin += kChunk, ++c)
    write_chunk<W>(job, at(begin), factors(job, chunks[c], hard), out + begin,
                   std::min(kChunk, job.cols - begin));
  if (!job.hard()) return;
  const auto rest = at(label);
  const Factors by = factors(job, chunks[label / kChunk], hard);
  const T soft = job.soft() ? T(by.by_e) * rest.e[0] + T(by.by_h) * rest.h[0] : T(0);
  const T g = soft + T(job.scale * job.loss.hard_weight * hard.label);
  store_as_n(out + label, broadcast<T, W>(g), 1);
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void long_rows(const Job<S>& job, int64_t begin, int64_t end, T* local,
                            const Tensor& like) {
  const int64_t padded = (job.cols + kChunk - 1) / kChunk * kChunk;
  std::optional<Buffer<T>> row_scratch;
  int64_t stride = kChunk;
  if (job.gradient && padded > kChunk) {
    stride = padded;
    row_scratch.emplace(like, stride * (job.hard() ? 3 : 2));
    local = row_scratch->data();
  }
  const Scratch<T> scratch{local, local + stride, local + 2 * stride};
  std::vector<Chunk> chunks((job.cols + kChunk - 1) / kChunk);
  for (int64_t row = begin; row < end; ++row) long_row<W>(job, row, scratch, chunks);
}

// Rows begin.. as lanes: logits[c * L + r], 0 for a row that counts nowhere.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void gather(const Job<S>& job, const S* logits, int64_t begin, T* out) {
  constexpr int L = lanes<T, W>;
  for (int r = 0; r < L; ++r) {
    const int64_t row = begin + r;
    const bool present = row < job.rows && job.counted(row);
    for (int64_t c = 0; c < job.cols; c += L) {
      const int n = int(std::min<int64_t>(L, job.cols - c));
      T lane[L] = {};
      if (present) store(lane, load_as_n<T, W>(logits + row * job.cols + c, n, T(0)));
      for (int i = 0; i < n; ++i) out[(c + i) * L + r] = lane[i];
    }
  }
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void scatter(const Job<S>& job, const T* gradient, int64_t begin) {
  constexpr int L = lanes<T, W>;
  for (int r = 0; r < L && begin + r < job.rows; ++r)
    for (int64_t c = 0; c < job.cols; c += L) {
      const int n = int(std::min<int64_t>(L, job.cols - c));
      T lane[L];
      for (int i = 0; i < n; ++i) lane[i] = gradient[(c + i) * L + r];
      store_as_n(job.gradient + (begin + r) * job.cols + c, load<T, W>(lane), n);
    }
}

// As many short rows as a vector has lanes.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void short_rows(const Job<S>& job, int64_t begin, T* local) {
  constexpr int L = lanes<T, W>;
  const int64_t size = job.cols * L;
  const Scratch<T> scratch{local, local + size, local + 2 * size};
  T *student = local + 3 * size, *teacher = local + 4 * size;
  gather<W>(job, job.student, begin, student);
  gather<W>(job, job.teacher, begin, teacher);
  int64_t label[L];
  Chunk chunk[L], *chunks[L];
  for (int r = 0; r < L; ++r) {
    const bool present = begin + r < job.rows && job.counted(begin + r);
    label[r] = present && job.hard() ? job.labels[begin + r] : -1;
    chunks[r] = &chunk[r];
  }
  read_chunk(job, Rows<T, W>{student, teacher, job.cols}, label, chunks, scratch);

  T by_e[L] = {}, by_h[L] = {}, by_f[L] = {};
  for (int r = 0; r < L && begin + r < job.rows; ++r) {
    RowHard hard{};
    job.values[begin + r] = 0;
    if (!job.counted(begin + r)) continue;
    job.values[begin + r] = finish(job, begin + r, &chunk[r], 1, hard);
    const Factors by = factors(job, chunk[r], hard);
    by_e[r] = by.by_e, by_h[r] = by.by_h, by_f[r] = by.by_f;
    // f is 0 at the label, which leaves its place for a multiple of by_f.
    if (label[r] >= 0) scratch.f[label[r] * L + r] = hard.label * hard.z;
  }
  if (!job.gradient) return;
  const auto e = load<T, W>(by_e), h = load<T, W>(by_h), f = load<T, W>(by_f);
  for (int64_t i = 0; i < size; i += L) {
    const auto g = !job.hard()  ? class_gradient<true, false>(scratch, i, e, h, f)
                   : job.soft() ? class_gradient<true, true>(scratch, i, e, h, f)
                                : class_gradient<false, true>(scratch, i, e, h, f);
    store(student + i, g);
  }
  scatter<W>(job, student, begin);
}

// Rows [begin, end) times kBlock.
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

void check(const LogitLoss& loss, const Tensor& student, const Tensor& teacher,
           const std::optional<Tensor>& target) {
  const ScalarType dtype = student.scalar_type();
  KDOPS_CHECK(dtype == teacher.scalar_type(), loss.name, ": teacher must have student's dtype");
  KDOPS_CHECK(student.dim() >= 1 && student.sizes().equals(teacher.sizes()), loss.name,
              ": teacher must have student's shape");
  KDOPS_CHECK(student.size(student.dim() - 1) > 0, loss.name,
              ": student must have at least one class, got 0");
  KDOPS_CHECK(loss.temperature > 0 && loss.temperature < kInfinity<double>, loss.name,
              ": temperature must be finite and > 0, got ", loss.temperature);
  KDOPS_CHECK(loss.reduction >= kMean && loss.reduction <= kNone, loss.name,
              ": reduction must be 0, 1 or 2, got ", loss.reduction);
  KDOPS_CHECK(loss.hard_weight == 0 || target, loss.name, ": target must be given for ce_weight");
  if (!target) return;
  const ScalarType type = target->scalar_type();
  KDOPS_CHECK(type == ScalarType::Long || type == ScalarType::Int, loss.name,
              ": target must be int64 or int32");
  KDOPS_CHECK(target->sizes().equals(student.sizes().slice(0, student.dim() - 1)), loss.name,
              ": target must have student's leading shape");
}

// The number of rows that count; every label that is read must be a class.
int64_t count_rows(const LogitLoss& loss, const Labels& labels, int64_t rows, int64_t cols) {
  if (!labels.given()) return rows;
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = labels[row];
    if (label == loss.ignore_index) continue;
    ++counted;
    KDOPS_CHECK(loss.hard_weight == 0 || (label >= 0 && label < cols), loss.name,
                ": target must be in [0, ", cols, ") or ignore_index, got ", label, " in row ",
                row);
  }
  return counted;
}

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
  check(loss, student_, teacher_, target_);
  std::optional<Tensor> target;
  if (target_) target = as_contiguous(*target_);
  const Labels labels(target);
  const auto sizes = student_.sizes();
  const int64_t cols = sizes.back(), rows = student_.numel() / cols;
  const int64_t counted = count_rows(loss, labels, rows, cols);

  const Tensor student = as_contiguous(student_), teacher = as_contiguous(teacher_);
  const ScalarType dtype = student.scalar_type();
  const Tensor value =
      new_tensor(student, loss.reduction == kNone ? sizes.slice(0, sizes.size() - 1) : Sizes{},
                 accumulation_dtype(dtype));
  const int64_t none = 0;
  const Tensor gradient = new_tensor(student, loss.student_grad ? sizes : Sizes(&none, 1), dtype);
  std::vector<double> values(rows);
  dispatch_float(dtype, [&](auto tag) {
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
    constexpr int64_t block = 64 / sizeof(acc_t<S>);  // whole vectors of short rows, on any level
    parallel((rows + block - 1) / block, std::max<int64_t>(1, kGrain / cols / block),
             [&](int64_t begin, int64_t end) {
               kdops::rows(job, begin * block, std::min(end * block, rows), student);
             });
    reduce(loss, values.data(), rows, counted, mutable_data<acc_t<S>>(value));
  });
  return {value, gradient};
}

}  // namespace kdops
