// One row of K peers, in blocks of classes.
//
// Pass 0 reads the members' sums, pass 1 adds up the KLs of the pairs, and the last pass, the same
// one unless targets want a gradient, writes the gradients. A row keeps the softmaxes of its blocks
// in scratch; where that would be too much, each pass makes them anew.
#pragma once

#include "cpu/peer_mix.h"

namespace kdops {

template <int W, class S>
struct PeerRow {
  using T = acc_t<S>;
  using V = vec<T, W>;

  const PeerJob<S>& job;
  const PeerScratch<T> scratch;
  PeerScratch<T> s;          // of the block at hand
  const int64_t row, label;  // -1 without labels
  const T inverse_t, rate;
  bool plain = false;
  T top = 0;
  Difference<V> offset[kMostPeers];
  Mix<T> mix;
  Member members[kMostMembers];
  double kl[kMostPeers] = {}, target_kl[kMostPeers] = {};  // of each peer, weighted; of each target
  double* weights_gradient;                                // A x K of the row, or null
  T peak[kMostPeers][kMostPeers], target_top[kMostPeers];  // of target a, and each peer's there
  double least_flow[kMostPeers] = {}, at_label[kMostPeers] = {};

  KDOPS_INLINE PeerRow(const PeerJob<S>& job, const PeerScratch<T>& scratch, int64_t row,
                       double* gradient)
      : job(job),
        scratch(scratch),
        s(scratch),
        row(row),
        label(job.labels.given() ? job.labels[row] : -1),
        inverse_t(T(1 / job.temperature())),
        rate(T(1 / job.temperature() * kLog2E)),
        weights_gradient(gradient) {}

  KDOPS_INLINE const S* logits(int k) const { return job.logits[k] + row * job.cols; }
  KDOPS_INLINE T logit(int k, int64_t c) const {
    return load_as_n<T, W>(logits(k) + c, 1, T(0))[0];
  }
  KDOPS_INLINE int64_t padded(int64_t n) const {
    return (n + lanes<T, W> - 1) & -int64_t{lanes<T, W>};
  }
  KDOPS_INLINE bool has_ce(int n) const { return job.ce_weight(n) != 0; }
  template <class F>
  KDOPS_INLINE void blocks(F f) const {
    for (int64_t begin = 0; begin < job.cols; begin += kBlock)
      f(begin, std::min(kBlock, job.cols - begin));
  }

  // ---- what a row starts from ------------------------------------------------------------------

  KDOPS_INLINE V row_top(const S* z) const {
    V highest = V{} - kInfinity<T>;
    Columns<S, W>{z, z, job.cols}.sweep([&](int64_t, V x, V, auto)
                                            KDOPS_BODY { highest = max(highest, x); });
    return max_lanes(highest);
  }

  // Finds the top class and the peers' offsets there.
  KDOPS_INLINE void start() {
    const S* const z0 = logits(0);
    top = row_top(z0)[0];
    int64_t at = 0;
    while (at + lanes<T, W> < job.cols && max(load_as<T, W>(z0 + at)) != top) at += lanes<T, W>;
    while (at + 1 < job.cols && logit(0, at) != top) ++at;
    for (int k = 0; k < job.peers; ++k)
      offset[k] = difference(broadcast<T, W>(logit(k, at)), broadcast<T, W>(top));
    plain = !(top - top == 0);
    if (!job.mixture) return;
    if (job.rule() == kNaive) {
      const int best = best_peer<W>(job, row, label);
      for (int k = 0; k < job.peers; ++k) mix.one_hot[k] = k == best;
    }
    mix_weights(job, row, mix);
    if (job.rule() != kMinLogit) return;
    mix.lift = -kInfinity<T>;
    for (int k = 0; k < job.peers; ++k) {
      mix.label[k] = logit(k, label);
      const V z = broadcast<T, W>(mix.label[k]), first = broadcast<T, W>(logit(0, label));
      mix.label_d[k] = relative(difference(z, first), offset[k])[0];
      mix.lift = mix.label_d[k] > mix.lift ? mix.label_d[k] : mix.lift;
      mix.representable = mix.representable && std::isfinite(z[0]);
    }
  }

