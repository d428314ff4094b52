// From the tensors of the losses of K peers to what their kernels take.
#pragma once

#include "common/peer_rows.h"
#include "cuda/peer_launch.cuh"
#include "cuda/tensor.h"

namespace kdops {

static_assert(int(RowReduction::kMean) == kMean && int(RowReduction::kSum) == kSum &&
              int(RowReduction::kNone) == kNone);

template <class S>
void fill(PeerRows<S>& r, const PeerLoss& loss, const PeerBatch& batch,
          const PeerOutputs& outputs) {
  const auto logits = batch.logits<S>();
  const auto gradients = outputs.gradients<S>(batch);
  std::copy(logits.begin(), logits.end(), r.logits);
  std::copy(gradients.begin(), gradients.end(), r.gradients);
  std::copy(loss.ce_weights.begin(), loss.ce_weights.end(), r.ce_weights);
  r.labels = batch.target ? batch.target->const_data_ptr() : nullptr;
  r.labels_wide = batch.target && batch.target->scalar_type() == ScalarType::Long;
  r.peers = batch.peers;
  r.rows = batch.rows;
  r.cols = batch.cols;
  r.temperature = loss.temperature;
  r.soft_weight = loss.soft_weight;
  r.reduction = static_cast<RowReduction>(loss.reduction);
  r.ignore_index = loss.ignore_index;
  r.losses = mutable_data<simt::acc_t<S>>(outputs.tensors[0]);
  r.terms = mutable_data<simt::acc_t<S>>(outputs.tensors[1]);
  r.shared_limit = shared_limit(batch.first().get_device_index());
}

}  // namespace kdops
