// Runs the sound kernels or a planted bug by name: 0 right, 1 wrong, 2 the emulator objects.
#include "plants.cuh"

#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace {

using Values = std::vector<float>;

Values values(int n) {
  Values x(n);
  unsigned state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / (1 << 22) - 2.0f;
  }
  return x;
}
bool near(double found, double expected) {
  return fabs(found - expected) <= 1e-5 * (1 + fabs(expected));
}

template <Plant plant>
bool softmax() {
  const int rows = 5, classes = 4 * 41;  // 41 threads have some
  const Values x = values(rows * classes);
  Values y(x.size(), NAN);
  simt::launch(softmax_kernel<plant>, rows, kThreads, classes * sizeof(float), nullptr, x.data(),
               y.data(), classes);
  bool right = true;
  for (int row = 0; row < rows; ++row) {
    double sum = 0;
    for (int c = 0; c < classes; ++c) sum += exp(double(x[row * classes + c]));
    for (int c = 0; c < classes; ++c)
      right &= near(y[row * classes + c], exp(double(x[row * classes + c])) / sum);
  }
  return right;
}

template <Plant plant>
bool products() {
  const int rows = 19, cols = 21;
  const Values x = values(rows * cols);
  Values y(rows * rows, NAN);
  const dim3 grid((rows + kTile - 1) / kTile, (rows + kTile - 1) / kTile);
  simt::launch(products_kernel<plant>, grid, dim3(kTile, kTile), 0, nullptr, x.data(), y.data(),
               rows, cols);
  bool right = true;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < rows; ++j) {
      double sum = 0;
      for (int k = 0; k < cols; ++k) sum += double(x[i * cols + k]) * x[j * cols + k];
      right &= near(y[i * rows + j], sum);
    }
  return right;
}

template <Plant plant>
bool reverse() {
  const int n = 3 * kThreads - 27;
  const Values x = values(n);
  Values y(n + 1, NAN);
  simt::launch(reverse_kernel<plant>, (n + kThreads - 1) / kThreads, kThreads, 0, nullptr, x.data(),
               y.data(), n);
  bool right = true;
  for (int i = 0; i < n; ++i) {
    const int source = i / 32 * 32 + 31 - i % 32;
    right &= y[i] == (source < n ? x[source] : 0.0f);
  }
  return right;
}

bool sound() { return softmax<kSound>() & products<kSound>() & reverse<kSound>(); }

const struct {
  const char* name;
  bool (*run)();
} kPrograms[] = {
    {"sound", sound},
    {"static_index", softmax<kStaticIndex>},
    {"static_pointer", softmax<kStaticPointer>},
    {"dynamic_end", softmax<kDynamicEnd>},
    {"input_tail", softmax<kInputTail>},
    {"output_tail", softmax<kOutputTail>},
    {"misaligned", softmax<kMisaligned>},
    {"no_barrier_after_write", softmax<kNoBarrierAfterWrite>},
    {"no_barrier_before_reuse", softmax<kNoBarrierBeforeReuse>},
    {"barrier_in_branch", softmax<kBarrierInBranch>},
    {"return_before_barrier", softmax<kReturnBeforeBarrier>},
    {"unset_shared", softmax<kUnsetShared>},
    {"half_warp_mask", softmax<kHalfWarpMask>},
    {"tile_row", products<kTileRow>},
    {"no_barrier_after_tile", products<kNoBarrierAfterTile>},
    {"no_barrier_before_tile", products<kNoBarrierBeforeTile>},
    {"no_warp_barrier", reverse<kNoWarpBarrier>},
    {"half_warp_barrier", reverse<kHalfWarpBarrier>},
    {"one_cell_two_threads", reverse<kOneCellTwoThreads>},
    {"one_cell_two_blocks", reverse<kOneCellTwoBlocks>},
    {"one_cell_same_thread", reverse<kOneCellSameThread>},
};

}  // namespace

int main(int, char** arguments) {
  try {
    for (const auto& program : kPrograms)
      if (std::strcmp(program.name, arguments[1]) == 0) return program.run() ? 0 : 1;
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
