// Rows of K peers: checks, outputs, and the split over threads.
//
// Rows go to fixed groups with sums of their own, which are added in order: results do not depend
// on the number of threads.
#include "common/peer_rows.h"

#include <algorithm>

#include "cpu/peer_passes.h"
#include "cpu/tensor.h"

namespace kdops {
namespace {

constexpr int64_t kGrain = 16 * 1024;  // logits that are worth a thread
constexpr int64_t kGroups = 128;       // at most
constexpr int64_t kLocal = 32 * 1024;  // elements of scratch on the stack
constexpr int64_t kKept = 32;          // that part of the logits, at most, as scratch on the heap
constexpr int kMostTerms = 3 * kMostPeers;

// Where rows leave their values: with reduction none in the outputs, else in a group's sums.
template <class T>
struct RowOutputs {
  T *losses, *terms;
  bool per_row;
  double *sums, *weights;  // terms() and, of weights that all rows share, A x K
};

// The losses that terms make: one a peer, or of a mixture their sum.
template <class S, class T>
void losses_of(const PeerJob<S>& job, const double* terms, double factor, T* out, int64_t stride) {
  double total = 0;
  for (int k = 0; k < job.peers; ++k) {
    const double weight = job.ce_weight(k), ce = weight == 0 ? 0 : weight * terms[k];
    const double loss = terms[job.peers + k] + ce;
    if (!job.mixture) out[k * stride] = T(factor * loss);
    total += loss;
  }
  if (!job.mixture) return;
  for (int a = 0; a < job.targets && job.hard_flows(); ++a)
    total += job.mixture->ensemble_ce_weight * terms[2 * job.peers + a];
  out[0] = T(factor * total);
}

template <class S, class T>
void keep_row(const PeerJob<S>& job, int64_t row, const double* terms, const RowOutputs<T>& out) {
  if (!out.per_row) {
    for (int t = 0; t < job.terms(); ++t) out.sums[t] += terms[t];
    return;
  }
  for (int t = 0; t < job.terms(); ++t) out.terms[t * job.rows + row] = T(terms[t]);
  losses_of(job, terms, 1.0, out.losses + row, job.rows);
}

template <int W, class S, class T = acc_t<S>>
KDOPS_INLINE void peer_rows_impl(const PeerJob<S>& job, int64_t begin, int64_t end,
                                 const PeerScratch<T>& scratch, const RowOutputs<T>& out) {
  const bool own_weights = job.weights_gradient && job.mixture->weights_of_rows;
  const int64_t size = int64_t(job.targets) * job.peers;
  double weights[kMostPeers * kMostPeers], terms[kMostTerms];
  for (int64_t row = begin; row < end; ++row) {
    std::fill_n(terms, job.terms(), 0.0);
    if (own_weights) std::fill_n(weights, size, 0.0);
    if (job.counted(row)) {
      PeerRow<W, S> r(job, scratch, row, own_weights ? weights : out.weights);
      peer_row(r, terms);
    } else {
      for (int k = 0; k < job.peers; ++k)
        if (S* const g = job.gradients[k]) std::memset(g + row * job.cols, 0, job.cols * sizeof(S));
    }
    for (int64_t i = 0; i < size && own_weights; ++i)
      job.weights_gradient[row * size + i] = T(weights[i]);
    keep_row(job, row, terms, out);
  }
}

#define KDOPS_PEER_ROWS(S)                                                                    \
  KDOPS_MULTIVERSION(peer_rows,                                                               \
                     (const PeerJob<S>& job, int64_t begin, int64_t end,                      \
                      const PeerScratch<acc_t<S>>& scratch, const RowOutputs<acc_t<S>>& out), \
                     (job, begin, end, scratch, out))
KDOPS_PEER_ROWS(float)
KDOPS_PEER_ROWS(double)
KDOPS_PEER_ROWS(BFloat16)
KDOPS_PEER_ROWS(Half)

// All rows, and the reduced values.
template <class S, class T = acc_t<S>>
void run(const PeerJob<S>& job, int64_t counted, const PeerOutputs& outputs, const Tensor& like) {
  const int64_t per_group = std::max<int64_t>(1, (job.rows + kGroups - 1) / kGroups);
  const int64_t groups = (job.rows + per_group - 1) / per_group;
  const int64_t weights =
      job.weights_gradient && !job.mixture->weights_of_rows ? int64_t(job.targets) * job.peers : 0;
  const int64_t each = job.terms() + weights;
  std::vector<double> sums((groups + 1) * each);
  const bool per_row = job.loss.reduction == kNone;
  T *losses = mutable_data<T>(outputs.tensors[0]), *terms = mutable_data<T>(outputs.tensors[1]);
  const int64_t size = (std::min(job.cols, kBlock) + 63) & -64;
  PeerScratch<T> one{nullptr, size, job.members(), job.targets, false};
  const int64_t blocks = (job.cols + kBlock - 1) / kBlock;
  const int64_t whole = blocks * one.elements();
  one.kept = whole <= kLocal || whole <= job.peers * job.rows * job.cols / kKept;
  const int64_t elements = one.kept ? whole : one.elements();
  const int64_t grain = kGrain / (per_group * job.cols * job.peers);
  parallel(groups, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    alignas(64) T local[kLocal];
    std::optional<Buffer<T>> buffer;
    if (elements > kLocal) buffer.emplace(like, elements);
    PeerScratch<T> scratch = one;
    scratch.memory = buffer ? buffer->data() : local;
    for (int64_t group = begin; group < end; ++group) {
      double* const own = sums.data() + group * each;
      const RowOutputs<T> out{losses, terms, per_row, own, weights ? own + job.terms() : nullptr};
      peer_rows(job, group * per_group, std::min((group + 1) * per_group, job.rows), scratch, out);
    }
  });
  double* const total = sums.data() + groups * each;
  for (int64_t group = 0; group < groups; ++group)
    for (int64_t i = 0; i < each; ++i) total[i] += sums[group * each + i];
  for (int64_t i = 0; i < weights; ++i) job.weights_gradient[i] = T(total[job.terms() + i]);
  if (per_row) return;
  const double factor = job.loss.reduction == kMean ? 1 / double(std::max<int64_t>(counted, 1)) : 1;
  for (int t = 0; t < job.terms(); ++t) terms[t] = T(factor * total[t]);
  losses_of(job, total, factor, losses, 1);
}

// What both ops' jobs have in common; every label that is read must be a class.
template <class S>
PeerJob<S> job_of(const PeerLoss& loss, const PeerBatch& batch, const PeerOutputs& outputs,
                  int64_t counted) {
  PeerJob<S> job(loss, Labels(batch.target));
  job.peers = batch.peers, job.rows = batch.rows, job.cols = batch.cols;
  job.logits = batch.logits<S>(), job.gradients = outputs.gradients<S>(batch);
  job.any_gradient = !outputs.gradient_of.empty();
  job.scale = loss.reduction == kMean ? 1 / double(std::max<int64_t>(counted, 1)) : 1.0;
  return job;
}

template <class S>
void add_pair(PeerJob<S>& job, const Pair& pair) {
  job.pairs.push_back(pair);
  if (pair.of_i != 0) job.partners[pair.i].push_back({pair.j, pair.of_i});
  if (pair.of_j != 0) job.partners[pair.j].push_back({pair.i, pair.of_j});
}

}  // namespace

