// What the kernels of the losses of K peers share: a row's team, its memory, the sums over rows.
//
// A team of threads has the logits of all peers in shared memory, each class with the thread that
// reads it. A row that does not fit goes through in chunks, once for every pass over its classes.
// Of a row the team finds a number for each column: losses, terms, and the gradient of weights that
// all rows share; add_columns adds them up.
#pragma once

#include "cuda/peer_softmax.cuh"
#include "cuda/row_plan.cuh"
#include "cuda/row_sums.cuh"

namespace kdops {
namespace {

constexpr int kColumnThreads = 256;
// Bounds of a kernel: packs of float64, and of eight halves, take more registers.
template <class S, bool kBlock>
constexpr int kPeerThreads = kBlock && sizeof(S) == 4 ? kMaxTeam : kWarpTeams * simt::kWarpSize;
template <class S, bool kBlock>
constexpr int kPeerBlocks = kBlock || sizeof(S) != 4 ? 1 : 2;

template <class T>
struct Columns {
  T *losses, *terms, *weights;  // outputs; the weights' gradient is of the mean already
  int loss_count, terms_end, all;
  bool by_row;       // losses and terms are not added up
  Total<T>* totals;  // (all, teams)
  int teams;

  SIMT_DEVICE T* place(int column, int64_t row = 0, int64_t rows = 1) const {
    if (column < loss_count) return losses + column * rows + row;
    if (column < terms_end) return terms + (column - loss_count) * rows + row;
    return weights + (column - terms_end);
  }
};

template <class S>
struct PeerJob {
  using T = simt::acc_t<S>;
  const S* logits[kMostPeers];
  S* gradients[kMostPeers];  // or null
  RowLabels labels;
  int64_t rows, cols;
  int peers;
  bool aligned;                          // rows may be moved in packs
  bool soft, hard;                       // whether there are KLs; whether labels are read
  T inverse_t, soft_weight, soft_slope;  // soft_slope = soft_weight / temperature
  T ce_weights[kMostPeers];
  Divisor<T> divisor;
  Columns<T> columns;
  int arrays, slots;  // of a team in shared memory, and their length
  int numbers;        // of the op's own there
  int chunk;          // classes that are there at a time
  int team_bytes;

  SIMT_DEVICE bool whole() const { return chunk >= cols; }
  SIMT_DEVICE int64_t label(int64_t row) const { return hard ? labels[row] : -1; }
  // NaN for a label that is no class.
  SIMT_DEVICE T logit(int peer, int64_t row, int64_t label) const {
    return label >= 0 && label < cols ? simt::widen(logits[peer][row * cols + label]) : kNaN<T>;
  }
};

// A team's shared memory: arrays of logits with a softmax for each, the op's own numbers, and what
// is found in a row and in all rows of the team.
template <class T>
struct TeamMemory {
  T* arrays;
  Softmax<T>* softmaxes;
  T *numbers, *found;
  Total<T>* totals;

  template <class S>
  SIMT_DEVICE TeamMemory(unsigned char* bytes, const PeerJob<S>& job)
      : arrays(reinterpret_cast<T*>(bytes)),
        softmaxes(reinterpret_cast<Softmax<T>*>(arrays + job.arrays * job.slots)),
        numbers(reinterpret_cast<T*>(softmaxes + job.arrays)),
        found(numbers + job.numbers),
        totals(reinterpret_cast<Total<T>*>(found + job.columns.all)) {}

  static size_t bytes(int arrays, int64_t slots, int numbers, int columns) {
    const size_t an_array = slots * sizeof(T) + sizeof(Softmax<T>);
    const size_t all = arrays * an_array + (numbers + 3 * columns) * sizeof(T);
    return (all + 15) / 16 * 16;
  }
};

// The classes [begin, begin + count) of a row, of all peers.
template <class S, int N, class Team>
struct PeerChunk {
  using T = simt::acc_t<S>;
  const PeerJob<S>& job;
  Team team;
  T* arrays;
  int64_t at, begin;  // in the peers' memory, and in the row
  int count;

