// The kernels of maps and their gradients, for numpy arrays: outputs are given, and written.
#include "arrays.h"
#include "cuda/pairwise_distance.cuh"
#include "cuda/rbf_correlation.cuh"
#include "cuda/triplet_angle.cuh"

namespace {

using kdops::acc_t;
using Upstream = std::optional<Array>;  // of a backward

template <class S, class Op>
void run_map(const Array& x, const Upstream& upstream, Array& output, const Op& op) {
  kdops::MapJob<S, Op> job{};
  job.batches.n = x.shape(0), job.batches.d[0] = x.shape(1), job.batches.x[0] = read<S>(x);
  job.op = op;
  Memory memory(kdops::place_map(job, nullptr));
  kdops::place_map(job, memory.data());
  if (upstream) {
    job.upstream = read<acc_t<S>>(*upstream), job.gradient = write<S>(output);
    kdops::launch_map_backward(job, nullptr);
  } else {
    job.values = write<acc_t<S>>(output);
    kdops::launch_map(job, nullptr);
  }
}

void pairwise_distance(const std::string& dtype, const Array& x, const Upstream& upstream,
                       Array output, bool squared, int normalize, double eps) {
  const auto normalizer = static_cast<kdops::Normalizer>(normalize);
  dispatch(dtype, [&](auto s) {
    run_map<decltype(s)>(x, upstream, output, kdops::PairwiseDistance{squared, normalizer, eps});
  });
}

void rbf_correlation(const std::string& dtype, const Array& x, const Upstream& upstream,
                     Array output, double gamma, const std::vector<double>& coefficients,
                     bool normalize) {
  dispatch(dtype, [&](auto s) {
    kdops::with_rbf_correlation(gamma, coefficients, normalize, [&](const auto& op) {
      run_map<decltype(s)>(x, upstream, output, op);
    });
  });
}

void triplet_angle(const std::string& dtype, const Array& x, const Upstream& upstream, Array output,
                   double eps) {
  dispatch(dtype, [&](auto s) {
    using S = decltype(s);
    kdops::CosineJob<S> job{};
    job.batches.n = x.shape(0), job.batches.d[0] = x.shape(1), job.batches.x[0] = read<S>(x);
    job.eps = eps;
    if (upstream) job.upstream = read<acc_t<S>>(*upstream), job.gradient = write<S>(output);
    if (!upstream) job.cosines = write<acc_t<S>>(output);
    Memory memory(kdops::place_cosines(job, nullptr));
    kdops::place_cosines(job, memory.data());
    if (upstream) return kdops::launch_triplet_angle_backward(job, nullptr);
    kdops::launch_triplet_angle(job, nullptr);
  });
}

}  // namespace

PYBIND11_MODULE(maps, m) {
  m.def("set_order", [](const std::string& order) { simt::set_order(order.c_str()); });
  m.def("pairwise_distance", pairwise_distance);
  m.def("rbf_correlation", rbf_correlation);
  m.def("triplet_angle", triplet_angle);
}
