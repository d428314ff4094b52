// The passes over a row of peers and its targets: what each finds, and what it writes.
#pragma once

#include "cuda/mixture_row.cuh"

namespace kdops {
namespace {

template <class S, int N, class Team>
struct MixturePass : MixtureRow<S, N, Team> {
  using Base = MixtureRow<S, N, Team>;
  using Base::Base, Base::inverse_t, Base::softmax, Base::team, Base::memory, Base::row,
      Base::label, Base::job, Base::shift, Base::weights, Base::kl, Base::ce, Base::target,
      Base::mixed;
  using typename Base::Chunk;
  using typename Base::Pack;
  using typename Base::Ratio;
  using typename Base::T;

  SIMT_DEVICE void run(T divisor) const {
    const int peers = job.peers, all = peers + job.targets;
    const bool late = job.rule == kNaive;
    this->prepare();
    this->each([&](const Chunk& chunk) {
      chunk.read();
      this->add_peers(chunk, late);
      if (late) return;
      this->mix(chunk);
      this->add_targets(chunk);
    });
    this->finish(0, late ? peers : all);
    if (late) {
      this->choose_best();
      this->each([&](const Chunk& chunk) {
        if (!job.whole()) chunk.read();
        this->mix(chunk);
        this->add_targets(chunk);
      });
      this->finish(peers, all);
    }
    if (job.soft) compare();
    if (job.to_logits || job.weighted || learners()) pull(divisor);
    if (team.thread == 0) losses();
  }

  SIMT_DEVICE void write_nothing() const {
    write_zeros<N>(job, team, row);
    if (job.row_gradients == nullptr) return;
    const int all = job.targets * job.peers;
    for (int i = team.thread; i < all; i += team.size) job.row_gradients[row * all + i] = T(0);
  }

 private:
  SIMT_DEVICE bool learners() const {
    bool any = false;
    for (int k = 0; k < job.peers; ++k) any = any || job.gradients[k] != nullptr;
    return any;
  }
  template <class F>
  SIMT_DEVICE void each_again(F f) const {
    this->each([&](const Chunk& chunk) {
      if (!job.whole()) {
        chunk.read();
        this->mix(chunk);
      }
      f(chunk);
    });
  }

  // ---- the second pass
  // ---------------------------------------------------------------------------

  SIMT_DEVICE void compare() const {
    each_again([&](const Chunk& chunk) {
      for (int i = 0; i < job.peers; ++i) {
        const Values<T, 3> sum = compared(chunk, i);
        if (team.thread == 0) kl(i) += sum.v[0], ce(i) += sum.v[1], this->distance(i) += sum.v[2];
      }
    });
    team.sync();
    for (int i = team.thread; i < job.peers; i += team.size) {
      const T correction = log_z_correction(ce(i)), sum = kl(i);
      const T less = sum - phi_both<T>(correction).plus;
      const bool equal = this->distance(i) == T(0) && sum == sum;
      softmax(i).correction = equal ? -this->ratio(i).offset : correction;
      kl(i) = equal || less < T(0) ? T(0) : less;
    }
    team.sync();
  }
  // Of a chunk: KL(q || p_i), the sum of p_i - q, and of the distances of logits.
  SIMT_DEVICE Values<T, 3> compared(const Chunk& chunk, int i) const {
    const int a = job.target_of(i);
    const Softmax<T> p = softmax(i), q = target(a);
    const Ratio ratio = this->ratio(i);
    const Own<T, N> own = chunk.array(i), first = chunk.array(0), from = mixed(chunk, a);
    Values<T, 3> sum{};
    chunk.each([&](int, int round) {
      const Pack z = own.load(round), z_0 = first.load(round), m = from.load(round);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const T d = this->from_origin(i, z.v[n], z_0.v[n]);
        const T p_n = p.share(z.v[n], inverse_t());
        const T q_n = q.share(this->target_logit(a, z_0.v[n], m.v[n]), inverse_t());
        const T apart = ratio.distance(d, m.v[n], this->origin(z_0.v[n]));
        const T u = ratio.of(apart);
        sum.v[0] += plain_pair_terms<T>(d, m.v[n], p_n, q_n, u).of_i;
        sum.v[1] += share_difference<T>(p_n, q_n, u);
        sum.v[2] += apart == apart ? abs(apart) : T(0);
      }
    });
    return team.reduce(sum, Sum{});
  }

  // ---- the third pass
  // ----------------------------------------------------------------------------

