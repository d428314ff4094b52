// Peers that learn from mixtures of their logits: a row of all K peers and its A targets at once.
//
// Three passes over the classes. The first mixes the targets and finds all softmaxes; the second
// the KLs, with what the sums lack, as sum p_i - q_a is 0 but for their rounding; the third what
// flows back through the targets, then peer by peer the gradient.
//
// A peer's logits z_k are taken less a shift, of the label or of the first class, and in a class as
// what they differ from peer 0's: with y = z_0 - shift_0 and D_k = (z_k - shift_k) - y without
// rounding, a target is t = y + excess y + sum_k w_k D_k, and a peer differs from it by
// D_i - sum_k w_k D_k - excess y. Where peer 0 has no finite logit y counts as 0.
#pragma once

#include "cuda/peer_row.cuh"
#include "formulas/mixtures.h"

namespace kdops {
namespace {

template <class S>
struct MixtureJob : PeerJob<S> {
  using T = simt::acc_t<S>;
  const T* weights;                   // (targets, peers), or one a row; null where a rule has none
  T* row_gradients;                   // of weights that every row has for itself, or null
  bool weights_of_rows;               // one a row
  bool weighted;                      // the weights' gradient is wanted
  bool to_logits, to_weights, apart;  // what flows through the targets, and whether it differs
  int rule, targets;
  bool soft_to_logits, soft_to_weights;
  T ensemble_weight;

  SIMT_DEVICE int target_of(int peer) const { return targets == 1 ? 0 : peer; }
};

// Of a row, besides what is found.
inline int mixture_numbers(int peers, int targets) {
  return 4 * peers + targets + 2 * targets * peers;
}

// Found are the loss, cross-entropies, KLs, the targets' cross-entropies, the weights' gradient.
template <class S, int N, class Team>
struct MixtureRow : PeerRow<S, N, Team> {
  using Base = PeerRow<S, N, Team>;
  using Base::inverse_t, Base::softmax, Base::team, Base::memory, Base::row, Base::label;
  using typename Base::Chunk;
  using typename Base::Pack;
  using typename Base::T;
  const MixtureJob<S>& job;

  SIMT_DEVICE MixtureRow(const MixtureJob<S>& job_, const Team& team_, const TeamMemory<T>& memory_,
                         int64_t row_)
      : Base{job_, team_, memory_, row_, job_.label(row_)}, job(job_) {}

 protected:
  SIMT_DEVICE T& shift(int k) const { return memory.numbers[k]; }
  SIMT_DEVICE T& at_label(int k) const { return memory.numbers[job.peers + k]; }
  SIMT_DEVICE T& taken(int k) const { return memory.numbers[2 * job.peers + k]; }
  SIMT_DEVICE T& distance(int k) const { return memory.numbers[3 * job.peers + k]; }
  SIMT_DEVICE T& excess_of(int a) const { return memory.numbers[4 * job.peers + a]; }
  SIMT_DEVICE T* weights(int a) const {
    return memory.numbers + 4 * job.peers + job.targets + a * job.peers;
  }
  SIMT_DEVICE T* weight_gradients() const { return weights(job.targets); }
  SIMT_DEVICE T& ce(int i) const { return memory.found[1 + i]; }
  SIMT_DEVICE T& kl(int i) const { return memory.found[1 + job.peers + i]; }
  SIMT_DEVICE T& ensemble_ce(int a) const { return memory.found[1 + 2 * job.peers + a]; }
  SIMT_DEVICE Softmax<T>& target(int a) const { return softmax(job.peers + a); }
  // sum_k w_k D_k of a target, class by class.
  SIMT_DEVICE Own<T, N> mixed(const Chunk& chunk, int a) const {
    return chunk.array(job.peers + a);
  }

  SIMT_DEVICE T origin(T z_0) const { return abs(z_0) < kInfinity<T> ? z_0 - shift(0) : T(0); }
  SIMT_DEVICE T from_origin(int k, T z, T z_0) const {
    const Difference<T> offset = difference(shift(k), shift(0));
    const bool plain = z == kLacking<T> || !(abs(z_0) < kInfinity<T>);
    return plain ? z - shift(k) : peer_difference<T>(z, z_0, offset);
  }
  // A mixture with another peer in it; it lacks the classes that a peer of weight other than 0
  // does.
  SIMT_DEVICE T with(T mixed, T weight, T d) const {
    if (job.rule == kMinLogit) return d < mixed || d != d ? d : mixed;
    if (d != kLacking<T>) return mixed + weight * d;
    return weight == T(0) ? mixed : d;
  }
  SIMT_DEVICE T nothing_mixed() const { return job.rule == kMinLogit ? kInfinity<T> : T(0); }
  SIMT_DEVICE T target_logit(int a, T z_0, T mixed) const {
    const T y = origin(z_0);
    return y + (excess_of(a) * y + mixed);
  }
  SIMT_DEVICE T label_logit(int a) const {
    const T z_0 = job.logit(0, row, label);
    T mixed = nothing_mixed();
    for (int k = 0; k < job.peers; ++k)
      mixed = with(mixed, weights(a)[k], from_origin(k, job.logit(k, row, label), z_0));
    return target_logit(a, z_0, mixed);
  }
  SIMT_DEVICE HardRow<T> target_hard_row(int a) const {
    return {target(a).top, target(a).others, label_logit(a)};
  }

