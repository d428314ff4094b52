// The kernels over pairs of rows, for numpy arrays: outputs are given, and written.
#include "arrays.h"
#include "cuda/cckd_loss.cuh"
#include "cuda/irg_edge_loss.cuh"
#include "cuda/pkt_loss.cuh"
#include "cuda/relate.cuh"
#include "cuda/rkd_angle_loss.cuh"
#include "cuda/rkd_distance_loss.cuh"
#include "cuda/sp_loss.cuh"

namespace {

using kdops::acc_t;
using Arrays = std::vector<Array>;

double power_factor(const Arrays& features, int64_t power) {
  const double n = static_cast<double>(features[0].shape(0));
  return n > 0 ? 1 / std::pow(n, power) : 1;
}
double factor(const Arrays& features, bool mean) { return power_factor(features, mean ? 2 : 0); }

// The students', then the teacher's features; a gradient of each, or none.
struct Outputs {
  Array value;
  std::vector<std::optional<Array>> gradients;
};

// What relations and triplets have in common.
template <class S, class Job>
void set_tensors(Job& job, const Arrays& features, Outputs& outputs) {
  job.batches.count = static_cast<int>(features.size());
  job.batches.n = features[0].shape(0);
  for (size_t i = 0; i < features.size(); ++i) {
    job.batches.x[i] = read<S>(features[i]);
    job.batches.d[i] = features[i].shape(1);
    job.gradients[i] = write<S>(outputs.gradients[i]);
  }
  job.value = write<acc_t<S>>(outputs.value);
}

int64_t map_bytes = kdops::kMapBytes;

template <class S, class Loss>
void relation(const Arrays& features, Outputs& outputs, const Loss& loss) {
  kdops::Relation<S, Loss> r{};
  set_tensors<S>(r, features, outputs);
  r.loss = loss;
  Memory memory(kdops::place_relation(r, nullptr, map_bytes));
  kdops::place_relation(r, memory.data(), map_bytes);
  kdops::launch_relation(r, nullptr);
}

void rkd_distance_loss(const std::string& dtype, const Arrays& features, Outputs outputs,
                       double eps, bool mean) {
  dispatch(dtype, [&](auto s) {
    relation<decltype(s)>(features, outputs, kdops::RkdDistanceLoss{eps, factor(features, mean)});
  });
}

void rkd_angle_loss(const std::string& dtype, const Arrays& features, Outputs outputs, double eps,
                    bool mean) {
  const double n = static_cast<double>(features[0].shape(0));
  dispatch(dtype, [&](auto s) {
    kdops::Triplets<decltype(s)> t{};
    set_tensors<decltype(s)>(t, features, outputs);
    t.eps = eps, t.c = mean && n > 0 ? 1 / (n * n * n) : 1;
    Memory memory(kdops::place_triplets(t, nullptr));
    kdops::place_triplets(t, memory.data());
    kdops::launch_rkd_angle_loss(t, nullptr);
  });
}

void irg_edge_loss(const std::string& dtype, const Arrays& features, Outputs outputs, bool mean) {
  dispatch(dtype, [&](auto s) {
    relation<decltype(s)>(features, outputs, kdops::IrgEdgeLoss{factor(features, mean)});
  });
}

void cckd_loss(const std::string& dtype, const Arrays& features, Outputs outputs, double gamma,
               const std::vector<double>& coefficients, bool normalize, bool mean) {
  dispatch(dtype, [&](auto s) {
    kdops::with_cckd_loss(
        gamma, coefficients, normalize, factor(features, mean),
        [&](const auto& loss) { relation<decltype(s)>(features, outputs, loss); });
  });
}

void pkt_loss(const std::string& dtype, const Arrays& features, Outputs outputs, bool student_t,
              bool jeffreys, bool self_pairs, double eps, int64_t power) {
  dispatch(dtype, [&](auto s) {
    kdops::with_pkt_loss(student_t, jeffreys, self_pairs, eps, power_factor(features, power),
                         [&](const auto& loss) { relation<decltype(s)>(features, outputs, loss); });
  });
}

void sp_loss(const std::string& dtype, const Arrays& features, Outputs outputs, int64_t norm,
             int64_t power) {
  dispatch(dtype, [&](auto s) {
    kdops::with_sp_loss(norm, power_factor(features, power),
                        [&](const auto& loss) { relation<decltype(s)>(features, outputs, loss); });
  });
}

}  // namespace

PYBIND11_MODULE(relations, m) {
  py::class_<Outputs>(m, "Outputs").def(py::init<Array, std::vector<std::optional<Array>>>());
  m.def("set_order", [](const std::string& order) { simt::set_order(order.c_str()); });
  m.def("keep_maps_up_to", [](int64_t bytes) { map_bytes = bytes; });
  m.def("rkd_distance_loss", rkd_distance_loss);
  m.def("rkd_angle_loss", rkd_angle_loss);
  m.def("irg_edge_loss", irg_edge_loss);
  m.def("cckd_loss", cckd_loss);
  m.def("pkt_loss", pkt_loss);
  m.def("sp_loss", sp_loss);
}
