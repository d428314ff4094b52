// _mixture_kl: tensors to MixtureRows and back.
#include "cuda/mixture_kl.cuh"
#include "cuda/peer_binding.h"

namespace kdops {

std::vector<Tensor> mixture_kl(MixtureKl& loss, const std::vector<Tensor>& logits,
                               const std::optional<Tensor>& weights_,
                               const std::optional<Tensor>& target) {
  check_peers(loss, logits);
  const Device device(logits[0]);
  const bool labels = any_ce(loss) || loss.ensemble_ce_weight != 0 || loss.rule != kWeights;
  const PeerBatch batch = peer_batch(loss, logits, target, labels);
  const std::optional<Tensor> weights = checked_weights(loss, batch, weights_);
  const int64_t terms = 2 * batch.peers + loss.targets;
  const PeerOutputs outputs = peer_outputs(loss, batch, weights, 0, terms);
  dispatch_float(batch.first().scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    using T = simt::acc_t<S>;
    MixtureRows<S> r{};
    fill(r, loss, batch, outputs);
    r.weights = weights ? const_data<T>(*weights) : nullptr;
    r.weights_of_rows = loss.weights_of_rows;
    r.weights_gradient = outputs.weights_gradient<T>(batch);
    r.rule = static_cast<int>(loss.rule);
    r.target_grad = static_cast<int>(loss.target_grad);
    r.targets = loss.targets;
    r.ensemble_weight = loss.ensemble_ce_weight;
    const Buffer<char> memory(batch.first(), static_cast<int64_t>(mixture_kl_workspace(r)));
    r.workspace = memory.data();
    launch_mixture_kl(r, device.stream());
  });
  return outputs.tensors;
}

}  // namespace kdops

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) {
  m.impl("_mixture_kl", TORCH_BOX(&kdops::mixture_kl_op));
}
