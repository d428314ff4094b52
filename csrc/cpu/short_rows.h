// Rows of few columns: as many at a time as a vector has lanes, lanes are rows.
#pragma once

#include <algorithm>

#include "cpu/row_job.h"

namespace kdops {

constexpr int64_t kShort = 48;  // columns, up to which this is the faster way

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
  const auto walk = [&](auto at) KDOPS_BODY {
    for (int64_t i = 0; i < size; i += L) store(student + i, at(i));
  };
  class_gradients(job.soft(), job.hard(), scratch, load<T, W>(by_e), load<T, W>(by_h),
                  load<T, W>(by_f), walk);
  scatter<W>(job, student, begin);
}

}  // namespace kdops
