// The kernels of the losses of K peers, for numpy arrays: outputs are given, and written.
#include <algorithm>

#include "arrays.h"
#include "cuda/mixture_kl.cuh"
#include "cuda/mutual_kl.cuh"

namespace {

struct Loss {
  std::vector<double> ce_weights;
  double temperature, soft_weight;
  int reduction;  // mean, sum, none
  int64_t ignore_index;
};

// Of each peer (rows, cols), and labels or none.
struct Inputs {
  std::vector<Array> logits;
  std::optional<Array> target;
};

// Gradients of each peer, or none.
struct Outputs {
  Array losses, terms;
  std::vector<std::optional<Array>> gradients;
};

// How much a launch may take: bytes of a block, and teams of threads.
struct Limits {
  size_t shared;
  int teams;
};

template <class S>
void fill(kdops::PeerRows<S>& rows, const Loss& loss, const Inputs& inputs, Outputs& outputs,
          const Limits& limits) {
  rows.peers = static_cast<int>(inputs.logits.size());
  for (int k = 0; k < rows.peers; ++k) {
    rows.logits[k] = read<S>(inputs.logits[k]);
    rows.gradients[k] = write<S>(outputs.gradients[k]);
  }
  std::copy(loss.ce_weights.begin(), loss.ce_weights.end(), rows.ce_weights);
  rows.labels = inputs.target ? inputs.target->data() : nullptr;
  rows.labels_wide = inputs.target && inputs.target->itemsize() == 8;
  rows.rows = inputs.logits[0].shape(0);
  rows.cols = inputs.logits[0].shape(1);
  rows.temperature = loss.temperature;
  rows.soft_weight = loss.soft_weight;
  rows.reduction = static_cast<kdops::RowReduction>(loss.reduction);
  rows.ignore_index = loss.ignore_index;
  rows.losses = write<simt::acc_t<S>>(outputs.losses);
  rows.terms = write<simt::acc_t<S>>(outputs.terms);
  rows.shared_limit = limits.shared;
  rows.max_teams = limits.teams;
}

void mutual_kl(const std::string& dtype, const Loss& loss, const Inputs& inputs, Outputs outputs,
               const Limits& limits, const std::vector<double>& weights) {
  dispatch(dtype, [&](auto s) {
    using S = decltype(s);
    kdops::MutualRows<S> rows{};
    fill(rows, loss, inputs, outputs, limits);
    std::copy(weights.begin(), weights.end(), rows.weights);
    Memory memory(kdops::mutual_kl_workspace(rows));
    rows.workspace = memory.data();
    kdops::launch_mutual_kl(rows, nullptr);
  });
}

// Targets are mixed with `weights`, (targets, peers) or one a row, or by a rule without.
struct Mixture {
  int rule, target_grad, targets;
  double ensemble_weight;
  std::optional<Array> weights, weights_gradient;
};

void mixture_kl(const std::string& dtype, const Loss& loss, const Inputs& inputs, Outputs outputs,
                const Limits& limits, Mixture mixture) {
  dispatch(dtype, [&](auto s) {
    using S = decltype(s);
    kdops::MixtureRows<S> rows{};
    fill(rows, loss, inputs, outputs, limits);
    rows.rule = mixture.rule;
    rows.target_grad = mixture.target_grad;
    rows.targets = mixture.targets;
    rows.ensemble_weight = mixture.ensemble_weight;
    rows.weights = mixture.weights ? read<simt::acc_t<S>>(*mixture.weights) : nullptr;
    rows.weights_of_rows = mixture.weights && mixture.weights->ndim() == 3;
    rows.weights_gradient = write<simt::acc_t<S>>(mixture.weights_gradient);
    Memory memory(kdops::mixture_kl_workspace(rows));
    rows.workspace = memory.data();
    kdops::launch_mixture_kl(rows, nullptr);
  });
}

}  // namespace

PYBIND11_MODULE(peers, m) {
  py::class_<Loss>(m, "Loss").def(py::init<std::vector<double>, double, double, int, int64_t>());
  py::class_<Inputs>(m, "Inputs").def(py::init<std::vector<Array>, std::optional<Array>>());
  py::class_<Outputs>(m, "Outputs")
      .def(py::init<Array, Array, std::vector<std::optional<Array>>>());
  py::class_<Limits>(m, "Limits").def(py::init<size_t, int>());
  py::class_<Mixture>(m, "Mixture")
      .def(py::init<int, int, int, double, std::optional<Array>, std::optional<Array>>());
  m.def("set_order", [](const std::string& order) { simt::set_order(order.c_str()); });
  m.def("mutual_kl", mutual_kl);
  m.def("mixture_kl", mixture_kl);
}
