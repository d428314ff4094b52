// A chunk of a row of logits, or a whole row: what softmax, KL and cross-entropy need of it, each
// normalised by the chunk itself.
//
// Its logits are read once, into shared memory, with the maxima. Then e = exp((t - max) / T) and
// the difference d = s - t, exact and less its value at the teacher's maximum. With d shifted to
// mean 0 under p = e / sum e and divided by T, q is p exp(d) / (1 + x), where x = sum p expm1(d),
// so
//
//     KL(p || q) = log(1 + x) = log1p(sum p phi(d)),    q - p = p (expm1(d) - x) / (1 + x)
//
// in which nothing cancels. Left behind for the gradient: e and h = e expm1(d), and of the hard
// term f = exp(s - max s). A chunk where d is large or not finite takes the plain way, h = f - e
// with both softmaxes at T, and reads its logits again.
#pragma once

#include <limits>

#include "cuda/expm1.cuh"
#include "cuda/row_team.cuh"
#include "formulas/kl.h"

namespace kdops {
namespace {

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();
// exp(kFar) still meets the smallest e as a normal number.
template <class T>
constexpr T kFar = sizeof(T) == 8 ? T(300) : T(40);

template <class T>
struct Chunk {
  T max, level;  // the teacher's largest logit, and the student's there; far: its largest
  T z, centre;   // sum e, and the mean of the differences
  T x, ratio;    // sum h / z, and 1 + x
  T kl, entropy;
  T far;               // not 0: the plain way
  T hard_max, hard_z;  // the student's largest logit, and sum f

  SIMT_DEVICE bool absent() const { return max == -kInfinity<T> && level == -kInfinity<T>; }
};

// The loss of every row; T is what it is computed in.
template <class T>
struct Terms {
  T inverse_t, soft_weight, soft_slope, hard_weight;  // soft_slope = soft_weight / temperature
  bool soft, hard, entropy;
};

// {teacher, student, student}: the largest teacher's, the student's there, the largest student's.
struct Largest {
  template <class T>
  SIMT_DEVICE Values<T, 3> operator()(const Values<T, 3>& a, const Values<T, 3>& b) const {
    const T tie = max(a.v[1], b.v[1]);  // whichever comes first
    const T at = a.v[0] > b.v[0] ? a.v[1] : b.v[1];
    return {{max(a.v[0], b.v[0]), a.v[0] == b.v[0] ? tie : at, max(a.v[2], b.v[2])}};
  }
};

// The largest of the first values, and the sums of the others.
struct LargestAndSums {
  template <class T, int N>
  SIMT_DEVICE Values<T, N> operator()(Values<T, N> a, const Values<T, N>& b) const {
    a.v[0] = max(a.v[0], b.v[0]);
#pragma unroll
    for (int k = 1; k < N; ++k) a.v[k] += b.v[k];
    return a;
  }
};

// s - t less the chunk's; 0 for a class absent from both.
template <class T>
SIMT_DEVICE T apart(T s, T t, const Difference<T>& offset) {
  const T d = relative(difference(s, t), offset);
  return s == -kInfinity<T> && t == -kInfinity<T> ? T(0) : d;
}

// Where every logit is -inf, every exp must be 0.
template <class T>
SIMT_DEVICE T shift(T largest) {
  return largest == -kInfinity<T> ? T(0) : largest;
}

// One chunk, its team, and their shared memory.
template <class S, int N, class Team>
struct ChunkPass {
  using T = simt::acc_t<S>;
  Team team;
  Terms<T> terms;
  const S *student, *teacher;
  bool aligned;
  int count, label;  // the hard term's, within the chunk, or out of it
  Own<T, N> e, h, f;

  SIMT_DEVICE void run(Chunk<T>& c) const {
    read(c);
    if (terms.hard) hard(c);
    if (!terms.soft) return;
    const T highest = sums(c);
    near(c);
    if (!((highest - c.centre) * terms.inverse_t < kFar<T>)) far(c);  // NaN is far
  }

 private:
  // Leaves s in h, and t in e.
  SIMT_DEVICE void read(Chunk<T>& c) const {
    Values<T, 3> top{{-kInfinity<T>, -kInfinity<T>, -kInfinity<T>}};
    each_pack<N, 2>(team, count, [&](int i, int round) {
      const Values<T, N> s = load_logits<N>(student + i, aligned);
      const Values<T, N> t = terms.soft ? load_logits<N>(teacher + i, aligned) : s;
#pragma unroll
      for (int k = 0; k < N; ++k) top = Largest{}(top, {{t.v[k], s.v[k], s.v[k]}});
      h.store(round, s);
      e.store(round, t);
    });
    top = team.reduce(top, Largest{});
    c = Chunk<T>{};
    c.max = top.v[0];
    c.level = top.v[1];
    c.hard_max = top.v[2];
  }

