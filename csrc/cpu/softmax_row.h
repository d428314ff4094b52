// From a row's chunks to the row, in double.
//
// With P, Q the chunks' shares of p and q, and p_c, q_c the distributions within chunk c,
//
//     KL(p || q) = KL(P || Q) + sum P_c KL(p_c || q_c)
//
// where the first term is a KL like every other. The gradient q - p of a class in chunk c is
//
//     Q_c (h ln 2 - x e) / (z (1 + x)) + (Q_c - P_c) e / z
//
// with the e, h, x and z of chunk.h: one sweep over what the chunks left behind.
#pragma once

#include "cpu/chunk.h"

namespace kdops {

// A chunk of one row, and its shares of the row's p and q.
struct Chunk {
  double max_t, z, x, ratio, kl, entropy;  // of the soft term, as in Soft
  double offset, error, centre;
  bool far;
  double max_s, hard_z;  // of the hard term
  double log_p, log_q;   // of the shares, up to a constant of the row
  double log_ratio;      // log q - log p, less the one of the largest share
  double p, q, q_less_p;
};

struct RowSoft {
  double kl, entropy;
};

template <class V>
KDOPS_INLINE void read(Chunk& c, const Soft<V>& soft, bool far, bool entropy, int lane) {
  c.max_t = soft.max[lane], c.z = soft.z[lane], c.x = soft.x[lane], c.ratio = soft.ratio[lane];
  c.offset = soft.offset.value[lane], c.error = soft.offset.error[lane];
  c.centre = soft.centre[lane];
  c.far = far;
  c.kl = std::log1p(double(soft.phi[lane])) + soft.far[lane];
  c.entropy = 0;
  if (entropy) c.entropy = std::log1p(double(soft.rest[lane])) + soft.surprise[lane] / c.z;
}

inline void log_shares(Chunk& c, double temperature) {
  c.log_p = c.max_t / temperature + std::log(c.z);
  c.log_q = c.far ? c.offset / temperature + std::log(c.z * c.ratio)
                  : c.log_p + (c.offset + c.error + c.centre) / temperature + std::log1p(c.x);
}

inline bool absent(const Chunk& c) { return c.log_p == -kInfinity<double> && c.log_q == c.log_p; }

// log q - log p of a chunk less the same of chunk k, from differences that do not cancel.
inline double near_log_ratio(const Chunk& c, const Chunk& k, double temperature) {
  if (absent(c)) return 0;
  if (c.far || k.far) return kInfinity<double>;
  const double offset = (c.offset - k.offset) + (c.error - k.error) + (c.centre - k.centre);
  return offset / temperature + (std::log1p(c.x) - std::log1p(k.x));
}

// Fills in the chunks' shares and returns the row's KL and entropy; NaN where one of the rows is
// -inf throughout.
inline RowSoft combine(Chunk* chunks, int64_t n, double temperature) {
  if (n == 1) {
    Chunk& c = chunks[0];
    const double lowest = -kInfinity<double>;
    const bool undefined = c.max_t == lowest || (c.far && c.offset == lowest);
    c.p = c.q = undefined ? NAN : 1;
    c.q_less_p = 0;
    return {c.kl * c.p, c.entropy * c.p};
  }
  double top_p = -kInfinity<double>, top_q = top_p;
  int64_t k = 0, k_q = 0;  // the largest shares, whose 1 stays out of the sums
  for (int64_t i = 0; i < n; ++i) {
    log_shares(chunks[i], temperature);
    if (chunks[i].log_p > top_p) top_p = chunks[k = i].log_p;
    if (chunks[i].log_q > top_q) top_q = chunks[k_q = i].log_q;
  }
  double rest_p = 0, rest_q = 0, mean = 0;
  bool near = true;
  for (int64_t i = 0; i < n; ++i) {
    Chunk& c = chunks[i];
    c.p = std::exp(c.log_p - top_p), c.q = std::exp(c.log_q - top_q);
    if (i != k) rest_p += c.p;
    if (i != k_q) rest_q += c.q;
    c.log_ratio = near_log_ratio(c, chunks[k], temperature);
    near = near && std::abs(c.log_ratio) < 1;
    if (near) mean += c.p * std::expm1(c.log_ratio);
  }
  const double log_sum_p = std::log1p(rest_p), log_sum_q = std::log1p(rest_q);
  const double log_ratio = std::log1p(mean / (1 + rest_p));
  RowSoft row{0, 0};
  for (int64_t i = 0; i < n; ++i) {
    Chunk& c = chunks[i];
    c.p /= 1 + rest_p, c.q /= 1 + rest_q;
    const double minus_log_p = top_p - c.log_p + log_sum_p;
    const double u = near ? c.log_ratio - log_ratio : c.log_q - top_q - log_sum_q + minus_log_p;
    const auto exp_u = expm1_and_phi(broadcast<double, 16>(u));
    c.q_less_p = std::abs(u) < 1 ? c.p * exp_u.value[0] : c.q - c.p;
    row.kl += kl_term(c.p, c.q, u, double(exp_u.phi[0]));
    if (c.p == 0) continue;
    row.kl += c.p * c.kl;
    row.entropy += c.p * (c.entropy + minus_log_p);
  }
  return row;
}

// The hard term: its value, the factor of each chunk's f, and the label's gradient.
struct RowHard {
  double value, max, z, label;
  double factor(const Chunk& c) const { return std::exp(c.max_s - max) / z; }
};

inline RowHard combine_hard(const Chunk* chunks, int64_t n, double label_logit) {
  double max = -kInfinity<double>, others = 0;
  for (int64_t i = 0; i < n; ++i) max = std::fmax(max, chunks[i].max_s);
  for (int64_t i = 0; i < n; ++i) others += chunks[i].hard_z * std::exp(chunks[i].max_s - max);
  if (std::isinf(max)) others = NAN;  // no finite logit, or +inf
  const double z = others + std::exp(label_logit - max);
  const double value = label_logit == max ? std::log1p(others) : (max - label_logit) + std::log(z);
  return {value, max, z, -others / z};
}

}  // namespace kdops