  // Where dL/dt of the targets is kept: what goes to the weights, and what to the logits.
  SIMT_DEVICE Own<T, N> for_weights(const Chunk& chunk, int a) const {
    return chunk.array(job.peers + job.targets + a);
  }
  SIMT_DEVICE Own<T, N> for_logits(const Chunk& chunk, int a) const {
    return chunk.array(job.peers + (job.apart ? 2 : 1) * job.targets + a);
  }

  SIMT_DEVICE void pull(T divisor) const {
    each_again([&](const Chunk& chunk) {
      const bool flows = job.to_logits || job.to_weights;
      for (int a = 0; a < job.targets && flows; ++a) pull_target(chunk, a, divisor);
      if (job.to_weights) pull_weights(chunk);
      for (int k = 0; k < job.peers; ++k)
        if (job.gradients[k] != nullptr) learn(chunk, k, divisor);
    });
    team.sync();
    if (job.rule == kMinLogit && job.to_logits && team.thread == 0) write_labels();
    if (job.weighted) write_weights();
  }

  SIMT_DEVICE void pull_target(const Chunk& chunk, int a, T divisor) const {
    const Softmax<T> q = target(a);
    const bool hard = job.ensemble_weight != T(0);
    const HardRow<T> row = hard ? this->target_hard_row(a) : HardRow<T>(T(0), T(0), T(0));
    const T slope = job.soft_slope / divisor, weight = job.ensemble_weight / divisor;
    T kls = 0;
    for (int i = 0; i < job.peers; ++i) kls += job.target_of(i) == a ? kl(i) : T(0);
    const int label_at = chunk.place(label);
    const Own<T, N> first = chunk.array(0), from = mixed(chunk, a);
    chunk.each([&](int c, int round) {
      const Pack z_0 = first.load(round), m = from.load(round),
                 ratios = log_ratios(chunk, a, round);
      Pack soft{}, both{};
#pragma unroll
      for (int n = 0; n < N; ++n) {
        if (m.v[n] == kLacking<T>) continue;
        const T t = this->target_logit(a, z_0.v[n], m.v[n]);
        if (job.soft) soft.v[n] = target_pull(q.share(t, inverse_t()), ratios.v[n], kls, slope);
        if (hard) both.v[n] = weight * row.slope(t, c + n == label_at);
      }
      if (job.to_logits) for_logits(chunk, a).store(round, sum_of(both, soft, job.soft_to_logits));
      if (job.to_weights)
        for_weights(chunk, a).store(round, sum_of(both, soft, job.soft_to_weights));
    });
  }
  SIMT_DEVICE static Pack sum_of(Pack hard, const Pack& soft, bool with) {
    return with ? Sum{}(hard, soft) : hard;
  }
  // The sum of log p_i - log q over the peers that learn from target a.
  SIMT_DEVICE Pack log_ratios(const Chunk& chunk, int a, int round) const {
    Pack sum{};
    if (!job.soft) return sum;
    const Pack z_0 = chunk.array(0).load(round), m = mixed(chunk, a).load(round);
    for (int i = 0; i < job.peers; ++i) {
      if (job.target_of(i) != a) continue;
      const Ratio ratio = this->ratio(i);
      const Pack z = chunk.array(i).load(round);
#pragma unroll
      for (int n = 0; n < N; ++n)
        sum.v[n] += ratio.of(
            ratio.distance(this->from_origin(i, z.v[n], z_0.v[n]), m.v[n], this->origin(z_0.v[n])));
    }
    return sum;
  }

  SIMT_DEVICE void pull_weights(const Chunk& chunk) const {
    for (int a = 0; a < job.targets; ++a)
      for (int k = 0; k < job.peers; ++k) {
        const Own<T, N> own = chunk.array(k), from = for_weights(chunk, a);
        Values<T, 1> sum{};
        chunk.each([&](int, int round) {
          const Pack z = own.load(round), g = from.load(round);
#pragma unroll
          for (int n = 0; n < N; ++n)
            sum.v[0] += g.v[n] * ((z.v[n] == kLacking<T> ? T(0) : z.v[n]) - shift(k));
        });
        sum = team.reduce(sum, Sum{});
        if (team.thread == 0) this->weight_gradients()[a * job.peers + k] += sum.v[0];
      }
  }
  SIMT_DEVICE void write_weights() const {
    const int all = job.targets * job.peers;
    T* const to = job.row_gradients == nullptr ? memory.found + job.columns.terms_end
                                               : job.row_gradients + row * all;
    for (int i = team.thread; i < all; i += team.size) to[i] = this->weight_gradients()[i];
  }