  SIMT_DEVICE Own<T, N> array(int number) const { return {arrays + number * job.slots, team}; }
  // Where a class of the row is in the chunk, or -1.
  SIMT_DEVICE int place(int64_t label) const {
    return label >= begin && label < begin + count ? static_cast<int>(label - begin) : -1;
  }
  template <class F>
  SIMT_DEVICE void each(F f) const {
    each_pack<N>(team, count, f);
  }
  SIMT_DEVICE void read() const {
    for (int k = 0; k < job.peers; ++k) {
      const S* const z = job.logits[k] + at;
      const Own<T, N> to = array(k);
      each_pack<N, 2>(team, count, [&](int i, int round) {
        to.store(round, load_logits<N>(z + i, job.aligned));
      });
    }
  }
  SIMT_DEVICE void write(S* gradient, int i, const Values<T, N>& g) const {
    store_gradient<S, N>(gradient + at + i, g, job.aligned);
  }
};

// f(chunk), whose logits are still to be read.
template <int N, class S, class Team, class F, class T = simt::acc_t<S>>
SIMT_DEVICE void each_chunk(const PeerJob<S>& job, const Team& team, T* arrays, int64_t row, F f) {
  for (int64_t begin = 0; begin < job.cols; begin += job.chunk) {
    const int count = static_cast<int>(min(int64_t(job.chunk), job.cols - begin));
    f(PeerChunk<S, N, Team>{job, team, arrays, row * job.cols + begin, begin, count});
  }
}

template <int N, class S, class Team>
SIMT_DEVICE void write_zeros(const PeerJob<S>& job, const Team& team, int64_t row) {
  using T = simt::acc_t<S>;
  each_chunk<N>(job, team, static_cast<T*>(nullptr), row, [&](const auto& chunk) {
    for (int k = 0; k < job.peers; ++k)
      if (S* const to = job.gradients[k]) chunk.each([&](int i, int) { chunk.write(to, i, {}); });
  });
}

// What a team has found in a row, or nothing, goes to the columns.
template <class S, class Team, class T = simt::acc_t<S>>
SIMT_DEVICE void collect(const PeerJob<S>& job, const Team& team, const TeamMemory<T>& memory,
                         int64_t row, bool counts) {
  const Columns<T>& columns = job.columns;
  team.sync();
  for (int c = team.thread; c < columns.all; c += team.size) {
    const T value = counts ? memory.found[c] : T(0);
    if (columns.by_row && c < columns.terms_end)
      *columns.place(c, row, job.rows) = value;
    else
      memory.totals[c] = SumTotals{}(memory.totals[c], {{value, T(0)}});
  }
  team.sync();
}

// f(team, memory, row, counts), whether the row counts; it leaves what it finds in memory.found.
template <bool kBlock, class S, class F>
SIMT_DEVICE void each_row(const PeerJob<S>& job, F f) {
  using T = simt::acc_t<S>;
  SIMT_DYN_SHARED(unsigned char, bytes);
  const Team<kBlock> team = Team<kBlock>::mine();
  const int teams = blockDim.x / team.size, number = threadIdx.x / team.size;
  const int64_t first = int64_t(blockIdx.x) * teams + number;
  const TeamMemory<T> memory(bytes + number * job.team_bytes, job);
  for (int c = team.thread; c < job.columns.all; c += team.size) memory.totals[c] = {};
  for (int64_t row = first; row < job.rows; row += int64_t(gridDim.x) * teams) {
    const bool counts = job.labels.count(row);
    f(team, memory, row, counts);
    collect(job, team, memory, row, counts);
  }
  for (int c = team.thread; c < job.columns.all; c += team.size)
    job.columns.totals[int64_t(c) * job.columns.teams + first] = memory.totals[c];
}

// A block a column, from the first on that is added up.
template <class T>
SIMT_KERNEL_BOUNDS(kColumnThreads)
add_columns(Columns<T> columns, Divisor<T> divisor) {
  const int column = blockIdx.x + (columns.by_row ? columns.terms_end : 0);
  const Total<T>* const totals = columns.totals + int64_t(column) * columns.teams;
  Total<T> total{};
  for (int i = threadIdx.x; i < columns.teams; i += blockDim.x)
    total = SumTotals{}(total, totals[i]);
  total = block_reduce(total, SumTotals{});
  const T rows = column < columns.terms_end ? divisor() : T(1);
  if (threadIdx.x == 0) *columns.place(column) = quotient(total, rows);
}

}  // namespace
}  // namespace kdops
