// One block of a row of K peers: the members' softmaxes, and sums over pairs of them.
#pragma once

#include "cpu/peer_job.h"

namespace kdops {

template <class T>
struct BlockSums {
  double f, h;
  T highest, lowest;  // of d
};

template <class V, class F>
KDOPS_INLINE void each(int64_t size, F f) {
  constexpr int L = lanes<element_t<V>, sizeof(V)>;
  for (int64_t i = 0; i < size; i += L) f(i);
}

// Vectors four at a time, for loops whose body is short: f(place, how many).
template <class V, class F>
KDOPS_INLINE void each_few(int64_t size, F f) {
  constexpr int L = lanes<element_t<V>, sizeof(V)>;
  int64_t i = 0;
  for (; i + 4 * L <= size; i += 4 * L) f(i, std::integral_constant<int, 4>{});
  for (; i < size; i += L) f(i, std::integral_constant<int, 1>{});
}

// From a member's d, vector by vector: f = e exp(d / T) and h = e expm1(d / T).
template <class V, class T = element_t<V>>
struct NearExps {
  const T rate, *e;
  T *d, *f, *h;
  V sum_f{}, sum_h{}, highest = V{} - kInfinity<T>, lowest = V{} + kInfinity<T>;

  KDOPS_INLINE void operator()(int64_t i, V d_i) {
    const V exp_0 = load<T, sizeof(V)>(e + i);
    const ExpBoth<V> y = exp2_both(d_i * rate);
    const V f_i = exp_0 * y.value, h_i = exp_0 * y.less_one;
    sum_f += f_i, sum_h += h_i;
    highest = max(highest, d_i), lowest = min(lowest, d_i);
    store(d + i, d_i);
    store(f + i, f_i);
    store(h + i, h_i);
  }
  KDOPS_INLINE BlockSums<T> sums() const {
    return {sum(sum_f), sum(sum_h), max(highest), -max(V{} - lowest)};
  }
};

// f = exp(d / T).
template <class V, class T = element_t<V>>
KDOPS_INLINE double plain_exps(int64_t size, T rate, const T* d, T* f) {
  V sum_f{};
  each<V>(size, [&](int64_t i) KDOPS_BODY {
    const V f_i = exp2(load<T, sizeof(V)>(d + i) * rate);
    sum_f += f_i;
    store(f + i, f_i);
  });
  return sum(sum_f);
}

// A member's p and p - p_0, from its f and h.
template <class V, class T = element_t<V>>
struct Shares {
  const T *f, *e, *difference;
  V inverse, x;

  struct Share {
    V p, g;
  };
  KDOPS_INLINE Shares(const Member& m, const Member& first, const T* e, const T* f, const T* h)
      : f(f), e(e) {
    const double shift = m.h / first.z;
    const bool near = std::abs(shift) <= 0.5;
    difference = near ? h : f;
    inverse = broadcast<T, sizeof(V)>(T(1 / m.z));
    x = broadcast<T, sizeof(V)>(T(near ? shift : m.z / first.z));
  }
  KDOPS_INLINE Share operator()(int64_t i) const {
    const V exp_0 = load<T, sizeof(V)>(e + i);
    const V h = load<T, sizeof(V)>(difference + i);
    return {rounded(load<T, sizeof(V)>(f + i) * inverse),
            rounded(from_peer_0(h, exp_0, x, inverse))};  // of equal members the same
  }
};

template <class V, class T = element_t<V>>
KDOPS_INLINE void normalise(int64_t size, const Shares<V>& shares, T* f, T* h) {
  each<V>(size, [&](int64_t i) KDOPS_BODY {
    const auto share = shares(i);
    store(f + i, share.p);
    store(h + i, share.g);
  });
}

template <class V, class T = element_t<V>>
KDOPS_INLINE void scale(int64_t size, double by, T* x) {
  const V factor = broadcast<T, sizeof(V)>(T(by));
  each<V>(size, [&](int64_t i) KDOPS_BODY { store(x + i, load<T, sizeof(V)>(x + i) * factor); });
}

struct PairSums {
  double of_i, of_j;
};

// sum p_j phi(u) and, where both are wanted, sum p_i phi(-u).
template <class V, bool kPlain, bool kBoth, class T = element_t<V>>
KDOPS_INLINE PairSums pair_sums(int64_t size, T inverse_t, T log_ratio, const T* d_i, const T* d_j,
                                const T* p_i, const T* p_j) {
  V of_i{}, of_j{};
  each<V>(size, [&](int64_t c) KDOPS_BODY {
    const V di = load<T, sizeof(V)>(d_i + c), dj = load<T, sizeof(V)>(d_j + c);
    const V pi = load<T, sizeof(V)>(p_i + c), pj = load<T, sizeof(V)>(p_j + c);
    const V u = (di - dj) * inverse_t - log_ratio;
    const PairTerms<V> terms =
        kPlain ? plain_pair_terms<T>(di, dj, pi, pj, u) : pair_terms<T>(pi, pj, u);
    of_i += terms.of_i;
    if constexpr (kBoth) of_j += terms.of_j;
  });
  return {sum(of_i), sum(of_j)};
}

// The sum of x, without the one at `place` if that is in it.
template <class V, class T = element_t<V>>
KDOPS_INLINE double sum_but(int64_t size, int64_t place, T* x) {
  T kept = 0;
  const bool inside = place >= 0 && place < size;
  if (inside) std::swap(kept, x[place]);
  V total{};
  each<V>(size, [&](int64_t i) KDOPS_BODY { total += load<T, sizeof(V)>(x + i); });
  if (inside) x[place] = kept;
  return sum(total);
}

}  // namespace kdops
