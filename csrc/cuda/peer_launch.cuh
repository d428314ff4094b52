// The arguments that the losses of K peers share, and how their rows are shared out.
//
// Launches: the rows, and the sums of the columns; before them a count of the rows where some may
// be ignored and the mean is wanted.
#pragma once

#include <algorithm>

#include "cuda/peer_rows.cuh"

namespace kdops {

template <class S>
struct PeerRows {
  using T = simt::acc_t<S>;
  const S* logits[kMostPeers];  // of each peer, (rows, cols)
  S* gradients[kMostPeers];     // or null
  const void* labels;           // or null: every row counts
  bool labels_wide;             // int64, or int32
  int peers;
  int64_t rows, cols;
  double temperature;
  double soft_weight;  // of the KLs, with T^2
  double ce_weights[kMostPeers];
  RowReduction reduction;
  int64_t ignore_index;
  T *losses, *terms;  // a number each, or one a row
  void* workspace;
  size_t shared_limit;   // bytes that a block may have
  int max_teams = 4096;  // or warps, or blocks, of a launch
};

namespace {

// What an op asks for: arrays and numbers in shared memory, and its columns.
struct PeerNeeds {
  int arrays, numbers, losses, terms, weights;
  bool soft, hard;

  int columns() const { return losses + terms + weights; }
};

struct PeerPlan {
  int pack, threads, teams, blocks, slots;
  int64_t chunk;
  size_t team_bytes;
};

template <class S>
PeerPlan peer_plan(const PeerRows<S>& r, const PeerNeeds& needs) {
  const int pack = r.cols % simt::kPackSize<S> == 0 ? simt::kPackSize<S> : 1;
  const auto threads = [&](int64_t n) { return std::min(team_size(n), kPeerThreads<S, true>); };
  const auto length = [&](int64_t n) { return slots(n, threads(n), pack); };
  const auto bytes = [&](int64_t n) {
    return TeamMemory<simt::acc_t<S>>::bytes(needs.arrays, length(n), needs.numbers,
                                             needs.columns());
  };
  int64_t chunk = r.cols;
  if (bytes(chunk) > r.shared_limit) {
    chunk = kChunkClasses;  // two blocks share a multiprocessor
    while (chunk > kMinChunk && 2 * bytes(chunk) > r.shared_limit) chunk /= 2;
  }
  PeerPlan p{pack, threads(chunk), 1, 0, static_cast<int>(length(chunk)), chunk, bytes(chunk)};
  if (p.threads == simt::kWarpSize)
    p.teams = std::clamp(static_cast<int>(r.shared_limit / p.team_bytes), 1, kWarpTeams);
  const int64_t most = std::max(1, r.max_teams / p.teams);
  p.blocks = static_cast<int>(std::min(ceil_div(r.rows, p.teams), most));
  return p;
}

template <class S>
bool peers_aligned(const PeerRows<S>& r) {
  const auto fits = [&](const S* p) { return simt::packs_fit<simt::kPackSize<S>>(p, r.cols); };
  return std::all_of(r.logits, r.logits + r.peers, fits) &&
         std::all_of(r.gradients, r.gradients + r.peers, fits);
}

template <class S, class T = simt::acc_t<S>>
Columns<T> peer_columns(const PeerRows<S>& r, const PeerNeeds& needs, const PeerPlan& p,
                        T* weights) {
  auto* const totals = static_cast<int64_t*>(r.workspace) + kCountBlocks;
  return {r.losses,
          r.terms,
          weights,
          needs.losses,
          needs.losses + needs.terms,
          needs.columns(),
          r.reduction == RowReduction::kNone,
          reinterpret_cast<Total<T>*>(totals),
          p.blocks * p.teams};
}

template <class S, class T = simt::acc_t<S>>
PeerJob<S> peer_job(const PeerRows<S>& r, const PeerNeeds& needs, const PeerPlan& p, T* weights) {
  PeerJob<S> job{};
  std::copy_n(r.logits, r.peers, job.logits);
  std::copy_n(r.gradients, r.peers, job.gradients);
  std::copy_n(r.ce_weights, r.peers, job.ce_weights);
  job.labels = {r.labels, r.labels_wide, r.ignore_index};
  job.rows = r.rows;
  job.cols = r.cols;
  job.peers = r.peers;
  job.aligned = p.pack == 1 || peers_aligned(r);
  job.soft = needs.soft;
  job.hard = needs.hard;
  job.inverse_t = T(1 / r.temperature);
  job.soft_weight = T(r.soft_weight);
  job.soft_slope = T(r.soft_weight / r.temperature);
  const bool mean = r.reduction == RowReduction::kMean;
  job.divisor.rows = mean ? T(std::max<int64_t>(r.rows, 1)) : T(1);
  if (mean && r.labels != nullptr) {
    job.divisor.counts = static_cast<int64_t*>(r.workspace);
    job.divisor.blocks =
        static_cast<int>(std::min<int64_t>(kCountBlocks, ceil_div(r.rows, kCountThreads)));
  }
  job.columns = peer_columns(r, needs, p, weights);
  job.arrays = needs.arrays;
  job.slots = p.slots;
  job.numbers = needs.numbers;
  job.chunk = static_cast<int>(std::min<int64_t>(p.chunk, r.cols));
  job.team_bytes = static_cast<int>(p.team_bytes);
  return job;
}

// Bytes; the workspace is aligned to 16.
template <class S>
size_t peer_workspace(const PeerRows<S>& r, const PeerNeeds& needs) {
  const PeerPlan p = peer_plan(r, needs);
  const size_t totals = static_cast<size_t>(p.blocks) * p.teams * needs.columns();
  return kCountBlocks * sizeof(int64_t) + totals * sizeof(Total<simt::acc_t<S>>);
}

// The kernel of the op's job, and what goes before and after it.
template <class Job, class S>
void launch_peer_rows(void (*kernel)(Job), const Job& job, const PeerRows<S>& r, const PeerPlan& p,
                      cudaStream_t stream) {
  using T = simt::acc_t<S>;
  if (job.divisor.blocks > 0)
    simt::launch(count_rows, dim3(job.divisor.blocks), dim3(kCountThreads), 0, stream, job.labels,
                 r.rows, static_cast<int64_t*>(r.workspace));
  if (p.blocks > 0)
    simt::launch(kernel, dim3(p.blocks), dim3(p.threads * p.teams), p.team_bytes * p.teams, stream,
                 job);
  const Columns<T>& columns = job.columns;
  const int added = columns.all - (columns.by_row ? columns.terms_end : 0);
  if (added > 0)
    simt::launch(add_columns<T>, dim3(added), dim3(kColumnThreads), 0, stream, columns,
                 job.divisor);
}

}  // namespace
}  // namespace kdops
