// The passes over a row of K peers (peer_row.h).
#pragma once

#include "cpu/peer_row.h"

namespace kdops {

// ---- pass 0: sums ------------------------------------------------------------------------------

template <int W, class S>
KDOPS_INLINE void reset(PeerRow<W, S>& r) {
  const double top = r.shares_softmax() ? 0 : -kInfinity<double>;
  for (int m = 0; m < r.job.members(); ++m) {
    Member& member = r.members[m];
    member.z = member.h = member.others = 0, member.hard_top = top;
  }
  for (int a = 0; a < r.job.targets; ++a) {
    r.target_top[a] = -kInfinity<acc_t<S>>;
    std::fill_n(r.peak[a], r.job.peers, acc_t<S>(0));
  }
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void add_sums(PeerRow<W, S>& r, int64_t begin, int64_t n, const BlockSums<T>* sums) {
  for (int m = 0; m < r.job.members(); ++m) {
    r.members[m].z += sums[m].f, r.members[m].h += sums[m].h;
    if (r.has_ce(m)) r.read_hard(m, begin, n, sums[m].f);
  }
  if (r.weights_gradient) r.find_peaks(n);
}

// The members' normalisers, and the values of their cross-entropies.
template <int W, class S>
KDOPS_INLINE void finish_sums(PeerRow<W, S>& r, double* ce) {
  const double z0 = r.members[0].z;
  for (int m = 0; m < r.job.members(); ++m) {
    Member& member = r.members[m];
    member.log_z = r.plain ? std::log(member.z) : log_ratio(member.h / z0, member.z, z0);
    ce[m] = r.has_ce(m) ? r.finish_hard(m) : 0;
  }
}

// ---- pass 1: pairs -----------------------------------------------------------------------------

template <class V, class T = element_t<V>>
KDOPS_INLINE PairSums pair_sums(bool plain, bool both, int64_t size, T inverse_t, T log_ratio,
                                const T* d_i, const T* d_j, const T* p_i, const T* p_j) {
  if (__builtin_expect(plain, 0))
    return pair_sums<V, true, true>(size, inverse_t, log_ratio, d_i, d_j, p_i, p_j);
  if (both) return pair_sums<V, false, true>(size, inverse_t, log_ratio, d_i, d_j, p_i, p_j);
  return pair_sums<V, false, false>(size, inverse_t, log_ratio, d_i, d_j, p_i, p_j);
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void add_pairs(PeerRow<W, S>& r, int64_t n) {
  const PeerScratch<T>& s = r.s;
  for (const Pair& pair : r.job.pairs) {
    const int i = pair.i, j = pair.j;
    const T log_ratio = T(r.members[i].log_z - r.members[j].log_z);
    const PairSums sums = pair_sums<vec<T, W>>(r.plain, pair.of_j != 0, r.padded(n), r.inverse_t,
                                               log_ratio, s.d(i), s.d(j), s.p(i), s.p(j));
    if (pair.of_i != 0) r.kl[i] += pair.of_i * sums.of_i;
    if (pair.of_j != 0) r.kl[j] += pair.of_j * sums.of_j;
    if (j >= r.job.peers) r.target_kl[j - r.job.peers] += sums.of_i;
  }
}

// ---- the last pass: gradients ------------------------------------------------------------------

// dL/dt of the KLs with target a, added to `out`.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void add_target_pull(PeerRow<W, S>& r, int a, int64_t size, const T* from, T* out) {
  using V = vec<T, W>;
  const PeerScratch<T>& s = r.s;
  const int target = r.job.peers + a;
  const int first = r.job.targets == 1 ? 0 : a, last = r.job.targets == 1 ? r.job.peers : a + 1;
  const T by = T(r.job.scale * r.job.loss.soft_weight / r.job.loss.temperature);
  T log_ratio = 0;
  for (int i = first; i < last; ++i) log_ratio += T(r.members[i].log_z - r.members[target].log_z);
  each<V>(size, [&](int64_t c) KDOPS_BODY {
    const V d = load<T, W>(s.d(target) + c);
    V sum{};
    for (int i = first; i < last; ++i) sum += load<T, W>(s.d(i) + c) - d;
    const V log_ratios = sum * r.inverse_t - log_ratio, q = load<T, W>(s.p(target) + c);
    const V pull = target_pull(q, log_ratios, broadcast<T, W>(T(r.target_kl[a])), V{} + by);
    store(out + c, load<T, W>(from + c) + pull);
  });
}

template <class V, class T = element_t<V>>
KDOPS_INLINE void clear(int64_t size, T* x) {
  each<V>(size, [&](int64_t i) KDOPS_BODY { store(x + i, V{}); });
}

// What flows to the targets' logits, and the gradient of the weights.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void fill_flows(PeerRow<W, S>& r, int64_t begin, int64_t n) {
  using V = vec<T, W>;
  const PeerScratch<T>& s = r.s;
  const PeerJob<S>& job = r.job;
  const int64_t size = r.padded(n);
  for (int a = 0; a < job.targets; ++a) {
    clear<V>(size, s.flow(a));
    if (job.hard_flows())
      r.add_hard(job.peers + a, job.scale * job.mixture->ensemble_ce_weight, begin, n, s.flow(a));
    T* const out = job.to_logits() ? s.flow(a) : s.work();
    const T* of_weights = s.flow(a);
    if (job.soft_flows()) {
      add_target_pull(r, a, size, s.flow(a), out);
      of_weights = out;
    }
    for (int k = 0; k < job.peers && r.weights_gradient; ++k) {
      const T top = r.plain ? T(r.members[k].top) : T(0), peak = r.peak[a][k];
      const T lacking = std::isfinite(top) ? -top - peak : T(0);
      r.weights_gradient[a * job.peers + k] +=
          weight_gradient<V>(size, of_weights, s.base(), s.d(k), peak, lacking);
    }
  }
  if (job.rule() == kMinLogit) share_flow<V>(s, job.peers, size);
}

// The soft terms' gradient of peer k, to work.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void fill_pull(PeerRow<W, S>& r, int k, int64_t size) {
  using V = vec<T, W>;
  const auto& partners = r.job.partners[k];
  T* const out = r.s.work();
  if (partners.empty()) return clear<V>(size, out);
  const T* const own = r.g(k);
  const int count = int(partners.size());
  const T* theirs[kMostPeers];
  T weights[kMostPeers];
  const double by = r.job.scale * r.job.loss.soft_weight / r.job.loss.temperature;
  for (int q = 0; q < count; ++q)
    theirs[q] = r.g(partners[q].peer), weights[q] = T(by * partners[q].weight);
  constexpr int L = lanes<T, W>;
  each_few<V>(size, [&](int64_t i, auto few) KDOPS_BODY {
    V g[few], sum[few] = {};
    for (int v = 0; v < few; ++v) g[v] = load<T, W>(own + i + v * L);
    for (int q = 0; q < count; ++q) {
      const V weight = broadcast<T, W>(weights[q]);
      for (int v = 0; v < few; ++v)
        sum[v] = pull(sum[v], weight, g[v], load<T, W>(theirs[q] + i + v * L));
    }
    for (int v = 0; v < few; ++v) store(out + i + v * L, sum[v]);
  });
}

