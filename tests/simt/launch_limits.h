// What an H100 can launch.
#pragma once

#include <stdexcept>
#include <string>

#include "emulator.h"

namespace simt {

constexpr int kMaxThreads = 1024, kWarp = 32, kWarps = kMaxThreads / kWarp;
constexpr size_t kDefaultShared = 48 << 10, kMaxShared = 227 << 10;
constexpr size_t kUnasked = 40 << 10;  // dynamic memory for which simt::launch does not ask

inline std::string text(const uint3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}
inline void check_launch(dim3 grid, dim3 block, size_t dynamic) {
  const uint64_t size = uint64_t{block.x} * block.y * block.z;
  if (size < 1 || size > kMaxThreads || block.z > 64)
    throw std::runtime_error("a block has 1 to 1024 threads, at most 64 in z, got " + text(block));
  if (grid.x - 1 >= 0x7fffffff || grid.y - 1 >= 65535 || grid.z - 1 >= 65535)
    throw std::runtime_error("a grid has 1 to 2147483647 blocks in x, 65535 in y and z, got " +
                             text(grid));
  if (dynamic > kMaxShared)
    throw std::runtime_error("a block has at most 232448 bytes of shared memory, got " +
                             std::to_string(dynamic));
}

}  // namespace simt
