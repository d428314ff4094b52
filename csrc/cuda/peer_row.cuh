// One row of all K peers, and their softmaxes: where both losses of peers begin.
#pragma once

#include "cuda/peer_rows.cuh"

namespace kdops {
namespace {

template <class S, int N, class Team>
struct PeerRow {
  using T = simt::acc_t<S>;
  using Chunk = PeerChunk<S, N, Team>;
  using Pack = Values<T, N>;
  const PeerJob<S>& peers;
  const Team& team;
  const TeamMemory<T>& memory;
  int64_t row, label;

  template <class F>
  SIMT_DEVICE void each(F f) const {
    each_chunk<N>(peers, team, memory.arrays, row, f);
  }
  SIMT_DEVICE T inverse_t() const { return peers.inverse_t; }
  SIMT_DEVICE Softmax<T>& softmax(int k) const { return memory.softmaxes[k]; }
  SIMT_DEVICE HardRow<T> hard_row(int k) const {
    return {softmax(k).top, softmax(k).others, peers.logit(k, row, label)};
  }

  SIMT_DEVICE void clear(int softmaxes, int found) const {
    for (int c = team.thread; c < found; c += team.size) memory.found[c] = T(0);
    for (int k = team.thread; k < softmaxes; k += team.size) softmax(k) = Softmax<T>::empty();
    team.sync();
  }
  // Adds a chunk to a softmax; of(first class, round) are its logits.
  template <class F>
  SIMT_DEVICE void add(const Chunk& chunk, int number, bool hard, F of) const {
    const Softmax<T> found =
        chunk_softmax<N>(team, chunk.count, inverse_t(), hard, chunk.place(label), of);
    if (team.thread == 0) softmax(number).add(found, inverse_t());
  }
  SIMT_DEVICE void add_peers(const Chunk& chunk, bool hard) const {
    for (int k = 0; k < peers.peers; ++k) {
      const Own<T, N> z = chunk.array(k);
      add(chunk, k, hard || peers.ce_weights[k] != T(0),
          [&](int, int round) { return z.load(round); });
    }
  }
  SIMT_DEVICE void finish(int begin, int end) const {
    team.sync();
    for (int k = begin + team.thread; k < end; k += team.size) softmax(k).finish();
    team.sync();
  }
  // Adds the cross-entropy's gradient of N classes, the first of which is c.
  SIMT_DEVICE void add_hard(Pack& g, const Pack& z, const HardRow<T>& hard, T weight, int c,
                            int label_at) const {
    if (weight == T(0)) return;
#pragma unroll
    for (int n = 0; n < N; ++n) g.v[n] += weight * hard.slope(z.v[n], c + n == label_at);
  }
};

}  // namespace
}  // namespace kdops
