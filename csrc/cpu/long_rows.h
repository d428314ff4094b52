// Rows of many columns: one row after the other, its columns in chunks, lanes are columns.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/row_job.h"

namespace kdops {

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void write_chunk(const Job<S>& job, const Scratch<T>& scratch, const Factors& by,
                              S* out, int64_t n) {
  constexpr int L = lanes<T, W>;
  const auto walk = [&](auto at) KDOPS_BODY {
    for (int64_t i = 0; i + L <= n; i += L) store_as(out + i, at(i));
    if (n % L == 0) return;
    if (n > L) store_as(out + n - L, at(n - L));
    if (n < L) store_as_n(out, at(0), n);
  };
  class_gradients(job.soft(), job.hard(), scratch, broadcast<T, W>(by.by_e),
                  broadcast<T, W>(by.by_h), broadcast<T, W>(by.by_f), walk);
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

}  // namespace kdops
