// Peers that learn from each other: a row of all K of them at once.
//
// Three passes over the classes. The first finds the peers' softmaxes; the second what their sums
// lack against peer 0's, sum p_i - p_0 being 0 but for their rounding; the third, peer by peer, the
// KLs and the gradient, from u = log p_i - log p_j with exact differences of logits: equal peers
// have u = 0, and of near ones nothing cancels.
#pragma once

#include "cuda/peer_launch.cuh"
#include "cuda/peer_row.cuh"

namespace kdops {

template <class S>
struct MutualRows : PeerRows<S> {
  double weights[kMostPeers * kMostPeers];  // (peers, peers): row i of peer i's loss
};

namespace {

template <class S>
struct MutualJob : PeerJob<S> {
  simt::acc_t<S> weights[kMostPeers * kMostPeers];
};

// How peer i, which learns, differs from peer j, class by class.
template <class T>
struct PeerPair {
  Difference<T> offset;
  T log_ratio, correction;

  SIMT_DEVICE PeerPair(const Softmax<T>& i, const Softmax<T>& j)
      : offset(difference(i.top, j.top)),
        log_ratio(log_z_ratio(i, j, T(0))),
        correction(i.correction - j.correction) {}
  SIMT_DEVICE T operator()(T z_i, T z_j, T inverse_t) const {  // log p_i - log p_j
    return (peer_difference<T>(z_i, z_j, offset) * inverse_t - log_ratio) - correction;
  }
};

// Found are losses, cross-entropies, KLs.
template <class S, int N, class Team>
struct MutualRow : PeerRow<S, N, Team> {
  using Base = PeerRow<S, N, Team>;
  using Base::inverse_t, Base::softmax, Base::team, Base::memory, Base::row, Base::label;
  using typename Base::Chunk;
  using typename Base::Pack;
  using typename Base::T;
  const MutualJob<S>& job;

  SIMT_DEVICE MutualRow(const MutualJob<S>& job_, const Team& team_, const TeamMemory<T>& memory_,
                        int64_t row_)
      : Base{job_, team_, memory_, row_, job_.label(row_)}, job(job_) {}

  SIMT_DEVICE void run(T divisor) const {
    this->clear(job.peers, 3 * job.peers);
    this->each([&](const Chunk& chunk) {
      chunk.read();
      this->add_peers(chunk, false);
    });
    this->finish(0, job.peers);
    if (job.soft) correct();
    this->each([&](const Chunk& chunk) {
      if (!job.whole()) chunk.read();
      for (int i = 0; i < job.peers; ++i) learn(chunk, i, divisor);
    });
    if (team.thread == 0) losses();
  }

 private:
  SIMT_DEVICE T& loss(int i) const { return memory.found[i]; }
  SIMT_DEVICE T& ce(int i) const { return memory.found[job.peers + i]; }
  SIMT_DEVICE T& kl(int i) const { return memory.found[2 * job.peers + i]; }

  SIMT_DEVICE void correct() const {
    this->each([&](const Chunk& chunk) {
      if (!job.whole()) chunk.read();
      for (int i = 1; i < job.peers; ++i) {
        const T x = less_first(chunk, i);
        if (team.thread == 0) kl(i) += x;
      }
    });
    team.sync();
    for (int i = 1 + team.thread; i < job.peers; i += team.size) {
      softmax(i).correction = log_z_correction(kl(i));
      kl(i) = T(0);
    }
    team.sync();
  }
  // The sum of p_i - p_0.
  SIMT_DEVICE T less_first(const Chunk& chunk, int i) const {
    const Softmax<T> p = softmax(i), p_0 = softmax(0);
    const PeerPair<T> log_ratio(p, p_0);
    const Own<T, N> own = chunk.array(i), first = chunk.array(0);
    Values<T, 1> x{};
    chunk.each([&](int, int round) {
      const Pack z = own.load(round), z_0 = first.load(round);
#pragma unroll
      for (int n = 0; n < N; ++n)
        x.v[0] +=
            share_difference<T>(p.share(z.v[n], inverse_t()), p_0.share(z_0.v[n], inverse_t()),
                                log_ratio(z.v[n], z_0.v[n], inverse_t()));
    });
    return team.reduce(x, Sum{}).v[0];
  }

