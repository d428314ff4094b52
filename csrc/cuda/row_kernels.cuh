// The kernels of the losses over rows of logits.
//
// logit_rows: a team of threads a row, which it reads once. Rows that do not fit into shared memory
// are split into chunks: chunk_sums leaves a record of each, and chunk_gradients, with the sums of
// a row's records, computes the gradient from the logits again, while its first block adds up the
// rows' losses.
#pragma once

#include "cuda/row_plan.cuh"
#include "cuda/row_sums.cuh"
#include "cuda/softmax_row.cuh"

namespace kdops {
namespace {

template <class S>
struct RowJob {
  using T = simt::acc_t<S>;
  const S *student, *teacher;
  RowLabels labels;
  int64_t rows, cols;
  bool aligned;  // rows may be moved in packs
  Terms<T> terms;
  Divisor<T> divisor;
  T* values;         // one a row,
  T* value;          // or one,
  Total<T>* totals;  // of one a team
  S* gradient;       // or null
  int slots;         // of an array in shared memory
  Chunk<T>* chunks;
  int chunk, row_chunks;  // classes of a chunk, and chunks of a row

  // The label within a chunk, or -1.
  SIMT_DEVICE int label(int64_t row, int64_t begin, int count) const {
    if (!terms.hard) return -1;
    const int64_t label = labels[row];
    return label >= begin && label < begin + count ? static_cast<int>(label - begin) : -1;
  }
  // The student's; NaN for a label that is no class.
  SIMT_DEVICE T label_logit(int64_t row) const {
    const int64_t label = labels[row];
    return label >= 0 && label < cols ? simt::widen(student[row * cols + label]) : kNaN<T>;
  }
};

template <int N, class S, class Team, class T = simt::acc_t<S>>
SIMT_DEVICE ChunkPass<S, N, Team> chunk_pass(const RowJob<S>& job, const Team& team, int64_t row,
                                             int64_t begin, int count, T* memory) {
  const S *student = job.student + row * job.cols + begin,
          *teacher = job.teacher + row * job.cols + begin;
  return {team,
          job.terms,
          student,
          teacher,
          job.aligned,
          count,
          job.label(row, begin, count),
          {memory, team},
          {memory + job.slots, team},
          {memory + 2 * job.slots, team}};
}

// of(first class, round) is what a chunk has left behind.
template <class T, int N>
struct Left {
  Values<T, N> e, h, f;
};
template <int N, class S, class Team, class F, class T = simt::acc_t<S>>
SIMT_DEVICE void write_gradient(const Team& team, const RowJob<S>& job, int count, int label,
                                const Factors<T>& by, S* gradient, F of) {
  const Terms<T>& terms = job.terms;
  each_pack<N>(team, count, [&](int i, int round) {
    const Left<T, N> left = of(i, round);
    Values<T, N> g{};
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (terms.soft) g.v[k] = by.by_e * left.e.v[k] + by.by_h * left.h.v[k];
      if (terms.hard) g.v[k] += i + k == label ? by.at_label : by.by_f * left.f.v[k];
    }
    store_gradient<S, N>(gradient + i, g, job.aligned);
  });
}

template <int N, class S, class Team>
SIMT_DEVICE void write_zeros(const Team& team, const RowJob<S>& job, int count, S* gradient) {
  each_pack<N>(team, count,
               [&](int i, int) { store_gradient<S, N>(gradient + i, {}, job.aligned); });
}

// ---- rows that fit ------------------------------------------------------------------------------

template <int N, class S, class Team, class T = simt::acc_t<S>>
SIMT_DEVICE T row_loss(const RowJob<S>& job, const Team& team, int64_t row, T divisor, T* memory) {
  const int cols = static_cast<int>(job.cols);
  S* const gradient = job.gradient == nullptr ? nullptr : job.gradient + row * job.cols;
  if (!job.labels.count(row)) {
    if (gradient != nullptr) write_zeros<N>(team, job, cols, gradient);
    return T(0);
  }
  const Terms<T>& terms = job.terms;
  const ChunkPass<S, N, Team> pass = chunk_pass<N>(job, team, row, 0, cols, memory);
  Chunk<T> chunk;
  pass.run(chunk);
  Factors<T> factors{};
  T value = 0;
  if (terms.soft) {
    const Shares<T> shares = whole(chunk);
    value = terms.soft_weight * shares.p * (chunk.kl + (terms.entropy ? chunk.entropy : T(0)));
    factors.add_soft(chunk, shares, terms.soft_slope / divisor);
  }
  if (terms.hard) {
    const HardRow<T> hard(chunk.hard_max, chunk.hard_z, job.label_logit(row));
    value += terms.hard_weight * hard.value;
    factors.add_hard(chunk, hard, terms.hard_weight / divisor);
  }
  if (gradient == nullptr) return value;
  write_gradient<N>(team, job, cols, pass.label, factors, gradient, [&](int, int round) {
    Left<T, N> left{};
    if (terms.soft) left.e = pass.e.load(round), left.h = pass.h.load(round);
    if (terms.hard) left.f = pass.f.load(round);
    return left;
  });
  return value;
}

template <class S, int N, bool kBlock>
SIMT_KERNEL_BOUNDS(kBlock ? kMaxTeam : kWarpTeams * simt::kWarpSize, kBlock ? 1 : 2)
logit_rows(RowJob<S> job) {
  using T = simt::acc_t<S>;
  SIMT_DYN_SHARED(T, memory);
  const Team<kBlock> team = Team<kBlock>::mine();
  const int teams = blockDim.x / team.size, number = threadIdx.x / team.size;
  const int64_t first = int64_t(blockIdx.x) * teams + number;
  const int arrays = job.terms.hard ? 3 : 2;
  const T divisor = job.divisor();
  Total<T> total{};
  for (int64_t row = first; row < job.rows; row += int64_t(gridDim.x) * teams) {
    const T value = row_loss<N>(job, team, row, divisor, memory + number * arrays * job.slots);
    if (job.values != nullptr && team.thread == 0) job.values[row] = value;
    total = SumTotals{}(total, {{value, T(0)}});
  }
  if (job.values == nullptr && team.thread == 0) job.totals[first] = total;
}

// ---- rows in chunks -----------------------------------------------------------------------------

template <class S, int N>
SIMT_KERNEL_BOUNDS(kMaxTeam, 1)
chunk_sums(RowJob<S> job) {
  using T = simt::acc_t<S>;
  SIMT_DYN_SHARED(T, memory);
  const Team<true> team = Team<true>::mine();
  for (int64_t i = blockIdx.x; i < job.rows * job.row_chunks; i += gridDim.x) {
    const int64_t row = i / job.row_chunks, begin = i % job.row_chunks * job.chunk;
    const int count = static_cast<int>(min(int64_t(job.chunk), job.cols - begin));
    if (!job.labels.count(row)) continue;
    Chunk<T> chunk;
    chunk_pass<N>(job, team, row, begin, count, memory).run(chunk);
    if (team.thread == 0) job.chunks[i] = chunk;
  }
}

template <class S, class T = simt::acc_t<S>>
SIMT_DEVICE T chunked_row_loss(const RowJob<S>& job, int64_t row) {  // by a warp
  if (!job.labels.count(row)) return T(0);
  const Terms<T>& terms = job.terms;
  const Chunk<T>* const chunks = job.chunks + row * job.row_chunks;
  T value = 0;
  if (terms.soft) {
    const SoftRow<T> soft(chunks, job.row_chunks, terms.inverse_t);
    value = terms.soft_weight * soft.value(chunks, job.row_chunks, terms.entropy);
  }
  if (terms.hard)
    value += terms.hard_weight * hard_row(chunks, job.row_chunks, job.label_logit(row)).value;
  return value;
}

template <class S>
SIMT_DEVICE void add_chunked_rows(const RowJob<S>& job) {  // by a block
  using T = simt::acc_t<S>;
  const bool first = threadIdx.x % simt::kWarpSize == 0;
  Total<T> total{};
  for (int64_t row = threadIdx.x / simt::kWarpSize; row < job.rows;
       row += blockDim.x / simt::kWarpSize) {
    const T value = chunked_row_loss(job, row);
    if (job.values != nullptr && first) job.values[row] = value;
    total = SumTotals{}(total, {{first ? value : T(0), T(0)}});
  }
  total = block_reduce(total, SumTotals{});
  const T divisor = job.divisor();
  if (job.values == nullptr && threadIdx.x == 0) *job.value = quotient(total, divisor);
}

template <class S, class T = simt::acc_t<S>>
SIMT_DEVICE Factors<T> chunk_factors(const RowJob<S>& job, int64_t row, int number) {
  const Terms<T>& terms = job.terms;
  const Chunk<T>* const chunks = job.chunks + row * job.row_chunks;
  const Chunk<T>& chunk = chunks[number];
  const T divisor = job.divisor();
  Factors<T> factors{};
  if (terms.soft) {
    const SoftRow<T> soft(chunks, job.row_chunks, terms.inverse_t);
    factors.add_soft(chunk, soft.shares(chunk), terms.soft_slope / divisor);
  }
  if (terms.hard) {
    const HardRow<T> hard = hard_row(chunks, job.row_chunks, job.label_logit(row));
    factors.add_hard(chunk, hard, terms.hard_weight / divisor);
  }
  return factors;
}

// What ChunkPass leaves behind, from the logits.
template <int N, class S, class T = simt::acc_t<S>>
SIMT_DEVICE Left<T, N> left_behind(const RowJob<S>& job, const Chunk<T>& c, int64_t at) {
  const Terms<T>& terms = job.terms;
  const Difference<T> offset = difference(c.level, c.max);
  const T inverse_t = terms.inverse_t, centre = c.centre * inverse_t;
  const Values<T, N> s = load_logits<N>(job.student + at, job.aligned);
  Left<T, N> left{};
  if (terms.soft) {
    const Values<T, N> t = load_logits<N>(job.teacher + at, job.aligned);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const T e = exp((t.v[k] - (c.far == T(0) ? c.max : shift(c.max))) * inverse_t);
      const T d = apart(s.v[k], t.v[k], offset) * inverse_t - centre;
      const T h = c.far == T(0) ? e * expm1_and_phi(d).value
                                : exp((s.v[k] - shift(c.level)) * inverse_t) - e;
      left.e.v[k] = e;
      left.h.v[k] = h;
    }
  }
  if (terms.hard)
#pragma unroll
    for (int k = 0; k < N; ++k) left.f.v[k] = exp(s.v[k] - shift(c.hard_max));
  return left;
}