  [[gnu::cold]] KDOPS_INLINE void start_plain() {
    for (int k = 0; k < job.peers; ++k) members[k].top = row_top(logits(k))[0];
    if (job.rule() == kMinLogit)
      for (int k = 0; k < job.peers; ++k) mix.label_d[k] = logit(k, label) - T(members[k].top);
    for (int a = 0; a < job.targets; ++a) members[job.peers + a].top = -kInfinity<double>;
    if (job.targets == 0) return;
    blocks([&](int64_t begin, int64_t n) KDOPS_BODY {
      plain_d(begin, n, false);
      for (int a = job.peers; a < job.members(); ++a)
        for (int64_t i = 0; i < n; ++i)
          members[a].top = !(s.d(a)[i] <= members[a].top) ? s.d(a)[i] : members[a].top;
    });
  }

  // ---- a block's softmaxes -------------------------------------------------------------------

  template <bool kPlain>
  KDOPS_INLINE void fill_targets(int64_t begin, int64_t n) {
    if (job.rule() == kMinLogit)
      return least_d<W>(job, s, mix, row * job.cols + begin, n, kPlain ? T(0) : mix.lift);
    for (int a = 0; a < job.targets; ++a) mixed_d<V, kPlain>(job, s, mix, a, padded(n));
  }

  // False where the row is not near.
  KDOPS_INLINE bool fill_near(int64_t begin, int64_t n, BlockSums<T>* sums) {
    const S* const z0 = logits(0) + begin;
    const int64_t size = padded(n);
    V z{};
    Columns<S, W>{z0, z0, n}.sweep([&](int64_t i, V x, V, auto) KDOPS_BODY {
      __builtin_prefetch(z0 + i + kBlock);
      const V below = x - top, e = exp2(below * rate);
      z += e;
      store(s.base() + i, below);
      store(s.p(0) + i, e);
      store(s.d(0) + i, V{});
      store(s.g(0) + i, V{});
    });
    sums[0] = {sum(z), 0, 0, 0};
    const auto exps = [&](int m)
                          KDOPS_BODY { return NearExps<V>{rate, s.p(0), s.d(m), s.p(m), s.g(m)}; };
    for (int k = 1; k < job.peers; ++k) {
      NearExps<V> of_k = exps(k);
      const S* const z = logits(k) + begin;
      Columns<S, W>{z, z0, n}.sweep([&](int64_t i, V x, V x0, auto) KDOPS_BODY {
        __builtin_prefetch(z + i + kBlock);  // of this row, or of the next
        of_k(i, peer_difference<T>(x, x0, offset[k]));
      });
      sums[k] = of_k.sums();
    }
    fill_targets<false>(begin, n);
    for (int m = job.peers; m < job.members(); ++m) {
      NearExps<V> of_m = exps(m);
      each<V>(size, [&](int64_t i) KDOPS_BODY { of_m(i, load<T, W>(s.d(m) + i)); });
      sums[m] = of_m.sums();
    }
    bool near = std::isfinite(sums[0].f);
    for (int m = 1; m < job.members(); ++m)
      near = near && sums[m].highest * inverse_t < kNear<T> && sums[m].lowest > -kInfinity<T> &&
             std::isfinite(sums[m].f) && std::isfinite(sums[m].h);
    return near;
  }

  // d of plain rows; the targets' is less its maximum once that is known.
  KDOPS_INLINE void plain_d(int64_t begin, int64_t n, bool less_top) {
    const int64_t size = padded(n);
    for (int k = 0; k < job.peers; ++k) {
      const S* const z = logits(k) + begin;
      const T highest = T(members[k].top);
      Columns<S, W>{z, z, n}.sweep([&](int64_t i, V x, V, auto)
                                       KDOPS_BODY { store(s.d(k) + i, x - highest); });
    }
    fill_targets<true>(begin, n);
    for (int a = job.peers; a < job.members(); ++a) {
      for (int64_t i = n; i < size; ++i) s.d(a)[i] = -kInfinity<T>;
      const T highest = T(members[a].top);
      if (less_top)
        each<V>(size,
                [&](int64_t i) KDOPS_BODY { store(s.d(a) + i, load<T, W>(s.d(a) + i) - highest); });
    }
  }

  [[gnu::cold]] KDOPS_INLINE void fill_plain(int64_t begin, int64_t n, BlockSums<T>* sums) {
    const int64_t size = padded(n);
    plain_d(begin, n, true);
    each<V>(size, [&](int64_t i) KDOPS_BODY { store(s.base() + i, V{}); });
    for (int m = 0; m < job.members(); ++m)
      sums[m] = {plain_exps<V>(size, rate, s.d(m), s.p(m)), 0, 0, 0};
  }

  KDOPS_INLINE const T* g(int n) const { return plain ? s.p(n) : s.g(n); }