  SIMT_DEVICE void learn(const Chunk& chunk, int i, T divisor) const {
    S* const gradient = job.gradients[i];
    const HardRow<T> hard = this->hard_row(i);
    const T ce_weight = job.ce_weights[i] / divisor, slope = job.soft_slope / divisor;
    const int label_at = chunk.place(label);
    const Own<T, N> own = chunk.array(i);
    Values<T, 1> sum{};
    chunk.each([&](int c, int round) {
      const Pack z = own.load(round);
      Pack g{};
      if (job.soft) sum.v[0] += pulls(chunk, i, round, z, g);
      if (gradient == nullptr) return;
#pragma unroll
      for (int n = 0; n < N; ++n) g.v[n] *= slope;
      this->add_hard(g, z, hard, ce_weight, c, label_at);
      chunk.write(gradient, c, g);
    });
    if (!job.soft) return;
    sum = team.reduce(sum, Sum{});
    if (team.thread == 0) kl(i) += sum.v[0];
  }
  // Adds up N classes' KLs, and leaves their gradients in g, both before the soft term's weight.
  SIMT_DEVICE T pulls(const Chunk& chunk, int i, int round, const Pack& z, Pack& g) const {
    T sum = 0;
    Pack p;
#pragma unroll
    for (int n = 0; n < N; ++n) p.v[n] = softmax(i).share(z.v[n], inverse_t());
    for (int j = 0; j < job.peers; ++j) {
      const T w = job.weights[i * job.peers + j];
      if (w == T(0)) continue;
      const Softmax<T> p_j = softmax(j);
      const PeerPair<T> log_ratio(softmax(i), p_j);
      const Pack other = chunk.array(j).load(round);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const T q = p_j.share(other.v[n], inverse_t());
        const T u = log_ratio(z.v[n], other.v[n], inverse_t());
        sum += w * plain_pair_terms<T>(z.v[n], other.v[n], p.v[n], q, u).of_i;
        g.v[n] += w * share_difference<T>(p.v[n], q, u);
      }
    }
    return sum;
  }

  SIMT_DEVICE void losses() const {
    for (int i = 0; i < job.peers; ++i) {
      const T w = job.ce_weights[i];
      ce(i) = w == T(0) ? w : this->hard_row(i).value;
      kl(i) *= job.soft_weight;
      loss(i) = kl(i) + w * ce(i);
    }
  }
};

template <class S, int N, bool kBlock>
SIMT_KERNEL_BOUNDS((kPeerThreads<S, kBlock>), (kPeerBlocks<S, kBlock>))
mutual_rows(MutualJob<S> job) {
  using T = simt::acc_t<S>;
  const T divisor = job.divisor();
  each_row<kBlock>(job,
                   [&](const auto& team, const TeamMemory<T>& memory, int64_t row, bool counts) {
                     if (!counts) return write_zeros<N>(job, team, row);
                     MutualRow<S, N, Team<kBlock>>(job, team, memory, row).run(divisor);
                   });
}

template <class S>
PeerNeeds needs_of(const MutualRows<S>& r) {
  const int pairs = r.peers * r.peers;
  const auto counts = [](double w) { return w != 0; };
  return {r.peers,
          0,
          r.peers,
          2 * r.peers,
          0,
          std::any_of(r.weights, r.weights + pairs, counts) && r.soft_weight != 0,
          std::any_of(r.ce_weights, r.ce_weights + r.peers, counts)};
}

template <class S, int N>
void launch_packed(const MutualJob<S>& job, const MutualRows<S>& r, const PeerPlan& p,
                   cudaStream_t stream) {
  const bool by_warp = p.threads == simt::kWarpSize;
  launch_peer_rows(by_warp ? mutual_rows<S, N, false> : mutual_rows<S, N, true>, job, r, p, stream);
}

}  // namespace

template <class S>
size_t mutual_kl_workspace(const MutualRows<S>& r) {
  return peer_workspace(r, needs_of(r));
}

template <class S>
void launch_mutual_kl(const MutualRows<S>& r, cudaStream_t stream) {
  using T = simt::acc_t<S>;
  const PeerNeeds needs = needs_of(r);
  const PeerPlan p = peer_plan(r, needs);
  MutualJob<S> job{peer_job(r, needs, p, static_cast<T*>(nullptr)), {}};
  std::transform(r.weights, r.weights + r.peers * r.peers, job.weights,
                 [](double w) { return T(w); });
  p.pack == 1 ? launch_packed<S, 1>(job, r, p, stream)
              : launch_packed<S, simt::kPackSize<S>>(job, r, p, stream);
}

}  // namespace kdops
