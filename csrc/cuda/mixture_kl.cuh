// Peers that learn from mixtures of their logits: arguments, kernel and launch; see
// mixture_row.cuh.
#pragma once

#include "cuda/mixture_pass.cuh"
#include "cuda/peer_launch.cuh"

namespace kdops {

template <class S>
struct MixtureRows : PeerRows<S> {
  using T = simt::acc_t<S>;
  const T* weights;  // (targets, peers), or (rows, targets, peers); null for other rules
  bool weights_of_rows;
  T* weights_gradient;    // or null
  int rule, target_grad;  // a MixtureRule, a TargetGrad
  int targets;            // 1, or one a peer
  double ensemble_weight;
};

namespace {

template <class S, int N, bool kBlock>
SIMT_KERNEL_BOUNDS((kPeerThreads<S, kBlock>), (kPeerBlocks<S, kBlock>))
mixture_rows(MixtureJob<S> job) {
  using T = simt::acc_t<S>;
  const T divisor = job.divisor();
  each_row<kBlock>(job,
                   [&](const auto& team, const TeamMemory<T>& memory, int64_t row, bool counts) {
                     const MixturePass<S, N, Team<kBlock>> pass(job, team, memory, row);
                     counts ? pass.run(divisor) : pass.write_nothing();
                   });
}

template <class S>
bool any_learns(const MixtureRows<S>& r) {
  return std::any_of(r.gradients, r.gradients + r.peers, [](const S* g) { return g != nullptr; });
}

// What of the job decides how much memory it takes.
template <class S>
void set_flows(MixtureJob<S>& job, const MixtureRows<S>& r) {
  const bool soft = r.soft_weight != 0, hard = r.ensemble_weight != 0;
  job.soft_to_logits = soft && r.target_grad == kAllGrad;
  job.soft_to_weights = soft && r.target_grad != kNoTargetGrad;
  job.to_logits = any_learns(r) && (hard || job.soft_to_logits);
  job.weighted = r.weights_gradient != nullptr;
  job.to_weights = job.weighted && (hard || job.soft_to_weights);
  job.apart = job.to_logits && job.to_weights && job.soft_to_logits != job.soft_to_weights;
}

template <class S>
PeerNeeds needs_of(const MixtureRows<S>& r) {
  MixtureJob<S> job{};
  set_flows(job, r);
  const bool flows = job.to_logits || job.to_weights;
  const bool any_ce =
      std::any_of(r.ce_weights, r.ce_weights + r.peers, [](double w) { return w != 0; });
  const bool shared = job.weighted && !r.weights_of_rows;
  return {r.peers + (1 + flows + job.apart) * r.targets,
          mixture_numbers(r.peers, r.targets),
          1,
          2 * r.peers + r.targets,
          shared ? r.targets * r.peers : 0,
          r.soft_weight != 0,
          any_ce || r.ensemble_weight != 0 || r.rule != kWeights};
}

template <class S>
MixtureJob<S> mixture_job(const MixtureRows<S>& r, const PeerNeeds& needs, const PeerPlan& p) {
  MixtureJob<S> job{};
  static_cast<PeerJob<S>&>(job) = peer_job(r, needs, p, r.weights_gradient);
  set_flows(job, r);
  job.weights = r.weights;
  job.weights_of_rows = r.weights_of_rows;
  job.row_gradients = r.weights_of_rows ? r.weights_gradient : nullptr;
  job.rule = r.rule;
  job.targets = r.targets;
  job.ensemble_weight = simt::acc_t<S>(r.ensemble_weight);
  return job;
}

template <class S, int N>
void launch_packed(const MixtureJob<S>& job, const MixtureRows<S>& r, const PeerPlan& p,
                   cudaStream_t stream) {
  const bool by_warp = p.threads == simt::kWarpSize;
  launch_peer_rows(by_warp ? mixture_rows<S, N, false> : mixture_rows<S, N, true>, job, r, p,
                   stream);
}

}  // namespace

template <class S>
size_t mixture_kl_workspace(const MixtureRows<S>& r) {
  return peer_workspace(r, needs_of(r));
}

template <class S>
void launch_mixture_kl(const MixtureRows<S>& r, cudaStream_t stream) {
  const PeerNeeds needs = needs_of(r);
  const PeerPlan p = peer_plan(r, needs);
  const MixtureJob<S> job = mixture_job(r, needs, p);
  p.pack == 1 ? launch_packed<S, 1>(job, r, p, stream)
              : launch_packed<S, simt::kPackSize<S>>(job, r, p, stream);
}

}  // namespace kdops
