// _mutual_kl: tensors to MutualRows and back.
#include "cuda/mutual_kl.cuh"
#include "cuda/peer_binding.h"

namespace kdops {

std::vector<Tensor> mutual_kl(const MutualKl& loss, const std::vector<Tensor>& logits,
                              const std::optional<Tensor>& target) {
  check_peers(loss, logits);
  const Device device(logits[0]);
  const PeerBatch batch = peer_batch(loss, logits, target, any_ce(loss));
  const PeerOutputs outputs = peer_outputs(loss, batch, std::nullopt, batch.peers, 2 * batch.peers);
  dispatch_float(batch.first().scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    MutualRows<S> r{};
    fill(r, loss, batch, outputs);
    std::copy(loss.weights.begin(), loss.weights.end(), r.weights);
    const Buffer<char> memory(batch.first(), static_cast<int64_t>(mutual_kl_workspace(r)));
    r.workspace = memory.data();
    launch_mutual_kl(r, device.stream());
  });
  return outputs.tensors;
}

}  // namespace kdops

STABLE_TORCH_LIBRARY_IMPL(kdops, CUDA, m) { m.impl("_mutual_kl", TORCH_BOX(&kdops::mutual_kl_op)); }
