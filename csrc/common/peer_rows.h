// The losses of K peers over the same rows: their arguments, checks and outputs.
#pragma once

#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "common/logit_rows.h"
#include "formulas/mixtures.h"

namespace kdops {

// Arguments of both ops.
struct PeerLoss {
  const char* name;
  std::vector<double> ce_weights;  // one a peer
  double temperature;
  double soft_weight;  // of the KLs, with T^2
  int64_t reduction, ignore_index;
  bool stacked;    // one tensor (K, ..., C), or K of (..., C)
  int64_t wanted;  // bits: of the logits' tensors, and above these of the weights
};

struct MutualKl : PeerLoss {
  std::vector<double> weights;  // K x K: row i of peer i's loss
};

struct MixtureKl : PeerLoss {
  double ensemble_ce_weight;
  int64_t rule, target_grad;
  int targets;           // A: 1 or K
  bool weights_of_rows;  // one A x K a row, or one for all

  int target_of(int peer) const { return targets == 1 ? 0 : peer; }
};

// The peers' logits, contiguous, and their labels.
struct PeerBatch {
  std::vector<Tensor> tensors;
  std::optional<Tensor> target;
  int peers;
  int64_t rows, cols;
  std::vector<int64_t> lead;  // the shape of the rows

  const Tensor& first() const { return tensors[0]; }
  // Peer k's rows in its own tensor, or in the stacked one.
  template <class S>
  std::array<const S*, kMostPeers> logits() const {
    std::array<const S*, kMostPeers> found{};
    for (int k = 0; k < peers; ++k)
      found[k] = tensors.size() == 1 ? const_data<S>(tensors[0]) + k * rows * cols
                                     : const_data<S>(tensors[k]);
    return found;
  }
};

inline void check_peers(const PeerLoss& loss, const std::vector<Tensor>& logits) {
  KDOPS_CHECK(!logits.empty() && (!loss.stacked || logits.size() == 1), loss.name,
              ": logits must be one stacked tensor, or one a peer");
  const Tensor& first = logits[0];
  KDOPS_CHECK(first.dim() >= 1 + loss.stacked && first.sizes().back() > 0, loss.name,
              ": logits must be (..., C) with C >= 1");
  for (const Tensor& x : logits) {
    KDOPS_CHECK(x.scalar_type() == first.scalar_type(), loss.name,
                ": all peers' logits must have one dtype");
    KDOPS_CHECK(x.sizes().equals(first.sizes()), loss.name,
                ": all peers' logits must have one shape");
    KDOPS_CHECK(on_one_device(x, first), loss.name, ": all peers' logits must be on one device");
  }
  const int64_t peers = loss.stacked ? first.size(0) : int64_t(logits.size());
  KDOPS_CHECK(peers >= 1 && peers <= kMostPeers, loss.name, ": there must be 1 to ", kMostPeers,
              " peers, got ", peers);
  KDOPS_CHECK(int64_t(loss.ce_weights.size()) == peers, loss.name,
              ": ce_weights must be one a peer");
  KDOPS_CHECK(loss.temperature > 0 && std::isfinite(loss.temperature), loss.name,
              ": temperature must be finite and > 0, got ", loss.temperature);
  KDOPS_CHECK(loss.reduction >= kMean && loss.reduction <= kNone, loss.name,
              ": reduction must be 0, 1 or 2, got ", loss.reduction);
}

// Checked and contiguous; `labels`: whether the loss cannot do without.
inline PeerBatch peer_batch(const PeerLoss& loss, const std::vector<Tensor>& logits,
                            const std::optional<Tensor>& target, bool labels) {
  check_peers(loss, logits);
  const auto sizes = logits[0].sizes();
  const int64_t cols = sizes.back();
  PeerBatch batch{{}, {}, int(loss.ce_weights.size()), 1, cols, {}};
  for (size_t i = loss.stacked; i + 1 < sizes.size(); ++i) {
    batch.lead.push_back(sizes[i]);
    batch.rows *= sizes[i];
  }
  for (const Tensor& x : logits) batch.tensors.push_back(as_contiguous(x));
  KDOPS_CHECK(!labels || target, loss.name, ": target must be given for its labels");
  if (!target) return batch;
  const ScalarType type = target->scalar_type();
  KDOPS_CHECK(type == ScalarType::Long || type == ScalarType::Int, loss.name,
              ": target must be int64 or int32");
  KDOPS_CHECK(on_one_device(*target, logits[0]), loss.name,
              ": target must be on the logits' device");
  KDOPS_CHECK(target->sizes().equals(Sizes(batch.lead.data(), batch.lead.size())), loss.name,
              ": target must have the shape of the rows");
  batch.target = as_contiguous(*target);
  return batch;
}

inline bool any_ce(const PeerLoss& loss) {
  for (const double w : loss.ce_weights)
    if (w != 0) return true;
  return false;
}

// The arguments of a mixture: their weights (A, K) or (..., A, K), contiguous.
inline std::optional<Tensor> checked_weights(MixtureKl& loss, const PeerBatch& batch,
                                             const std::optional<Tensor>& weights) {
  KDOPS_CHECK(loss.rule >= kWeights && loss.rule <= kNaive, loss.name, ": rule must be 0, 1 or 2");
  KDOPS_CHECK(loss.target_grad >= kNoTargetGrad && loss.target_grad <= kAllGrad, loss.name,
              ": target_grad must be 0, 1 or 2");
  KDOPS_CHECK((loss.rule == kWeights) == weights.has_value(), loss.name,
              ": weights must be given for their rule alone");
  loss.targets = 1, loss.weights_of_rows = false;
  if (!weights) return weights;
  KDOPS_CHECK(weights->scalar_type() == accumulation_dtype(batch.first().scalar_type()), loss.name,
              ": weights must have the loss's dtype");
  KDOPS_CHECK(on_one_device(*weights, batch.first()), loss.name,
              ": weights must be on the logits' device");
  const int64_t dims = weights->dim();
  KDOPS_CHECK(dims >= 2 && weights->size(dims - 1) == batch.peers &&
                  (weights->size(dims - 2) == 1 || weights->size(dims - 2) == batch.peers),
              loss.name, ": weights must be (..., A, K) with A = 1 or K");
  loss.targets = int(weights->size(dims - 2)), loss.weights_of_rows = dims > 2;
  KDOPS_CHECK(
      dims == 2 ||
          weights->sizes().slice(0, dims - 2).equals(Sizes(batch.lead.data(), batch.lead.size())),
      loss.name, ": weights must have the shape of the rows, or none");
  return as_contiguous(*weights);
}

// Losses, terms, and the gradients that are wanted, as the fake op makes them.
struct PeerOutputs {
  std::vector<Tensor> tensors;
  std::vector<int> gradient_of;  // tensors[2 + i] is of this input

