// From a row's chunks to the row, by one warp whose lanes are chunks.
//
// With P, Q the chunks' shares of p and q, and p_c, q_c the distributions within chunk c,
//
//     KL(p || q) = KL(P || Q) + sum P_c KL(p_c || q_c)
//
// where the first term is a KL like every other, and found as that of a chunk: e is a chunk's share
// over that of the largest, and d = log q - log p less the same of the largest, from differences
// that do not cancel. The gradient q - p of a class in chunk c is
//
//     Q_c (h - x e) / (z (1 + x)) + (Q_c - P_c) e / z
#pragma once

#include "cuda/softmax_chunk.cuh"

namespace kdops {
namespace {

// f(chunk): every lane of the warp takes part, and has chunks of its own.
template <class T, class F>
SIMT_DEVICE void each_chunk(const Chunk<T>* chunks, int n, F f) {
  for (int i = threadIdx.x % simt::kWarpSize; i < n; i += simt::kWarpSize) f(chunks[i]);
}

// A chunk's shares of the row.
template <class T>
struct Shares {
  T p, q, q_less_p;
};

// A row that is one chunk; NaN where one of its rows is -inf throughout.
template <class T>
SIMT_DEVICE Shares<T> whole(const Chunk<T>& c) {
  const bool undefined = c.max == -kInfinity<T> || c.level == -kInfinity<T>;
  const T one = undefined ? kNaN<T> : T(1);
  return {one, one, T(0)};
}

// Numbers of the chunks of about the largest shares, a lower one first.
template <class T>
struct Top {
  T log_p, log_q;
  int p, q;
};

template <class T>
SIMT_DEVICE Top<T> larger(Top<T> a, const Top<T>& b) {
  if (b.log_p > a.log_p || (b.log_p == a.log_p && b.p < a.p)) a.log_p = b.log_p, a.p = b.p;
  if (b.log_q > a.log_q || (b.log_q == a.log_q && b.q < a.q)) a.log_q = b.log_q, a.q = b.q;
  return a;
}

template <class T>
SIMT_DEVICE Top<T> top_chunks(const Chunk<T>* chunks, int n, T inverse_t) {
  Top<T> top{-kInfinity<T>, -kInfinity<T>, 0, 0};
  for (int i = threadIdx.x % simt::kWarpSize; i < n; i += simt::kWarpSize) {
    const Chunk<T>& c = chunks[i];
    const T log_p = c.max * inverse_t + log(c.z);
    const T log_q = (c.level + c.centre) * inverse_t + log(c.z * c.ratio);
    const T largest = kInfinity<T>;  // NaN goes first, for the row is NaN
    top = larger(top, {log_p == log_p ? log_p : largest, log_q == log_q ? log_q : largest, i, i});
  }
#pragma unroll
  for (int distance = simt::kWarpSize / 2; distance > 0; distance /= 2) {
    Top<T> other;
    other.log_p = __shfl_xor_sync(kAllLanes, top.log_p, distance);
    other.log_q = __shfl_xor_sync(kAllLanes, top.log_q, distance);
    other.p = __shfl_xor_sync(kAllLanes, top.p, distance);
    other.q = __shfl_xor_sync(kAllLanes, top.q, distance);
    top = larger(top, other);
  }
  return top;
}

// The soft terms of a row of several chunks.
template <class T>
class SoftRow {
 public:
  SIMT_DEVICE SoftRow(const Chunk<T>* chunks, int n, T inverse_t) : inverse_t_(inverse_t) {
    const Top<T> top = top_chunks(chunks, n, inverse_t);
    p_ = chunks[top.p];
    q_ = chunks[top.q];
    Values<T, 4> sum{{-kInfinity<T>, 0, 0, 0}};  // d, e d, and the shares of both
    each_chunk(chunks, n, [&](const Chunk<T>& c) {
      const T e = exp(log_p(c)), d = log_ratio(c);
      sum = LargestAndSums{}(sum, {{d, e * d, e, exp(log_q(c))}});
    });
    sum = warp_reduce(sum, LargestAndSums{});
    const bool undefined = p_.max == -kInfinity<T> || q_.level == -kInfinity<T>;
    sum_p_ = undefined ? kNaN<T> : sum.v[2];
    sum_q_ = sum.v[3];
    centre_ = sum.v[1] / sum_p_;
    far_ = !(sum.v[0] - centre_ < kFar<T>);
    Values<T, 3> more{};  // e expm1(d), e phi(d), and the shares but for the largest
    each_chunk(chunks, n, [&](const Chunk<T>& c) {
      const T e = exp(log_p(c));
      const Expm1<T> y = expm1_and_phi(log_ratio(c) - centre_);
      more = Sum{}(more, {{e * y.value, e * y.phi, &c == chunks + top.p ? T(0) : e}});
    });
    more = warp_reduce(more, Sum{});
    x_ = more.v[0] / sum_p_;
    kl_ = log1p(more.v[1] / sum_p_);
    log_sum_p_ = log1p(more.v[2]);
  }

