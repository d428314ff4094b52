// CUDA for g++: the language and the intrinsics that kernels may use, and no others.
//
// A CUDA thread is a fiber on one OS thread, blocks run one after another (scheduler.cpp). What a
// GPU leaves undefined stops the launch with a std::runtime_error that names place and thread.
#pragma once

#include <math.h>  // expf, sqrtf, ... and the overloads for float and double without a namespace

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

// CUDA's fast functions of few digits; the C library has some of these names for itself.
#pragma GCC poison __expf __exp10f __logf __log2f __log10f __sinf __cosf __tanf __powf

#define SIMT_KERNEL void
#define SIMT_KERNEL_BOUNDS(...) void
#define SIMT_DEVICE inline
// On the heap in its exact size, new for each block: sanitizers see its bounds and its lifetime.
#define SIMT_SHARED(T, name, ...)                \
  typedef T name##_type __VA_ARGS__;             \
  static_assert(std::is_trivial_v<name##_type>); \
  static constexpr char name##_key = 0;          \
  name##_type& name =                            \
      *static_cast<name##_type*>(::simt::static_shared(&name##_key, sizeof(name##_type)))
#define SIMT_DYN_SHARED(T, name) T* const name = static_cast<T*>(::simt::dynamic_shared())

using cudaStream_t = void*;

struct uint3 {
  unsigned x, y, z;
};
struct dim3 : uint3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
};

namespace simt {

struct Position {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Position position;  // of the thread that runs

// Where a kernel synchronises.
struct Site {
  const char *operation, *file;
  int line;
};
#define SIMT_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SIMT_SITE \
  ::simt::Site { __func__, file, line }

void* static_shared(const void* key, size_t bytes);
void* dynamic_shared();
void sync_block(Site);
void sync_warp(unsigned mask, Site);
uint64_t shuffle(unsigned mask, uint64_t bits, int source, Site);  // the bits of lane `source`
int lane();
void run(dim3 grid, dim3 block, size_t shared_bytes, void (*thread)(void*), void* argument);

// forward, reverse or random:SEED. Without a call the environment's SIMT_ORDER, or random:1.
void set_order(const char* order);

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
            A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...) && (sizeof(P) + ... + 0) <= 4096);
  std::tuple<P...> parameters(static_cast<P>(args)...);
  auto thread = [&] { std::apply(kernel, parameters); };
  auto call = [](void* f) { (*static_cast<decltype(thread)*>(f))(); };
  run(grid, block, shared_bytes, call, &thread);
}

template <class To, class From>
To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}
template <class T>
T shuffle_as(unsigned mask, T value, int source, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return bits_as<T>(static_cast<Bits>(shuffle(mask, bits_as<Bits>(value), source, site)));
}

}  // namespace simt

inline const uint3& threadIdx = simt::position.thread;
inline const uint3& blockIdx = simt::position.block;
inline const dim3& blockDim = simt::position.block_size;
inline const dim3& gridDim = simt::position.grid_size;

// ---- a block -----------------------------------------------------------------------------------

inline void __syncthreads(SIMT_CALLER) { simt::sync_block(SIMT_SITE); }

// ---- a warp: shuffles of 32 lanes --------------------------------------------------------------

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_CALLER) {
  simt::sync_warp(mask, SIMT_SITE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, SIMT_CALLER) {
  return simt::shuffle_as(mask, value, simt::lane() ^ (lane_mask & 31), SIMT_SITE);
}

// ---- arithmetic --------------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return simt::bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return simt::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return simt::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return simt::bits_as<double>(x); }

// As on the device, the number where the other one is NaN.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
template <class T>
std::enable_if_t<std::is_integral_v<T>, T> max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
std::enable_if_t<std::is_integral_v<T>, T> min(T a, T b) {
  return a < b ? a : b;
}

// ---- half types, by their bits -----------------------------------------------------------------

struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __half2float(__half x) {
  const uint32_t magnitude = x.bits & 0x7fffu, sign = (x.bits & 0x8000u) << 16;
  const bool finite = magnitude < 0x7c00u;
  const float scaled = simt::bits_as<float>(magnitude << 13) * 0x1p112f;
  const uint32_t bits = finite ? simt::bits_as<uint32_t>(scaled) : magnitude << 13 | 0x7f800000u;
  return simt::bits_as<float>(bits | sign);
}
inline __half __float2half_rn(float x) {
  if (isnan(x)) return {0x7fff};
  const uint16_t sign = signbit(x) ? 0x8000 : 0;
  const float magnitude = fabsf(x);
  if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};
  const int exponent = magnitude < 0x1p-14f ? -14 : ilogbf(magnitude);
  const float steps = rintf(ldexpf(magnitude, 10 - exponent));  // 1024 is the implicit bit
  return {static_cast<uint16_t>(sign | (((exponent + 14) << 10) + static_cast<int>(steps)))};
}
inline float __bfloat162float(__nv_bfloat16 x) {
  return simt::bits_as<float>(static_cast<uint32_t>(x.bits) << 16);
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  if (isnan(x)) return {0x7fff};
  const uint32_t bits = simt::bits_as<uint32_t>(x);
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
