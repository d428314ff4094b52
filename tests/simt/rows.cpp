// The kernels over rows of logits, for numpy arrays: outputs are given, and written.
#include "arrays.h"
#include "cuda/logit_rows.cuh"
#include "cuda/scale.cuh"

namespace {

struct Loss {
  double temperature, soft_weight, hard_weight;
  bool entropy;
  int reduction;  // mean, sum, none
  int64_t ignore_index;
};

// (rows, cols), and labels or none.
struct Inputs {
  Array student, teacher;
  std::optional<Array> target;
};

struct Outputs {
  Array value;
  std::optional<Array> gradient;
};

// How much a launch may take: bytes of a block, and teams of threads.
struct Limits {
  size_t shared;
  int teams;
};

void logit_rows(const std::string& dtype, const Loss& loss, const Inputs& inputs, Outputs outputs,
                const Limits& limits) {
  dispatch(dtype, [&](auto s) {
    using S = decltype(s);
    kdops::LogitRows<S> rows{};
    rows.student = read<S>(inputs.student);
    rows.teacher = read<S>(inputs.teacher);
    rows.labels = inputs.target ? inputs.target->data() : nullptr;
    rows.labels_wide = inputs.target && inputs.target->itemsize() == 8;
    rows.rows = inputs.student.shape(0);
    rows.cols = inputs.student.shape(1);
    rows.temperature = loss.temperature;
    rows.soft_weight = loss.soft_weight;
    rows.hard_weight = loss.hard_weight;
    rows.entropy = loss.entropy;
    rows.reduction = static_cast<kdops::RowReduction>(loss.reduction);
    rows.ignore_index = loss.ignore_index;
    rows.value = write<simt::acc_t<S>>(outputs.value);
    rows.gradient = write<S>(outputs.gradient);
    rows.shared_limit = limits.shared;
    rows.max_teams = limits.teams;
    Memory memory(kdops::logit_rows_workspace(rows));
    rows.workspace = memory.data();
    kdops::launch_logit_rows(rows, nullptr);
  });
}

// An upstream gradient a row, or one for all.
void scale(const std::string& dtype, Array gradient, const Array& upstream) {
  dispatch(dtype, [&](auto s) {
    using S = decltype(s);
    const int64_t rows = upstream.size(), cols = rows == 0 ? 0 : gradient.size() / rows;
    kdops::launch_scale(write<S>(gradient), read<simt::acc_t<S>>(upstream), rows, cols, nullptr);
  });
}

}  // namespace

PYBIND11_MODULE(rows, m) {
  py::class_<Loss>(m, "Loss").def(py::init<double, double, double, bool, int, int64_t>());
  py::class_<Inputs>(m, "Inputs").def(py::init<Array, Array, std::optional<Array>>());
  py::class_<Outputs>(m, "Outputs").def(py::init<Array, std::optional<Array>>());
  py::class_<Limits>(m, "Limits").def(py::init<size_t, int>());
  m.def("set_order", [](const std::string& order) { simt::set_order(order.c_str()); });
  m.def("logit_rows", logit_rows);
  m.def("scale", scale);
}