// A block of peer k's gradient, from work.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void write_gradient(const PeerRow<W, S>& r, int k, int64_t begin, int64_t n) {
  constexpr int L = lanes<T, W>;
  S* const out = r.job.gradients[k] + r.row * r.job.cols + begin;
  const T* const from = r.s.work();
  for (int64_t i = 0; i + L <= n; i += L) store_as(out + i, load<T, W>(from + i));
  if (n % L != 0) store_as_n(out + n / L * L, load<T, W>(from + n / L * L), int(n % L));
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void write_gradients(PeerRow<W, S>& r, int64_t begin, int64_t n) {
  using V = vec<T, W>;
  const PeerJob<S>& job = r.job;
  const int64_t size = r.padded(n), place = r.label - begin;
  if (job.flows()) fill_flows(r, begin, n);
  const bool back = job.hard_flows() || (job.to_logits() && job.soft_flows());
  for (int k = 0; k < job.peers; ++k) {
    if (!job.gradients[k]) continue;
    fill_pull(r, k, size);
    if (back) r.least_flow[k] += flow_to_peer<V>(job, r.s, r.mix, k, size);
    if (r.has_ce(k)) r.add_hard(k, job.scale * job.loss.ce_weights[k], begin, n, r.s.work());
    if (place >= 0 && place < n) r.at_label[k] = r.s.work()[place];
    write_gradient(r, k, begin, n);
  }
}

// ---- passes 1 and last in one, where each peer learns from a target that keeps nothing ----------

