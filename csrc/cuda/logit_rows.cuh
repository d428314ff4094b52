// The losses over rows of logits: soft term, hard term, and both in one pass.
//
// Launches: the rows and their sum; or, for rows in chunks, chunks and gradients. Before them a
// count of the rows where some may be ignored and the mean is wanted. Results depend on sizes and
// the limits below alone.
#pragma once

#include <algorithm>

#include "cuda/row_kernels.cuh"

namespace kdops {

template <class S>
struct LogitRows {
  using T = simt::acc_t<S>;
  const S *student, *teacher;  // (rows, cols); the teacher is not read where soft_weight is 0
  const void* labels;          // or null: no hard term, and every row counts
  bool labels_wide;            // int64, or int32
  int64_t rows, cols;
  double temperature;
  double soft_weight;  // of KL, with T^2
  double hard_weight;
  bool entropy;  // add the teacher's: KL becomes the soft cross-entropy
  RowReduction reduction;
  int64_t ignore_index;
  T* value;     // one, or one a row; NaN for a label that is no class
  S* gradient;  // or null
  void* workspace;
  size_t shared_limit;        // bytes that a block may have; from 6 KiB on it is kept
  int max_teams = 32 * 1024;  // or warps, or blocks, of a launch
};

namespace {

// How rows are shared out.
struct RowPlan {
  int pack, threads, teams, blocks;
  int64_t chunk, row_chunks;
  size_t team_bytes;
  bool whole;
};

template <class S>
bool aligned(const LogitRows<S>& r) {
  const auto fits = [&](const S* p) { return simt::packs_fit<simt::kPackSize<S>>(p, r.cols); };
  return fits(r.student) && (r.soft_weight == 0 || fits(r.teacher)) && fits(r.gradient);
}

template <class S>
RowPlan plan(const LogitRows<S>& r) {
  const int pack = r.cols % simt::kPackSize<S> == 0 ? simt::kPackSize<S> : 1;
  const size_t slot_bytes = (r.hard_weight != 0 ? 3 : 2) * sizeof(simt::acc_t<S>);
  const auto bytes = [&](int64_t n) { return slots(n, team_size(n), pack) * slot_bytes; };
  RowPlan p{pack, team_size(r.cols), 1, 0, r.cols, 1, bytes(r.cols), true};
  if (p.team_bytes > r.shared_limit) {
    p.whole = false;
    p.chunk = kChunkClasses;
    while (p.chunk > kMinChunk && bytes(p.chunk) > r.shared_limit) p.chunk /= 2;
    p.row_chunks = ceil_div(r.cols, p.chunk);
    p.threads = team_size(p.chunk);
    p.team_bytes = bytes(p.chunk);
  } else if (p.threads == simt::kWarpSize) {
    p.teams = static_cast<int>(std::min<int64_t>(kWarpTeams, r.shared_limit / p.team_bytes));
  }
  const int64_t blocks = p.whole ? ceil_div(r.rows, p.teams) : r.rows * p.row_chunks;
  p.blocks = static_cast<int>(std::min<int64_t>(blocks, std::max(1, r.max_teams / p.teams)));
  return p;
}

template <class S>
bool needs_count(const LogitRows<S>& r) {
  return r.labels != nullptr && r.reduction == RowReduction::kMean;
}

template <class S>
RowJob<S> row_job(const LogitRows<S>& r, const RowPlan& p) {
  using T = simt::acc_t<S>;
  RowJob<S> job{};
  job.student = r.student;
  job.teacher = r.teacher;
  job.labels = {r.labels, r.labels_wide, r.ignore_index};
  job.rows = r.rows;
  job.cols = r.cols;
  job.aligned = p.pack == 1 || aligned(r);
  job.terms = {T(1 / r.temperature),
               T(r.soft_weight),
               T(r.soft_weight / r.temperature),
               T(r.hard_weight),
               r.soft_weight != 0,
               r.hard_weight != 0,
               r.entropy};
  const bool mean = r.reduction == RowReduction::kMean;
  job.divisor.rows = mean ? T(std::max<int64_t>(r.rows, 1)) : T(1);
  auto* const counts = static_cast<int64_t*>(r.workspace);
  if (needs_count(r)) {
    job.divisor.counts = counts;
    job.divisor.blocks =
        static_cast<int>(std::min<int64_t>(kCountBlocks, ceil_div(r.rows, kCountThreads)));
  }
  (r.reduction == RowReduction::kNone ? job.values : job.value) = r.value;
  job.totals = reinterpret_cast<Total<T>*>(counts + kCountBlocks);
  job.chunks = reinterpret_cast<Chunk<T>*>(counts + kCountBlocks);
  job.gradient = r.gradient;
  job.slots = static_cast<int>(p.team_bytes / ((r.hard_weight != 0 ? 3 : 2) * sizeof(T)));
  job.chunk = static_cast<int>(p.chunk);
  job.row_chunks = static_cast<int>(p.row_chunks);
  return job;
}

template <class S, int N>
void launch_rows(const RowJob<S>& job, const RowPlan& p, cudaStream_t stream) {
  using T = simt::acc_t<S>;
  const bool by_warp = p.threads == simt::kWarpSize;
  if (p.blocks > 0)
    simt::launch(by_warp ? logit_rows<S, N, false> : logit_rows<S, N, true>, dim3(p.blocks),
                 dim3(p.threads * p.teams), p.team_bytes * p.teams, stream, job);
  if (job.values == nullptr)
    simt::launch(sum_rows<T>, dim3(1), dim3(kSumThreads), 0, stream, job.totals, p.blocks * p.teams,
                 job.divisor, job.value);
}

template <class S, int N>
void launch_chunks(const RowJob<S>& job, const RowPlan& p, cudaStream_t stream) {
  if (p.blocks > 0)
    simt::launch(chunk_sums<S, N>, dim3(p.blocks), dim3(p.threads), p.team_bytes, stream, job);
  simt::launch(chunk_gradients<S, N>, dim3(1 + (job.gradient == nullptr ? 0 : p.blocks)),
               dim3(p.threads), 0, stream, job);
}

template <class S, int N>
void launch_packed(const RowJob<S>& job, const RowPlan& p, cudaStream_t stream) {
  p.whole ? launch_rows<S, N>(job, p, stream) : launch_chunks<S, N>(job, p, stream);
}

}  // namespace

// Bytes; the workspace is aligned to 16.
template <class S>
size_t logit_rows_workspace(const LogitRows<S>& rows) {
  using T = simt::acc_t<S>;
  const RowPlan p = plan(rows);
  const size_t whole = static_cast<size_t>(p.blocks) * p.teams * sizeof(Total<T>);
  const size_t chunked = static_cast<size_t>(rows.rows * p.row_chunks) * sizeof(Chunk<T>);
  return kCountBlocks * sizeof(int64_t) + (p.whole ? whole : chunked);
}

template <class S>
void launch_logit_rows(const LogitRows<S>& rows, cudaStream_t stream) {
  const RowPlan p = plan(rows);
  const RowJob<S> job = row_job(rows, p);
  if (job.divisor.blocks > 0)
    simt::launch(count_rows, dim3(job.divisor.blocks), dim3(kCountThreads), 0, stream, job.labels,
                 rows.rows, static_cast<int64_t*>(rows.workspace));
  p.pack == 1 ? launch_packed<S, 1>(job, p, stream)
              : launch_packed<S, simt::kPackSize<S>>(job, p, stream);
}

}  // namespace kdops
