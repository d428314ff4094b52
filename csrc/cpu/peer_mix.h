// The targets of a row: the weights that they are mixed with, their d, and their gradient's way
// back to the peers.
#pragma once

#include "cpu/peer_block.h"

namespace kdops {

// How a row's targets are mixed.
template <class T>
struct Mix {
  const T* weights = nullptr;   // A x K
  T one_hot[kMostPeers];        // of the naive rule
  T excess[kMostPeers];         // of each target's weights over 1
  T label[kMostPeers];          // of the min_logit rule: the label's logit,
  T label_d[kMostPeers], lift;  // and its d, and the largest of these
  bool representable = true;    // as differences from peer 0
};

template <class V>
KDOPS_INLINE V without(V x, int lane) {
  x[lane] = 0;
  return x;
}

// Of the peer with the least cross-entropy, the first of equal ones, or one that is NaN.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE int best_peer(const PeerJob<S>& job, int64_t row, int64_t label) {
  using V = vec<T, W>;
  int best = 0;
  double least = kInfinity<double>;
  for (int k = 0; k < job.peers; ++k) {
    const S* z = job.logits[k] + row * job.cols;
    const Columns<S, W> source{z, z, job.cols};
    V top = V{} - kInfinity<T>;
    source.sweep([&](int64_t, V x, V, auto) KDOPS_BODY { top = max(top, x); });
    const T highest = max(top), of_label = load_as_n<T, W>(z + label, 1, T(0))[0];
    V sums{};
    source.sweep([&](int64_t i, V x, V, auto) KDOPS_BODY {
      const V e = exp(x - highest);
      sums += (label >= i) & (label < i + lanes<T, W>) ? without(e, int(label - i)) : e;
    });
    const double below = double(highest) - double(of_label);
    const double value = label_loss(sum(sums), std::exp(-below), below);
    if (value < least) least = value, best = k;
    if (value != value) return k;
  }
  return best;
}

template <class T, class S>
KDOPS_INLINE void mix_weights(const PeerJob<S>& job, int64_t row, Mix<T>& mix) {
  if (job.rule() == kMinLogit) return;
  const int64_t size = int64_t(job.targets) * job.peers;
  if (job.rule() == kNaive) {
    mix.weights = mix.one_hot;
  } else {
    mix.weights = job.weights + (job.mixture->weights_of_rows ? row * size : 0);
  }
  for (int a = 0; a < job.targets; ++a) {
    double total = 0;
    bool any = false;
    for (int k = 0; k < job.peers; ++k) {
      total += mix.weights[a * job.peers + k];
      any = any || mix.weights[a * job.peers + k] != 0;
    }
    mix.excess[a] = T(excess<T>(total, job.peers));
    mix.representable = mix.representable && any && std::isfinite(total);
  }
}

// The min_logit rule: d of the peer with the least z - z[label], and a bit for each that has it.
// Ties are those of the logits: differences of d round.
template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void least_d(const PeerJob<S>& job, const PeerScratch<T>& s, const Mix<T>& mix,
                          int64_t offset, int64_t n, T lift) {
  using V = vec<T, W>;
  using I = integers_t<V>;
  T *const least = s.work(), *const rest = s.flow(0), *const out = s.d(job.peers);
  for (int k = 0; k < job.peers; ++k) {
    const S* const z = job.logits[k] + offset;
    const I bit = I{} + (1 << k);
    Columns<S, W>{z, z, n}.sweep([&](int64_t i, V x, V, auto) KDOPS_BODY {
      const Difference<V> mine = difference(x, broadcast<T, W>(mix.label[k]));
      const V d = load<T, W>(s.d(k) + i) - mix.label_d[k] + lift;
      if (k == 0) {
        store(out + i, d), store(least + i, mine.value), store(rest + i, mine.error);
        store(s.ties() + i, bits_as<V>(bit));
        return;
      }
      // Positive where the least so far is larger.
      const V by_value = load<T, W>(least + i) - mine.value;
      const V by = by_value == V{} ? load<T, W>(rest + i) - mine.error : by_value;
      const I bits = bits_as<I>(load<T, W>(s.ties() + i)), both = bits | bit;
      const I tied = by == V{} ? both : bits;
      store(s.ties() + i, bits_as<V>(by > V{} ? bit : tied));
      store(out + i, by > V{} ? d : load<T, W>(out + i));
      store(least + i, by > V{} ? mine.value : load<T, W>(least + i));
      store(rest + i, by > V{} ? mine.error : load<T, W>(rest + i));
    });
  }
}

