// The emulator's own kernels for test_emulator.py; half types are their bits.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "intrinsics.cuh"
#include "mistakes.cuh"

namespace py = pybind11;

namespace {

template <class T>
using array = py::array_t<T, py::array::c_style>;

dim3 size(const py::tuple& t) {
  return dim3(t[0].cast<unsigned>(), t[1].cast<unsigned>(), t[2].cast<unsigned>());
}
dim3 blocks_of(int64_t n) { return dim3((n + kThreads - 1) / kThreads); }

template <class T>
void shuffle(array<T> x, array<T> out, int argument) {
  simt::launch(shuffle_kernel<T>, blocks_of(x.size()), kThreads, 0, nullptr, x.data(),
               out.mutable_data(), x.size(), argument);
}
// Bits are what numpy holds, T what the kernel sees.
template <class T, class Bits>
bool pack(array<Bits> x, array<Bits> out, int64_t offset, int64_t stride) {
  const T* from = reinterpret_cast<const T*>(x.data()) + offset;
  T* to = reinterpret_cast<T*>(out.mutable_data());
  constexpr int N = simt::kPackSize<T>;
  if (!simt::packs_fit<N>(from, stride)) return false;
  simt::launch(pack_kernel<T>, blocks_of(stride / N), kThreads, 0, nullptr, from, to, stride);
  return true;
}
template <class T>
void widen(array<uint16_t> x, array<float> out) {
  simt::launch(widen_kernel<T>, blocks_of(x.size()), kThreads, 0, nullptr,
               reinterpret_cast<const T*>(x.data()), out.mutable_data(), x.size());
}
template <class T>
void narrow(array<float> x, array<uint16_t> out) {
  simt::launch(narrow_kernel<T>, blocks_of(x.size()), kThreads, 0, nullptr, x.data(),
               reinterpret_cast<T*>(out.mutable_data()), x.size());
}
template <class T>
void arithmetic(array<T> x, array<T> y, array<T> out) {
  simt::launch(arithmetic_kernel<T>, blocks_of(x.size()), kThreads, 0, nullptr, x.data(), y.data(),
               out.mutable_data(), x.size());
}

template <class T>
void def_types(py::module_& m) {
  m.def("shuffle", shuffle<T>);
  if constexpr (std::is_same_v<simt::acc_t<T>, T>) m.def("arithmetic", arithmetic<T>);
}

#define MISTAKE(name) m.def(#name, [](int threads) { simt::launch(name, 3, threads, 0, nullptr); })

}  // namespace

PYBIND11_MODULE(selftest, m) {
  m.def("set_order", [](const char* order) { simt::set_order(order); }, py::arg().none(true));
  m.def("index", [](array<int> out, py::tuple grid, py::tuple block) {
    simt::launch(index_kernel, size(grid), size(block), 0, nullptr, out.mutable_data());
  });
  def_types<float>(m);
  def_types<double>(m);
  def_types<int>(m);
  def_types<unsigned>(m);
  def_types<long long>(m);
  m.def("half_warp", [](array<int> x, array<int> out) {
    simt::launch(half_warp_kernel, blocks_of(x.size()), kThreads, 0, nullptr, x.data(),
                 out.mutable_data(), x.size());
  });
  m.def("reverse", [](array<float> x, array<float> out) {
    simt::launch(reverse_kernel, blocks_of(x.size()), kThreads, kThreads * sizeof(float), nullptr,
                 x.data(), out.mutable_data(), x.size());
  });
  m.def("fresh", [](array<float> out) {
    simt::launch(fresh_kernel, out.shape(1), 1, 6 * sizeof(float), nullptr, out.mutable_data());
  });
  m.def("pack", pack<float, float>);
  m.def("pack", pack<double, double>);
  m.def("pack_half", pack<__half, uint16_t>);
  m.def("pack_bfloat16", pack<__nv_bfloat16, uint16_t>);
  m.def("widen_half", widen<__half>);
  m.def("widen_bfloat16", widen<__nv_bfloat16>);
  m.def("narrow_half", narrow<__half>);
  m.def("narrow_bfloat16", narrow<__nv_bfloat16>);
  m.def("step", [](array<int> counters, array<int> out, int threads) {
    simt::launch(step_kernel, counters.size(), threads, 0, nullptr, counters.mutable_data(),
                 out.mutable_data());
  });
  m.def("start", [](array<int> counter, array<int> out, int blocks) {
    simt::launch(start_kernel, blocks, out.size() / blocks, 0, nullptr, counter.mutable_data(),
                 out.mutable_data());
  });
  MISTAKE(different_barriers);
  MISTAKE(returns_before_barrier);
  MISTAKE(barrier_against_warp);
  MISTAKE(different_operations);
  MISTAKE(different_masks);
  MISTAKE(not_in_own_mask);
  MISTAKE(shuffle_from_outside);
  MISTAKE(shuffle_from_returned);
  MISTAKE(shuffle_from_nobody);
  MISTAKE(reads_past_the_end);
  MISTAKE(misses_a_barrier);
  m.def("too_much_shared",
        [](int64_t dynamic) { simt::launch(too_much_shared, 3, 64, dynamic, nullptr, nullptr); });
  m.def("nothing", [](py::tuple grid, py::tuple block, size_t dynamic) {
    simt::launch(nothing, size(grid), size(block), dynamic, nullptr);
  });
}