template <int W, class S>
KDOPS_INLINE bool one_sweep(const PeerRow<W, S>& r) {
  const PeerJob<S>& job = r.job;
  return job.mixture && !r.plain && !job.flows() && !r.weights_gradient && !job.pairs.empty() &&
         (!any_ce(job.loss) || r.shares_softmax());
}

// The KL of a peer and its target in a block as pass 0 left it, and the peer's gradient.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void learn(PeerRow<W, S>& r, const Pair& pair, int64_t begin, int64_t n) {
  using V = vec<T, W>;
  const PeerJob<S>& job = r.job;
  const int k = pair.i;
  const auto own = r.shares(k), target = r.shares(pair.j);
  const T *const d = r.s.d(k), *const of_target = r.s.d(pair.j);
  const T log_ratio = T(r.members[k].log_z - r.members[pair.j].log_z);
  const V weight =
      broadcast<T, W>(T(job.scale * job.loss.soft_weight / job.loss.temperature * pair.of_i));
  const S* const out = (job.gradients[k] ? job.gradients[k] : job.logits[k]) + r.row * job.cols;
  V kl{};
  each<V>(r.padded(n), [&](int64_t c) KDOPS_BODY {
    __builtin_prefetch(out + begin + c, 1);
    const auto mine = own(c), aim = target(c);
    const V u = (load<T, W>(d + c) - load<T, W>(of_target + c)) * r.inverse_t - log_ratio;
    kl += pair_terms<T>(mine.p, aim.p, u).of_i;
    store(r.s.work() + c, pull(V{}, weight, mine.g, aim.g));
  });
  r.kl[k] += pair.of_i * sum(kl);
  if (!job.gradients[k]) return;
  const double hard = job.scale * job.loss.ce_weights[k];
  if (hard != 0) r.add_hard(k, hard, begin, n, r.s.work(), 1 / r.members[k].z);
  write_gradient(r, k, begin, n);
}

// What the min_logit rule's targets take from the labels.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void finish_gradients(PeerRow<W, S>& r) {
  for (int k = 0; k < r.job.peers; ++k) {
    S* const out = r.job.gradients[k];
    if (out == nullptr || r.least_flow[k] == 0) continue;
    const T value = T(r.at_label[k] - r.least_flow[k]);
    store_as_n(out + r.row * r.job.cols + r.label, broadcast<T, W>(value), 1);
  }
}

// ---- a row -------------------------------------------------------------------------------------

// Writes its terms: the cross-entropies of the peers, their weighted KLs, the targets'
// cross-entropies.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void peer_row(PeerRow<W, S>& r, double* terms) {
  const PeerJob<S>& job = r.job;
  const int last = !job.any_gradient ? 1 : job.soft_flows() ? 2 : 1;
  double ce[kMostMembers];
  BlockSums<T> sums[kMostMembers];
  r.start();
  r.plain = r.plain || !r.mix.representable;
  if (r.plain) r.start_plain();
  reset(r);
  for (int pass = 0; pass <= last; ++pass) {
    for (int64_t begin = 0; begin < job.cols; begin += kBlock) {
      const int64_t n = std::min(kBlock, job.cols - begin);
      r.s = r.scratch.block(begin / kBlock);
      if (pass == 0 || !r.s.kept) {
        if (r.plain) {
          r.fill_plain(begin, n, sums);
        } else if (!r.fill_near(begin, n, sums)) {
          r.plain = true;
          r.start_plain();
          reset(r);
          begin = -kBlock;
          continue;
        }
      }
      if (pass == 0) {
        add_sums(r, begin, n, sums);
        continue;
      }
      if (one_sweep(r)) {
        for (const Pair& pair : job.pairs) learn(r, pair, begin, n);
        continue;
      }
      if (pass == 1 || !r.s.kept) r.normalise_block(n);
      if (pass == 1) add_pairs(r, n);
      if (pass == last && job.any_gradient) write_gradients(r, begin, n);
    }
    if (pass == 0) finish_sums(r, ce);
  }
  if (job.any_gradient && job.rule() == kMinLogit) finish_gradients(r);
  for (int k = 0; k < job.peers; ++k)
    terms[k] = ce[k], terms[job.peers + k] = job.loss.soft_weight * r.kl[k];
  for (int a = 0; a < job.targets; ++a) terms[2 * job.peers + a] = ce[job.peers + a];
}

}  // namespace kdops