  // Peer i and its target in a class: their distance, and log p_i - log q.
  struct Ratio {
    T inverse_t, excess, offset, correction;

    SIMT_DEVICE T distance(T d, T mixed, T y) const { return (d - mixed) - excess * y; }
    SIMT_DEVICE T of(T distance) const { return (distance * inverse_t - offset) - correction; }
  };
  SIMT_DEVICE Ratio ratio(int i) const {
    const int a = job.target_of(i);
    const T offset = ((softmax(i).top - shift(i)) - target(a).top) * inverse_t();
    return {inverse_t(), excess_of(a), log_z_ratio(softmax(i), target(a), offset),
            softmax(i).correction};
  }

  // ---- the first pass
  // ----------------------------------------------------------------------------

  SIMT_DEVICE void prepare() const {
    const int peers = job.peers, all = job.targets * peers;
    const bool by_label = job.rule == kMinLogit;
    for (int k = team.thread; k < peers; k += team.size) {
      const T z = job.logit(k, row, by_label ? label : 0);
      shift(k) = by_label || abs(z) < kInfinity<T> ? z : T(0);
      at_label(k) = taken(k) = distance(k) = T(0);
    }
    const T* const given = job.weights + (job.weights_of_rows ? row * all : 0);
    for (int i = team.thread; i < all; i += team.size) {
      weights(0)[i] = job.rule == kWeights ? given[i] : T(0);
      weight_gradients()[i] = T(0);
    }
    for (int a = team.thread; a < job.targets; a += team.size) {
      T sum = job.rule == kWeights ? T(0) : T(1);
      for (int k = 0; k < peers && job.rule == kWeights; ++k) sum += given[a * peers + k];
      excess_of(a) = excess<T>(sum, peers);
    }
    this->clear(peers + job.targets, 1 + 2 * peers + job.targets);
  }

  // All that the weights go to, of the peer with the least cross-entropy; NaN is the least.
  SIMT_DEVICE void choose_best() const {
    if (team.thread == 0) {
      int best = 0;
      T least = this->hard_row(0).value;
      for (int k = 1; k < job.peers; ++k) {
        const T value = this->hard_row(k).value;
        if (!(value < least || value != value) || least != least) continue;
        best = k, least = value;
      }
      weights(0)[best] = T(1);
    }
    team.sync();
  }

  SIMT_DEVICE void mix(const Chunk& chunk) const {
    const Own<T, N> first = chunk.array(0);
    for (int a = 0; a < job.targets; ++a) {
      const Own<T, N> to = mixed(chunk, a);
      chunk.each([&](int, int round) {
        const Pack z_0 = first.load(round);
        Pack sum;
#pragma unroll
        for (int n = 0; n < N; ++n) sum.v[n] = nothing_mixed();
        for (int k = 0; k < job.peers; ++k) {
          const Pack z = chunk.array(k).load(round);
#pragma unroll
          for (int n = 0; n < N; ++n)
            sum.v[n] = with(sum.v[n], weights(a)[k], from_origin(k, z.v[n], z_0.v[n]));
        }
        to.store(round, sum);
      });
    }
  }
  SIMT_DEVICE void add_targets(const Chunk& chunk) const {
    const Own<T, N> first = chunk.array(0);
    for (int a = 0; a < job.targets; ++a) {
      const Own<T, N> from = mixed(chunk, a);
      this->add(chunk, job.peers + a, job.ensemble_weight != T(0), [&](int, int round) {
        const Pack z_0 = first.load(round);
        Pack t = from.load(round);
#pragma unroll
        for (int n = 0; n < N; ++n) t.v[n] = target_logit(a, z_0.v[n], t.v[n]);
        return t;
      });
    }
  }
};

}  // namespace
}  // namespace kdops