// d, and 0 for a class that is not there.
template <class V>
KDOPS_INLINE V present(V d) {
  return d == V{} - kInfinity<element_t<V>> ? V{} : d;
}

// d of target a in a block whose peers' d are there.
template <class V, bool kPlain, class S, class T = element_t<V>>
KDOPS_INLINE void mixed_d(const PeerJob<S>& job, const PeerScratch<T>& s, const Mix<T>& mix, int a,
                          int64_t size) {
  constexpr int L = lanes<T, sizeof(V)>;
  const T* const weights = mix.weights + a * job.peers;
  const T over = kPlain ? T(0) : mix.excess[a];
  const V lacking = V{} - kInfinity<T>;
  each_few<V>(size, [&](int64_t i, auto few) KDOPS_BODY {
    V d[few] = {}, absent[few] = {};
    if (over != 0)
      for (int v = 0; v < few; ++v) d[v] = present(load<T, sizeof(V)>(s.base() + i + v * L)) * over;
    for (int k = kPlain ? 0 : 1; k < job.peers; ++k) {
      const V weight = broadcast<T, sizeof(V)>(weights[k]);
      for (int v = 0; v < few; ++v) {
        const V d_k = load<T, sizeof(V)>(s.d(k) + i + v * L);
        d[v] += weight * (kPlain ? present(d_k) : d_k);
        if (kPlain && weights[k] != 0) absent[v] = d_k == lacking ? lacking : absent[v];
      }
    }
    for (int v = 0; v < few; ++v) store(s.d(job.peers + a) + i + v * L, d[v] + absent[v]);
  });
}

// Divides the min_logit rule's flow among the peers that have the least.
template <class V, class T = element_t<V>>
KDOPS_INLINE void share_flow(const PeerScratch<T>& s, int peers, int64_t size) {
  using I = integers_t<V>;
  each<V>(size, [&](int64_t i) KDOPS_BODY {
    const I ties = bits_as<I>(load<T, sizeof(V)>(s.ties() + i));
    I count{};
    for (int k = 0; k < peers; ++k) count += (ties >> k) & 1;
    const V flow = load<T, sizeof(V)>(s.flow(0) + i);
    store(s.flow(0) + i, flow / __builtin_convertvector(count, V));
  });
}

// Adds to `work` what the targets' gradients bring peer k. Of the min_logit rule the label takes as
// much away, which is returned: it is known when the whole row has been seen.
template <class V, class S, class T = element_t<V>>
KDOPS_INLINE double flow_to_peer(const PeerJob<S>& job, const PeerScratch<T>& s, const Mix<T>& mix,
                                 int k, int64_t size) {
  using I = integers_t<V>;
  if (job.rule() == kMinLogit) {
    V total{};
    each<V>(size, [&](int64_t i) KDOPS_BODY {
      const I ties = bits_as<I>(load<T, sizeof(V)>(s.ties() + i));
      const V part = load<T, sizeof(V)>(s.flow(0) + i);
      const V mine = (ties & (1 << k)) == 0 ? V{} : part;
      total += mine;
      store(s.work() + i, load<T, sizeof(V)>(s.work() + i) + mine);
    });
    return sum(total);
  }
  for (int a = 0; a < job.targets; ++a) {
    const T weight = mix.weights[a * job.peers + k];
    if (weight == 0) continue;
    each<V>(size, [&](int64_t i) KDOPS_BODY {
      const V flow = load<T, sizeof(V)>(s.flow(a) + i);
      store(s.work() + i, load<T, sizeof(V)>(s.work() + i) + weight * flow);
    });
  }
  return 0;
}

// sum_c dL/dt z_k, with z_k less a constant of the row: its value where the target is largest, for
// there dL/dt is the least exact.
template <class V, class T = element_t<V>>
KDOPS_INLINE double weight_gradient(int64_t size, const T* flow, const T* base, const T* d, T peak,
                                    T where_lacking) {
  V total{};
  const V lacking = V{} - kInfinity<T>;
  each<V>(size, [&](int64_t i) KDOPS_BODY {
    const V z = load<T, sizeof(V)>(base + i) + load<T, sizeof(V)>(d + i);
    const V less_peak = z - peak;
    total += load<T, sizeof(V)>(flow + i) * (z == lacking ? V{} + where_lacking : less_peak);
  });
  return sum(total);
}

}  // namespace kdops
