// The softmax of one of the peers' rows, from one chunk of its classes or from several.
//
// A chunk's sums are taken below its largest logit and moved below the row's: nothing changes in a
// row that is one chunk, and a row of many is read once.
#pragma once

#include "cuda/softmax_row.cuh"
#include "formulas/peers.h"

namespace kdops {
namespace {

template <class T>
struct Softmax {
  T top;         // the largest logit
  T ones, rest;  // sum of exp((z - top) / T): where it is 1, and elsewhere
  T others;      // sum of exp(z - top) of all classes but the label
  T inverse_z, log_z;
  T correction;  // of log z, from the differences to another softmax

  SIMT_DEVICE static Softmax empty() { return {-kInfinity<T>, 0, 0, 0, 0, 0, 0}; }

  SIMT_DEVICE void add(Softmax chunk, T inverse_t) {
    move(chunk.top, inverse_t);
    chunk.move(top, inverse_t);
    ones += chunk.ones;
    rest += chunk.rest;
    others += chunk.others;
  }
  SIMT_DEVICE void finish() {
    inverse_z = T(1) / (ones + rest);
    log_z = log1p(rest + (ones - T(1)));
  }
  SIMT_DEVICE T share(T z, T inverse_t) const {
    return exp((z - shift(top)) * inverse_t) * inverse_z;
  }

 private:
  SIMT_DEVICE void move(T to, T inverse_t) {
    if (!(top < to)) return;
    rest = (ones + rest) * exp((top - to) * inverse_t);
    others *= exp(top - to);
    ones = T(0);
    top = to;
  }
};

// log p - log q of a class is its difference over T less this, and then less the corrections',
// which would be rounded to this one's digits; `offset`: that of the largest.
template <class T>
SIMT_DEVICE T log_z_ratio(const Softmax<T>& p, const Softmax<T>& q, T offset) {
  return offset + (p.log_z - q.log_z);
}

// What log z lacks, from x = sum of p - q, which is 0 but for the rounding of log z.
template <class T>
SIMT_DEVICE T log_z_correction(T x) {
  return abs(x) < T(0.5) ? log1p(x) : T(0);
}

// The sums of a chunk, of(first class, round) being its logits; without `hard` no `others`.
template <int N, class T, class Team, class F>
SIMT_DEVICE Softmax<T> chunk_softmax(const Team& team, int count, T inverse_t, bool hard, int label,
                                     F of) {
  Values<T, 1> largest{{-kInfinity<T>}};
  each_pack<N>(team, count, [&](int i, int round) {
    const Values<T, N> z = of(i, round);
#pragma unroll
    for (int n = 0; n < N; ++n) largest.v[0] = max(largest.v[0], z.v[n]);
  });
  const T top = team.reduce(largest, LargestAndSums{}).v[0];
  Values<T, 3> sum{};
  each_pack<N>(team, count, [&](int i, int round) {
    const Values<T, N> z = of(i, round);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const T below = z.v[n] - shift(top), e = exp(below * inverse_t);
      sum.v[0] += e == T(1) ? e : T(0);
      sum.v[1] += e == T(1) ? T(0) : e;
      if (hard) sum.v[2] += i + n == label ? T(0) : exp(below);
    }
  });
  sum = team.reduce(sum, Sum{});
  return {top, sum.v[0], sum.v[1], sum.v[2], 0, 0, 0};
}

}  // namespace
}  // namespace kdops