// The first block adds up the rows; the others begin where chunk_sums has just been.
template <class S, int N>
SIMT_KERNEL_BOUNDS(kMaxTeam, 1)
chunk_gradients(RowJob<S> job) {
  using T = simt::acc_t<S>;
  SIMT_SHARED(Factors<T>, shared_factors, [1]);
  if (blockIdx.x == 0) return add_chunked_rows(job);
  const Team<true> team = Team<true>::mine();
  const int64_t chunks = job.rows * job.row_chunks;
  for (int64_t i = chunks - blockIdx.x; i >= 0; i -= gridDim.x - 1) {
    const int64_t row = i / job.row_chunks;
    const int number = static_cast<int>(i % job.row_chunks);
    const int64_t begin = int64_t(number) * job.chunk;
    const int count = static_cast<int>(min(int64_t(job.chunk), job.cols - begin));
    const int64_t at = row * job.cols + begin;
    if (!job.labels.count(row)) {
      write_zeros<N>(team, job, count, job.gradient + at);
      continue;
    }
    __syncthreads();  // the factors of the chunk before may still be read
    if (threadIdx.x < simt::kWarpSize) {
      const Factors<T> factors = chunk_factors(job, row, number);
      if (threadIdx.x == 0) shared_factors[0] = factors;
    }
    __syncthreads();
    const Factors<T> factors = shared_factors[0];
    const Chunk<T> chunk = job.chunks[i];
    write_gradient<N>(team, job, count, job.label(row, begin, count), factors, job.gradient + at,
                      [&](int c, int) { return left_behind<N>(job, chunk, at + c); });
  }
}

}  // namespace
}  // namespace kdops