std::vector<Tensor> mutual_kl(const MutualKl& loss, const std::vector<Tensor>& logits,
                              const std::optional<Tensor>& target) {
  const bool labels = any_ce(loss);
  const PeerBatch batch = peer_batch(loss, logits, target, labels);
  const int64_t counted = count_rows(loss, Labels(batch.target), labels, batch.rows, batch.cols);
  const PeerOutputs outputs = peer_outputs(loss, batch, {}, batch.peers, 2 * batch.peers);
  dispatch_float(batch.first().scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    PeerJob<S> job = job_of<S>(loss, batch, outputs, counted);
    for (int i = 0; i < batch.peers; ++i)
      for (int j = i + 1; j < batch.peers; ++j) {
        const Pair pair{i, j, loss.weights[i * batch.peers + j], loss.weights[j * batch.peers + i]};
        if (loss.soft_weight != 0 && (pair.of_i != 0 || pair.of_j != 0)) add_pair(job, pair);
      }
    run(job, counted, outputs, batch.first());
  });
  return outputs.tensors;
}

std::vector<Tensor> mixture_kl(MixtureKl& loss, const std::vector<Tensor>& logits,
                               const std::optional<Tensor>& weights_,
                               const std::optional<Tensor>& target) {
  const bool labels = any_ce(loss) || loss.ensemble_ce_weight != 0 || loss.rule != kWeights;
  const PeerBatch batch = peer_batch(loss, logits, target, labels);
  const std::optional<Tensor> weights = checked_weights(loss, batch, weights_);
  const int64_t counted = count_rows(loss, Labels(batch.target), labels, batch.rows, batch.cols);
  const PeerOutputs outputs = peer_outputs(loss, batch, weights, 0, 2 * batch.peers + loss.targets);
  dispatch_float(batch.first().scalar_type(), [&](auto tag) {
    using S = typename decltype(tag)::type;
    using T = acc_t<S>;
    PeerJob<S> job = job_of<S>(loss, batch, outputs, counted);
    job.mixture = &loss, job.targets = loss.targets;
    job.weights = weights ? const_data<T>(*weights) : nullptr;
    job.weights_gradient = outputs.weights_gradient<T>(batch);
    for (int i = 0; i < batch.peers && loss.soft_weight != 0; ++i)
      add_pair(job, Pair{i, batch.peers + loss.target_of(i), 1, 0});
    run(job, counted, outputs, batch.first());
  });
  return outputs.tensors;
}

}  // namespace kdops

STABLE_TORCH_LIBRARY_IMPL(kdops, CPU, m) {
  m.impl("_mutual_kl", TORCH_BOX(&kdops::mutual_kl_op));
  m.impl("_mixture_kl", TORCH_BOX(&kdops::mixture_kl_op));
}
