// What there is to do for rows of K peers: who learns from whom, and a thread's scratch.
//
// Members are the peers and, after them, the targets that are mixed from their logits.
#pragma once

#include "common/peer_rows.h"
#include "cpu/row_job.h"

namespace kdops {

constexpr int64_t kBlock = 512;  // classes at a time
constexpr int kMostMembers = 2 * kMostPeers;

// Member i learns from j with the weight of_i, and j from i with of_j.
struct Pair {
  int i, j;
  double of_i, of_j;
};

// Whose p pulls at a peer's.
struct Partner {
  int peer;
  double weight;
};

template <class S>
struct PeerJob {
  using T = acc_t<S>;
  const PeerLoss& loss;
  Labels labels;
  const MixtureKl* mixture = nullptr;
  std::vector<Pair> pairs;
  std::array<std::vector<Partner>, kMostPeers> partners;
  int peers = 0, targets = 0;
  int64_t rows = 0, cols = 0;
  std::array<const S*, kMostPeers> logits{};
  const T* weights = nullptr;              // of the mixture, or null
  double scale = 1;                        // of the gradients: 1 / rows for the mean
  std::array<S*, kMostPeers> gradients{};  // or null
  bool any_gradient = false;
  T* weights_gradient = nullptr;  // or null

  PeerJob(const PeerLoss& loss, const Labels& labels) : loss(loss), labels(labels) {}

  int members() const { return peers + targets; }
  int terms() const { return 2 * peers + targets; }
  bool counted(int64_t row) const { return !labels.given() || labels[row] != loss.ignore_index; }
  double ce_weight(int member) const {
    return member < peers ? loss.ce_weights[member] : mixture->ensemble_ce_weight;
  }
  // Without KLs the temperature is the cross-entropies' own.
  double temperature() const { return pairs.empty() ? 1.0 : loss.temperature; }
  int64_t rule() const { return mixture ? mixture->rule : int64_t(kWeights); }
  // Whether the KLs' gradient of the targets goes on to the weights, or to the logits as well.
  bool soft_flows() const {
    return mixture && !pairs.empty() &&
           (to_logits() || (weights_gradient && mixture->target_grad == kWeightsGrad));
  }
  bool to_logits() const { return mixture && mixture->target_grad == kAllGrad; }
  bool hard_flows() const { return mixture && mixture->ensemble_ce_weight != 0; }
  bool flows() const { return soft_flows() || hard_flows(); }
};

// A block's arrays: of each member d, p and g = p - p_0 (peers.h).
template <class T>
struct PeerScratch {
  T* memory;
  int64_t size;  // of an array
  int members, targets;
  bool kept;  // every block of a row has memory of its own

  int64_t elements() const { return (3 + 3 * members + targets) * size; }
  PeerScratch block(int64_t number) const {
    return {kept ? memory + number * elements() : memory, size, members, targets, kept};
  }
  T* base() const { return memory; }             // z_0 - z_0[top], or 0 in plain rows
  T* work() const { return memory + size; }      // of one member
  T* ties() const { return memory + 2 * size; }  // bits: the peers with the least logit
  T* d(int n) const { return memory + (3 + n) * size; }
  T* p(int n) const { return memory + (3 + members + n) * size; }
  T* g(int n) const { return memory + (3 + 2 * members + n) * size; }
  T* flow(int a) const { return memory + (3 + 3 * members + a) * size; }  // dL/dt of target a
};

// What a row knows of a member once its blocks have been read.
struct Member {
  double z = 0, h = 0;               // the sums of f and h
  double log_z;                      // relative to member 0's in near rows
  double top = 0;                    // of the logits, in plain rows
  double hard_top, others, inverse;  // of the cross-entropy: others = sum but the label's
  double label;                      // the label's logit, less the row's constant
};

}  // namespace kdops
