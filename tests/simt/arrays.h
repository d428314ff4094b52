// numpy arrays as the launch functions take them. Half types are their bits, so the dtype is named.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "cuda/scalar.cuh"

namespace py = pybind11;
using Array = py::array;

// f(S{}) for the storage type of a dtype's name; under a sanitizer, which takes minutes to compile
// them all, float stands for the others.
template <class F>
void dispatch(const std::string& dtype, F f) {
  if (dtype == "float32") return f(float{});
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  if (dtype == "float64") return f(double{});
  if (dtype == "float16") return f(__half{});
  if (dtype == "bfloat16") return f(__nv_bfloat16{});
#endif
  throw std::invalid_argument("no kernel for " + dtype);
}

template <class S>
const S* read(const Array& x) {
  return static_cast<const S*>(x.data());
}
template <class S>
S* write(Array& x) {
  return static_cast<S*>(x.mutable_data());
}
template <class S>
S* write(std::optional<Array>& x) {
  return x ? write<S>(*x) : nullptr;
}

// A launch's workspace: not a number wherever it is read before it is written.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes, 0xff) {}
  void* data() { return bytes_.data(); }

 private:
  std::vector<unsigned char> bytes_;
};
