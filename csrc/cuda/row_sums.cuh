// How many rows count, and the sum of their losses: in a fixed order, and without losing digits of
// many rows in float.
#pragma once

#include "cuda/reduce.cuh"

namespace kdops {
namespace {

constexpr int kCountBlocks = 64, kCountThreads = 256, kSumThreads = 1024;

// int64 or int32 labels, or none.
struct RowLabels {
  const void* data;
  bool wide;
  int64_t ignored;

  SIMT_DEVICE int64_t operator[](int64_t row) const {
    return wide ? static_cast<const int64_t*>(data)[row] : static_cast<const int32_t*>(data)[row];
  }
  SIMT_DEVICE bool count(int64_t row) const { return data == nullptr || (*this)[row] != ignored; }
};

SIMT_KERNEL_BOUNDS(kCountThreads) count_rows(RowLabels labels, int64_t rows, int64_t* counts) {
  int64_t count = 0;
  for (int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; row < rows;
       row += int64_t(gridDim.x) * blockDim.x)
    count += labels.count(row);
  count = block_sum(count);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// What the loss and its gradient are divided by.
template <class T>
struct Divisor {
  T rows;
  const int64_t* counts;  // or null: of count_rows, by block
  int blocks;

  SIMT_DEVICE T operator()() const {  // for whole warps
    if (counts == nullptr) return rows;
    int64_t count = 0;
    for (int i = threadIdx.x % simt::kWarpSize; i < blocks; i += simt::kWarpSize)
      count += counts[i];
    return T(max(warp_sum(count), int64_t(1)));
  }
};

// A sum, and what its additions have lost.
template <class T>
using Total = Values<T, 2>;

struct SumTotals {
  template <class T>
  SIMT_DEVICE Total<T> operator()(const Total<T>& a, const Total<T>& b) const {
    const T sum = a.v[0] + b.v[0], added = sum - a.v[0];
    const T lost = (a.v[0] - (sum - added)) + (b.v[0] - added);
    return {{sum, (a.v[1] + b.v[1]) + lost}};
  }
};

template <class T>
SIMT_DEVICE T quotient(const Total<T>& total, T divisor) {
  const T sum = total.v[0] + total.v[1];
  return (sum == sum ? sum : total.v[0]) / divisor;  // inf has lost NaN
}

// One block.
template <class T>
SIMT_KERNEL_BOUNDS(kSumThreads)
sum_rows(const Total<T>* totals, int count, Divisor<T> divisor, T* value) {
  Total<T> total{};
  for (int i = threadIdx.x; i < count; i += blockDim.x) total = SumTotals{}(total, totals[i]);
  total = block_reduce(total, SumTotals{});
  const T rows = divisor();
  if (threadIdx.x == 0) *value = quotient(total, rows);
}

}  // namespace
}  // namespace kdops