  SIMT_DEVICE void learn(const Chunk& chunk, int k, T divisor) const {
    const int a = job.target_of(k), label_at = chunk.place(label);
    const Softmax<T> p = softmax(k), q = target(a);
    const Ratio ratio = this->ratio(k);
    const HardRow<T> hard = this->hard_row(k);
    const T slope = job.soft_slope / divisor, ce_weight = job.ce_weights[k] / divisor;
    const Own<T, N> own = chunk.array(k), first = chunk.array(0), from = mixed(chunk, a);
    Values<T, 1> sum{};
    chunk.each([&](int c, int round) {
      const Pack z = own.load(round);
      Pack g{};
      if (job.soft) {
        const Pack z_0 = first.load(round), m = from.load(round);
#pragma unroll
        for (int n = 0; n < N; ++n) {
          const T d = this->from_origin(k, z.v[n], z_0.v[n]);
          const T q_n = q.share(this->target_logit(a, z_0.v[n], m.v[n]), inverse_t());
          const T u = ratio.of(ratio.distance(d, m.v[n], this->origin(z_0.v[n])));
          g.v[n] = slope * share_difference<T>(p.share(z.v[n], inverse_t()), q_n, u);
        }
      }
      this->add_hard(g, z, hard, ce_weight, c, label_at);
      if (job.to_logits) sum.v[0] += add_flow(chunk, k, round, g);
#pragma unroll
      for (int n = 0; n < N; ++n)
        if (c + n == label_at) this->at_label(k) = g.v[n];
      chunk.write(job.gradients[k], c, g);
    });
    if (job.rule != kMinLogit || !job.to_logits) return;
    sum = team.reduce(sum, Sum{});
    if (team.thread == 0) this->taken(k) += sum.v[0];
  }
  // What flows through the targets to N classes of peer k; returns its sum.
  SIMT_DEVICE T add_flow(const Chunk& chunk, int k, int round, Pack& g) const {
    T sum = 0;
    for (int a = 0; a < job.targets; ++a) {
      const T w = weights(a)[k];
      if (job.rule != kMinLogit && w == T(0)) continue;
      const Pack flow = for_logits(chunk, a).load(round);
      const Pack part = job.rule == kMinLogit ? least(chunk, k, round) : Pack{};
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const T share = (job.rule == kMinLogit ? part.v[n] : w) * flow.v[n];
        g.v[n] += share;
        sum += share;
      }
    }
    return sum;
  }
  // Peer k's part of the least logit: 1, or less where others have the same.
  SIMT_DEVICE Pack least(const Chunk& chunk, int k, int round) const {
    const Pack z_0 = chunk.array(0).load(round), m = mixed(chunk, 0).load(round);
    Pack same{}, mine{};
    for (int i = 0; i < job.peers; ++i) {
      const Pack z = chunk.array(i).load(round);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const bool is = this->from_origin(i, z.v[n], z_0.v[n]) == m.v[n];
        same.v[n] += T(is);
        if (i == k) mine.v[n] = T(is);
      }
    }
#pragma unroll
    for (int n = 0; n < N; ++n) mine.v[n] = mine.v[n] == T(0) ? T(0) : mine.v[n] / same.v[n];
    return mine;
  }
  // Every least logit is less its peer's at the label.
  SIMT_DEVICE void write_labels() const {
    if (label < 0 || label >= job.cols) return;
    for (int k = 0; k < job.peers; ++k)
      if (S* const gradient = job.gradients[k])
        gradient[row * job.cols + label] = simt::narrow<S>(this->at_label(k) - this->taken(k));
  }

  SIMT_DEVICE void losses() const {
    T loss = 0;
    for (int i = 0; i < job.peers; ++i) {
      const T w = job.ce_weights[i];
      ce(i) = w == T(0) ? w : this->hard_row(i).value;
      kl(i) *= job.soft_weight;
      loss += kl(i) + w * ce(i);
    }
    for (int a = 0; a < job.targets && job.ensemble_weight != T(0); ++a) {
      this->ensemble_ce(a) = this->target_hard_row(a).value;
      loss += job.ensemble_weight * this->ensemble_ce(a);
    }
    memory.found[0] = loss;
  }
};

}  // namespace
}  // namespace kdops