  KDOPS_INLINE Shares<V> shares(int m) const {
    return {members[m], members[0], s.p(0), s.p(m), s.g(m)};
  }
  KDOPS_INLINE void normalise_block(int64_t n) {
    const int64_t size = padded(n);
    for (int m = 1; m < job.members() && !plain; ++m) normalise<V>(size, shares(m), s.p(m), s.g(m));
    scale<V>(size, 1 / members[0].z, s.p(0));
    for (int m = 1; m < job.members() && plain; ++m) scale<V>(size, 1 / members[m].z, s.p(m));
  }

  // Keeps the peers' logits where a target is largest.
  KDOPS_INLINE void find_peaks(int64_t n) {
    for (int a = 0; a < job.targets; ++a) {
      const T *const base = s.base(), *const d = s.d(job.peers + a);
      V tops = V{} - kInfinity<T>;
      each<V>(padded(n), [&](int64_t i) KDOPS_BODY {
        tops = max(tops, load<T, W>(base + i) + load<T, W>(d + i));
      });
      const T highest = max(tops);
      if (!(highest > target_top[a])) continue;
      target_top[a] = highest;
      int64_t at = 0;
      while (at + 1 < n && base[at] + d[at] != highest) ++at;
      for (int k = 0; k < job.peers; ++k) {
        const T z = base[at] + s.d(k)[at];
        peak[a][k] = z - z == 0 ? z : T(0);
      }
    }
  }

  // ---- cross-entropies -------------------------------------------------------------------------

  KDOPS_INLINE bool shares_softmax() const { return job.temperature() == 1; }

  // exp of the logits less `highest` into work; returns their sum but the label's.
  KDOPS_INLINE double hard_exps(int m, int64_t size, int64_t place, T highest) {
    each<V>(size, [&](int64_t i) KDOPS_BODY {
      const V z = load<T, W>(s.base() + i) + load<T, W>(s.d(m) + i);
      store(s.work() + i, exp(z - highest));
    });
    return sum_but<V>(size, place, s.work());
  }

  KDOPS_INLINE void read_hard(int m, int64_t begin, int64_t n, double f) {
    Member& member = members[m];
    const int64_t place = label - begin, size = padded(n);
    const bool here = place >= 0 && place < n;
    if (here) member.label = s.base()[place] + s.d(m)[place];
    if (shares_softmax()) {
      member.others += here ? sum_but<V>(size, place, s.p(m)) : f;
      return;
    }
    V tops = V{} - kInfinity<T>;
    each<V>(size, [&](int64_t i) KDOPS_BODY {
      tops = max(tops, load<T, W>(s.base() + i) + load<T, W>(s.d(m) + i));
    });
    const T highest = max(tops);
    if (highest == -kInfinity<T>) return;
    const double others = hard_exps(m, size, here ? place : -1, highest);
    const double both = std::fmax(member.hard_top, highest);
    if (member.others != 0) member.others *= std::exp(member.hard_top - both);
    member.others += others * std::exp(highest - both);
    member.hard_top = both;
  }

  // The cross-entropy once all blocks have been read.
  KDOPS_INLINE double finish_hard(int m) {
    Member& member = members[m];
    const double at_label = std::exp(member.label - member.hard_top);
    member.inverse = 1 / (member.others + at_label);
    return label_loss(member.others, at_label, member.hard_top - member.label);
  }

  // out += weight (softmax(z) - onehot(label)); `unit` makes p of what scratch has for it.
  KDOPS_INLINE void add_hard(int m, double weight, int64_t begin, int64_t n, T* out,
                             double unit = 1) {
    const Member& member = members[m];
    const int64_t place = label - begin, size = padded(n);
    const bool here = place >= 0 && place < n;
    const T kept = here ? out[place] : T(0);
    if (shares_softmax()) {
      const V by = broadcast<T, W>(T(weight)), to_p = broadcast<T, W>(T(unit));
      each<V>(size, [&](int64_t i) KDOPS_BODY {
        const V p = load<T, W>(s.p(m) + i) * to_p;
        store(out + i, load<T, W>(out + i) + p * by);
      });
    } else {
      const V by = broadcast<T, W>(T(weight * member.inverse));
      const T highest = T(member.hard_top);
      each<V>(size, [&](int64_t i) KDOPS_BODY {
        const V z = load<T, W>(s.base() + i) + load<T, W>(s.d(m) + i);
        store(out + i, load<T, W>(out + i) + exp(z - highest) * by);
      });
    }
    if (here) out[place] = kept - T(weight * member.others * member.inverse);
  }
};

}  // namespace kdops
