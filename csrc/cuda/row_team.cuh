// A team of threads on a row of logits: its share of the classes, and its memory.
#pragma once

#include "cuda/reduce.cuh"

namespace kdops {
namespace {

// The threads that share a row: a block, or a warp of it.
template <bool kBlock>
struct Team {
  int size, thread;

  SIMT_DEVICE static Team mine() {
    if constexpr (kBlock) return {int(blockDim.x), int(threadIdx.x)};
    return {simt::kWarpSize, int(threadIdx.x % simt::kWarpSize)};
  }
  template <class T, int N, class Op>
  SIMT_DEVICE Values<T, N> reduce(const Values<T, N>& x, Op op) const {
    if constexpr (kBlock) return block_reduce(x, op);
    return warp_reduce(x, op);
  }
  // What a thread of the team wrote is seen by the others.
  SIMT_DEVICE void sync() const {
    if constexpr (kBlock) return __syncthreads();
    __syncwarp();
  }
};

// An array in shared memory of which a thread reads what it wrote itself: N values a round.
template <class T, int N>
class Own {
 public:
  static constexpr int kGroup = N < simt::kPackSize<T> ? N : simt::kPackSize<T>;
  template <class Team>
  SIMT_DEVICE Own(T* array, const Team& team)
      : first_(array + team.thread * kGroup), stride_(team.size * kGroup) {}

  SIMT_DEVICE Values<T, N> load(int round) const {
    Values<T, N> x;
#pragma unroll
    for (int g = 0; g < N; g += kGroup) {
      const auto pack = simt::load_pack<kGroup>(place(round, g));
#pragma unroll
      for (int k = 0; k < kGroup; ++k) x.v[g + k] = pack.v[k];
    }
    return x;
  }
  SIMT_DEVICE void store(int round, const Values<T, N>& x) const {
#pragma unroll
    for (int g = 0; g < N; g += kGroup) {
      simt::Pack<T, kGroup> pack;
#pragma unroll
      for (int k = 0; k < kGroup; ++k) pack.v[k] = x.v[g + k];
      simt::store_pack(place(round, g), pack);
    }
  }

 private:
  SIMT_DEVICE T* place(int round, int g) const {
    return first_ + (round * (N / kGroup) + g / kGroup) * stride_;
  }
  T* first_;
  int stride_;
};

// N logits, in one instruction where `aligned`; the classes of a thread are the same either way.
template <int N, class S>
SIMT_DEVICE Values<simt::acc_t<S>, N> load_logits(const S* p, bool aligned) {
  simt::Pack<S, N> pack;
  if (aligned) {
    pack = simt::load_pack<N>(p);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) pack.v[k] = p[k];
  }
  Values<simt::acc_t<S>, N> x;
#pragma unroll
  for (int k = 0; k < N; ++k) x.v[k] = simt::widen(pack.v[k]);
  return x;
}
template <class S, int N>
SIMT_DEVICE void store_gradient(S* p, const Values<simt::acc_t<S>, N>& x, bool aligned) {
  simt::Pack<S, N> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.v[k] = simt::narrow<S>(x.v[k]);
  if (aligned) return simt::store_pack(p, pack);
#pragma unroll
  for (int k = 0; k < N; ++k) p[k] = pack.v[k];
}

// f(first class, round); kUnroll: so many packs at a time, where they come from afar.
template <int N, int kUnroll = 1, class Team, class F>
SIMT_DEVICE void each_pack(const Team& team, int count, F f) {
  int round = 0;
#pragma unroll kUnroll
  for (int i = team.thread * N; i < count; i += team.size * N) f(i, round++);
}

}  // namespace
}  // namespace kdops