  SIMT_DEVICE Shares<T> shares(const Chunk<T>& c) const {
    const T p = exp(log_p(c)) / sum_p_;
    if (far_) {
      const T q = exp(log_q(c)) / sum_q_, u = plain_log_ratio(c);
      return {p, q, u * u < T(1) ? p * expm1_and_phi(u).value : q - p};
    }
    const T d = log_ratio(c) - centre_, ratio = T(1) + x_;
    return {p, p * exp(d) / ratio, p * (expm1_and_phi(d).value - x_) / ratio};
  }

  SIMT_DEVICE T value(const Chunk<T>* chunks, int n, bool entropy) const {
    Values<T, 1> sum{};
    each_chunk(chunks, n, [&](const Chunk<T>& c) {
      const Shares<T> share = shares(c);
      const T u = plain_log_ratio(c);
      if (far_ && !c.absent()) sum.v[0] += kl_term(share.p, share.q, u, expm1_and_phi(u).phi);
      if (share.p == T(0)) return;
      sum.v[0] += share.p * c.kl;
      if (entropy) sum.v[0] += share.p * (c.entropy + (log_sum_p_ - log_p(c)));
    });
    return (far_ ? T(0) : kl_) + warp_reduce(sum, Sum{}).v[0];
  }

 private:
  // Of a chunk's shares, less that of the largest.
  SIMT_DEVICE T log_p(const Chunk<T>& c) const {
    return c.max == -kInfinity<T> ? c.max : (c.max - p_.max) * inverse_t_ + log(c.z / p_.z);
  }
  SIMT_DEVICE T log_q(const Chunk<T>& c) const {
    const T logits = (c.level - q_.level) + (c.centre - q_.centre);
    const T sums = (c.z * c.ratio) / (q_.z * q_.ratio);
    return c.level == -kInfinity<T> ? c.level : logits * inverse_t_ + log(sums);
  }
  SIMT_DEVICE T plain_log_ratio(const Chunk<T>& c) const {
    return (log_q(c) - log(sum_q_)) - (log_p(c) - log_sum_p_);
  }
  // log q - log p, less the same of the largest share of p.
  SIMT_DEVICE T log_ratio(const Chunk<T>& c) const {
    if (c.absent()) return T(0);
    if (c.far != T(0) || p_.far != T(0)) return kInfinity<T>;
    const T d = relative(difference(c.level, c.max), difference(p_.level, p_.max));
    return (d + (c.centre - p_.centre)) * inverse_t_ + (log1p(c.x) - log1p(p_.x));
  }

  T inverse_t_;
  Chunk<T> p_, q_;  // of about the largest shares
  T sum_p_, log_sum_p_, sum_q_;
  T centre_, x_, kl_;
  bool far_;
};

// The hard term of a row: its value, the factor of each chunk's f, and the label's gradient.
template <class T>
struct HardRow {
  T value, max, z, label;

  SIMT_DEVICE HardRow(T max_, T others, T logit) : max(max_) {
    if (max == kInfinity<T> || max == -kInfinity<T>) others = kNaN<T>;
    z = others + exp(logit - max);
    value = logit == max ? log1p(others) : (max - logit) + log(z);
    label = -others / z;
  }
  SIMT_DEVICE T factor(const Chunk<T>& c) const { return exp(c.hard_max - max) / z; }
  SIMT_DEVICE T slope(T logit, bool at_label) const {
    return at_label ? label : exp(logit - shift(max)) / z;
  }
};

template <class T>
SIMT_DEVICE HardRow<T> hard_row(const Chunk<T>* chunks, int n, T logit) {
  Values<T, 1> top{{-kInfinity<T>}}, others{};
  each_chunk(chunks, n, [&](const Chunk<T>& c) { top.v[0] = max(top.v[0], c.hard_max); });
  top = warp_reduce(top, LargestAndSums{});
  each_chunk(chunks, n, [&](const Chunk<T>& c) {
    others.v[0] += c.hard_z * exp(c.hard_max - shift(top.v[0]));
  });
  return {top.v[0], warp_reduce(others, Sum{}).v[0], logit};
}

// A class's gradient is by_e e + by_h h + by_f f, and at the label by_e e + by_h h + at_label.
template <class T>
struct Factors {
  T by_e, by_h, by_f, at_label;

  SIMT_DEVICE void add_soft(const Chunk<T>& c, const Shares<T>& share, T weight) {
    by_h = weight * share.q / (c.z * c.ratio);
    by_e = weight * (share.q_less_p - share.q * c.x / c.ratio) / c.z;
  }
  SIMT_DEVICE void add_hard(const Chunk<T>& c, const HardRow<T>& row, T weight) {
    by_f = weight * row.factor(c);
    at_label = weight * row.label;
  }
};

}  // namespace
}  // namespace kdops