  SIMT_DEVICE void hard(Chunk<T>& c) const {
    Values<T, 1> z{};
    each_pack<N>(team, count, [&](int i, int round) {
      Values<T, N> x = h.load(round);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        x.v[k] = i + k == label ? T(0) : exp(x.v[k] - shift(c.hard_max));
        z.v[0] += x.v[k];
      }
      f.store(round, x);
    });
    c.hard_z = team.reduce(z, Sum{}).v[0];
  }

  // Leaves the differences in h, and returns the largest.
  SIMT_DEVICE T sums(Chunk<T>& c) const {
    const Difference<T> offset = difference(c.level, c.max);
    Values<T, 5> sum{{-kInfinity<T>, 0, 0, 0, 0}};  // d, e d, e where it is 1, e else, -e log e
    each_pack<N>(team, count, [&](int, int round) {
      Values<T, N> s = h.load(round), t = e.load(round);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const T below = (t.v[k] - c.max) * terms.inverse_t;
        const T d = apart(s.v[k], t.v[k], offset), exp_t = exp(below);
        const bool one = exp_t == T(1);
        const T surprise = exp_t == T(0) ? T(0) : exp_t * below;
        sum.v[0] = max(sum.v[0], d);
        sum.v[1] += exp_t * d;
        sum.v[2] += one ? exp_t : T(0);
        sum.v[3] += one ? T(0) : exp_t;
        if (terms.entropy) sum.v[4] -= surprise;
        s.v[k] = d;
        t.v[k] = exp_t;
      }
      h.store(round, s);
      e.store(round, t);
    });
    sum = team.reduce(sum, LargestAndSums{});
    const T rest = sum.v[3] + (sum.v[2] - T(1));
    c.z = rest + T(1);
    c.centre = sum.v[1] / c.z;
    c.entropy = log1p(rest) + sum.v[4] / c.z;
    return sum.v[0];
  }

  SIMT_DEVICE void near(Chunk<T>& c) const {
    Values<T, 2> sum{};
    const T centre = c.centre * terms.inverse_t;
    each_pack<N>(team, count, [&](int, int round) {
      Values<T, N> d = h.load(round);
      const Values<T, N> exp_t = e.load(round);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const Expm1<T> y = expm1_and_phi(d.v[k] * terms.inverse_t - centre);
        d.v[k] = exp_t.v[k] * y.value;
        sum.v[0] += exp_t.v[k] * y.phi;
        sum.v[1] += d.v[k];
      }
      h.store(round, d);
    });
    sum = team.reduce(sum, Sum{});
    c.kl = log1p(sum.v[0] / c.z);
    c.x = sum.v[1] / c.z;
    c.ratio = c.x + T(1);
  }

  SIMT_DEVICE void far(Chunk<T>& c) const {
    const T max_t = shift(c.max), max_s = shift(c.hard_max), inverse_t = terms.inverse_t;
    Values<T, 3> z{};  // of both softmaxes, and their difference
    each_pack<N>(team, count, [&](int i, int round) {
      Values<T, N> s = load_logits<N>(student + i, aligned),
                   t = load_logits<N>(teacher + i, aligned);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        t.v[k] = exp((t.v[k] - max_t) * inverse_t);
        z.v[0] += s.v[k] = exp((s.v[k] - max_s) * inverse_t);
        z.v[1] += t.v[k];
        z.v[2] += s.v[k] -= t.v[k];
      }
      e.store(round, t);
      h.store(round, s);
    });
    z = team.reduce(z, Sum{});
    const T z_s = z.v[0] == T(0) ? T(1) : z.v[0], z_t = z.v[1] == T(0) ? T(1) : z.v[1];
    c.level = c.hard_max;
    c.z = z_t;
    c.centre = T(0);
    c.x = z.v[2] / z_t;
    c.ratio = z_s / z_t;
    c.far = T(1);
    const T log_ratio = abs(c.x) < T(0.5) ? log1p(c.x) : log(c.ratio);
    Values<T, 1> kl{};
    each_pack<N>(team, count, [&](int i, int) {
      const Values<T, N> s = load_logits<N>(student + i, aligned),
                         t = load_logits<N>(teacher + i, aligned);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const T p = exp((t.v[k] - max_t) * inverse_t) / z_t;
        const T q = exp((s.v[k] - max_s) * inverse_t) / z_s;
        const T u = ((s.v[k] - max_s) - (t.v[k] - max_t)) * inverse_t - log_ratio;
        const bool absent = s.v[k] == -kInfinity<T> && t.v[k] == -kInfinity<T>;
        kl.v[0] += absent ? T(0) : kl_term(p, q, u, expm1_and_phi(u).phi);
      }
    });
    c.kl = team.reduce(kl, Sum{}).v[0];
  }
};

}  // namespace
}  // namespace kdops
