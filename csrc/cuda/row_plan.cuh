// How many threads a row of logits gets, and how much of shared memory.
#pragma once

#include "cuda/simt.h"

namespace kdops {

enum class RowReduction { kMean, kSum, kNone };

namespace {

constexpr int kMaxTeam = 512, kWarpTeams = 8;  // more threads would spill registers
constexpr int64_t kChunkClasses = 8192, kMinChunk = 32, kWarpClasses = 256, kThreadClasses = 16;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Classes of shared memory for n classes in packs of `pack`, by a team of `threads`.
inline int64_t slots(int64_t n, int threads, int pack) {
  return ceil_div(n, int64_t(threads) * pack) * threads * pack;
}
inline int team_size(int64_t n) {
  if (n <= kWarpClasses) return simt::kWarpSize;
  int threads = 2 * simt::kWarpSize;
  while (threads < kMaxTeam && threads * kThreadClasses < n) threads *= 2;
  return threads;
}

}  // namespace
}  // namespace kdops