  // Of peer k's rows, or null.
  template <class S>
  std::array<S*, kMostPeers> gradients(const PeerBatch& batch) const {
    std::array<S*, kMostPeers> found{};
    const bool stacked = batch.tensors.size() == 1;
    for (size_t i = 0; i < gradient_of.size(); ++i) {
      if (gradient_of[i] >= int(batch.tensors.size())) continue;
      S* const data = mutable_data<S>(tensors[2 + i]);
      if (!stacked) found[gradient_of[i]] = data;
      for (int k = 0; stacked && k < batch.peers; ++k)
        found[k] = data + k * batch.rows * batch.cols;
    }
    return found;
  }
  // Of the mixture's weights, or null.
  template <class T>
  T* weights_gradient(const PeerBatch& batch) const {
    if (gradient_of.empty() || gradient_of.back() != int(batch.tensors.size())) return nullptr;
    return mutable_data<T>(tensors.back());
  }
};

// `losses`: K, or 0 for one of all peers.
inline PeerOutputs peer_outputs(const PeerLoss& loss, const PeerBatch& batch,
                                const std::optional<Tensor>& weights, int64_t losses,
                                int64_t terms) {
  const ScalarType dtype = accumulation_dtype(batch.first().scalar_type());
  std::vector<int64_t> of_losses, of_terms{terms};
  if (losses > 0) of_losses.push_back(losses);
  if (loss.reduction == kNone) {
    of_losses.insert(of_losses.end(), batch.lead.begin(), batch.lead.end());
    of_terms.insert(of_terms.end(), batch.lead.begin(), batch.lead.end());
  }
  PeerOutputs outputs;
  outputs.tensors = {new_tensor(batch.first(), Sizes(of_losses.data(), of_losses.size()), dtype),
                     new_tensor(batch.first(), Sizes(of_terms.data(), of_terms.size()), dtype)};
  const int inputs = int(batch.tensors.size());
  for (int i = 0; i <= inputs; ++i) {
    if (!(loss.wanted >> i & 1) || (i == inputs && !weights)) continue;
    outputs.tensors.push_back(new_like(i == inputs ? *weights : batch.tensors[i]));
    outputs.gradient_of.push_back(i);
  }
  return outputs;
}

// Each device's own.
std::vector<Tensor> mutual_kl(const MutualKl& loss, const std::vector<Tensor>& logits,
                              const std::optional<Tensor>& target);
std::vector<Tensor> mixture_kl(MixtureKl& loss, const std::vector<Tensor>& logits,
                               const std::optional<Tensor>& weights,
                               const std::optional<Tensor>& target);

inline std::vector<Tensor> mutual_kl_op(std::vector<Tensor> logits, std::optional<Tensor> target,
                                        std::vector<double> weights, std::vector<double> ce_weights,
                                        double temperature, double soft_weight, int64_t reduction,
                                        int64_t ignore_index, bool stacked, int64_t wanted) {
  const MutualKl loss{{"mutual_kl", std::move(ce_weights), temperature, soft_weight, reduction,
                       ignore_index, stacked, wanted},
                      std::move(weights)};
  KDOPS_CHECK(loss.weights.size() == loss.ce_weights.size() * loss.ce_weights.size(),
              "mutual_kl: weights must be K x K");
  return mutual_kl(loss, logits, target);
}

inline std::vector<Tensor> mixture_kl_op(std::vector<Tensor> logits, std::optional<Tensor> weights,
                                         std::optional<Tensor> target,
                                         std::vector<double> ce_weights, double temperature,
                                         double soft_weight, double ensemble_ce_weight,
                                         int64_t rule, int64_t target_grad, int64_t reduction,
                                         int64_t ignore_index, bool stacked, int64_t wanted) {
  MixtureKl loss{{"mixture_kl", std::move(ce_weights), temperature, soft_weight, reduction,
                  ignore_index, stacked, wanted},
                 ensemble_ce_weight,
                 rule,
                 target_grad,
                 1,
                 false};
  return mixture_kl(loss, logits, weights, target);
}

}  // namespace kdops
