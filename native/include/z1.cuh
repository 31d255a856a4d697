// What every kernel of native/kernels starts from: fixed-width types, bf16, 16-byte vectors, entry points, shared
// memory, math, reductions over warps and blocks. A kernel file includes this file (and hopper.cuh where it needs it)
// and nothing else. Compiled by NVRTC it is CUDA C++; compiled by a host compiler with Z1_HOSTCUDA it is C++ that runs
// inside libhostcuda.so.
#pragma once

#ifdef Z1_HOSTCUDA

#include "hostcuda.h"

// Entry point `name`: one block is at most `threads` threads, the register budget leaves room for `min_blocks` blocks
// per multiprocessor, and the body that follows sees its arguments as `p`, one struct by value.
#define Z1_KERNEL(threads, min_blocks, name, Params)                                      \
  static_assert((threads) >= 1 && (threads) <= 1024 && (min_blocks) >= 1);                \
  static void name##_body(const Params p);                                                \
  extern "C" {                                                                            \
  extern const unsigned long name##_param_bytes;                                          \
  const unsigned long name##_param_bytes = sizeof(Params);                                \
  extern const int name##_max_threads;                                                    \
  const int name##_max_threads = (threads);                                               \
  __attribute__((no_sanitize("thread"))) void name(const void* params) {                  \
    name##_body(*static_cast<const Params*>(params));                                     \
  }                                                                                       \
  }                                                                                       \
  static void name##_body(const Params p)

// The dynamic shared memory of the block, 1024-byte aligned; the launch says how many bytes there are.
template <class T> __forceinline__ T* shared_memory() { return static_cast<T*>(hostcuda_shared_memory()); }

__forceinline__ uint32_t float_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
__forceinline__ float bits_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// e^x, 2^x and 1/√x as the GPU's approximate instructions (relative error about 2^-22); here to single precision.
__forceinline__ float exp_approx(float x) { return expf(x); }
__forceinline__ float exp2_approx(float x) { return exp2f(x); }
__forceinline__ float rsqrt_approx(float x) { return rsqrtf(x); }

#else  // NVRTC

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;

#define Z1_KERNEL(threads, min_blocks, name, Params) \
  extern "C" __global__ void __launch_bounds__(threads, min_blocks) name(const __grid_constant__ Params p)

template <class T> __device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(1024) unsigned char z1_shared_storage[];
  return reinterpret_cast<T*>(z1_shared_storage);
}

__device__ __forceinline__ uint32_t float_bits(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float bits_float(uint32_t bits) { return __uint_as_float(bits); }

__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float exp_approx(float x) { return exp2_approx(x * 1.4426950408889634f); }
__device__ __forceinline__ float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif

constexpr int kWarp = 32;
constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);

// The upper 16 bits of an fp32: sign, 8 bits of exponent, 7 of mantissa.
struct alignas(2) bf16 { uint16_t bits; };
static_assert(sizeof(bf16) == 2);

__device__ __forceinline__ float to_float(bf16 x) { return bits_float(uint32_t(x.bits) << 16); }

// Rounds to nearest, ties to even; a NaN becomes 0x7fff (cvt.rn.bf16.f32).
__device__ __forceinline__ bf16 to_bf16(float x) {
#ifdef Z1_HOSTCUDA
  const uint32_t bits = float_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16{0x7fff};
  return bf16{uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#else
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#endif
}

// 32 random bits that depend on (seed, index) alone: the upper half of splitmix64's output for the state
// seed + (index + 1) · 0x9e3779b97f4a7c15 (Steele, Lea, Flood 2014).
__device__ __forceinline__ uint32_t hash32(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return uint32_t((z ^ (z >> 31)) >> 32);
}

// 16 random bits that depend on (key, element modulo 2^32) alone: triple32 (Wellons, 2018), begun at one half of the key and
// joined by the other after the first multiplication. StochasticRounding.Hash is the same on the CPU.
__device__ __forceinline__ uint32_t cut16(uint64_t key, uint32_t element) {
  uint32_t h = element + uint32_t(key);
  h = (h ^ (h >> 17)) * 0xed5ad4bbu;
  h = (h ^ (h >> 11)) + uint32_t(key >> 32);
  h *= 0xac4c1b51u;
  h = (h ^ (h >> 15)) * 0x31848babu;
  return h >> 16;
}

// x as bf16 in the upper half of an fp32: to nearest even, or stochastically, up with a probability equal to the part cut
// off. What is not finite is rounded to nearest.
__device__ __forceinline__ float round_bf16(float x, bool stochastic, uint64_t key, int64_t element) {
  const uint32_t bits = float_bits(x);
  if (!stochastic || (bits & 0x7f800000u) == 0x7f800000u) return to_float(to_bf16(x));
  return bits_float((bits + cut16(key, uint32_t(element))) & 0xffff0000u);
}

#define Z1_BASE
#include "ptx.cuh"

// Sum over the lanes of a warp; every lane gets it. Butterfly: x_i + x_(i ^ 16), then ^ 8, 4, 2, 1, so all lanes hold
// equal bits.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += ptx::shfl_xor(value, mask);
  return value;
}
// Maximum over the lanes of a warp; every lane gets it. A NaN is passed over, as by fmaxf.
template <class T> __device__ __forceinline__ T warp_max(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const T other = ptx::shfl_xor(value, mask);
    if (other > value || value != value) value = other;
  }
  return value;
}

// Sum over a one-dimensional block of whole warps; every thread gets it. `scratch`: 32 elements of shared memory that
// may be used again by the next call (the call starts with a barrier). Order: within each warp, then over the warps,
// both butterflies.
template <class T> __device__ __forceinline__ T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  ptx::sync_threads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  ptx::sync_threads();
  return warp_sum(threadIdx.x % kWarp < blockDim.x / kWarp ? scratch[threadIdx.x % kWarp] : T(0));
}
// Maximum over a one-dimensional block of whole warps; otherwise as block_sum.
template <class T> __device__ __forceinline__ T block_max(T value, T* scratch) {
  value = warp_max(value);
  ptx::sync_threads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  ptx::sync_threads();
  return warp_max(scratch[threadIdx.x % kWarp < blockDim.x / kWarp ? threadIdx.x % kWarp : 0]);
}

// Eight bf16 (16 bytes, 16-byte aligned) held as eight floats. `store` rounds each to nearest even.
struct Vec8 {
  float v[8];

  static __device__ __forceinline__ Vec8 of(uint4 w) {
    return Vec8{{bits_float(w.x << 16), bits_float(w.x & 0xffff0000u), bits_float(w.y << 16),
                 bits_float(w.y & 0xffff0000u), bits_float(w.z << 16), bits_float(w.z & 0xffff0000u),
                 bits_float(w.w << 16), bits_float(w.w & 0xffff0000u)}};
  }
  static __device__ __forceinline__ Vec8 zero() { return Vec8{{0, 0, 0, 0, 0, 0, 0, 0}}; }
  static __device__ __forceinline__ Vec8 load(const bf16* from) { return of(ptx::load_16(from)); }
  // Global memory that no thread writes during the launch.
  static __device__ __forceinline__ Vec8 load_nc(const bf16* from) { return of(ptx::load_global_nc_16(from)); }
  __device__ __forceinline__ void store(bf16* to) const {
    ptx::store_16(to, uint4{ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]),
                            ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7])});
  }
  __device__ __forceinline__ float& operator[](int i) { return v[i]; }
  __device__ __forceinline__ float operator[](int i) const { return v[i]; }
};

// Four fp32 (16 bytes, 16-byte aligned).
struct Vec4 {
  float v[4];

  static __device__ __forceinline__ Vec4 of(uint4 w) {
    return Vec4{{bits_float(w.x), bits_float(w.y), bits_float(w.z), bits_float(w.w)}};
  }
  static __device__ __forceinline__ Vec4 zero() { return Vec4{{0, 0, 0, 0}}; }
  static __device__ __forceinline__ Vec4 load(const float* from) { return of(ptx::load_16(from)); }
  // Global memory that no thread writes during the launch.
  static __device__ __forceinline__ Vec4 load_nc(const float* from) { return of(ptx::load_global_nc_16(from)); }
  __device__ __forceinline__ void store(float* to) const {
    ptx::store_16(to, uint4{float_bits(v[0]), float_bits(v[1]), float_bits(v[2]), float_bits(v[3])});
  }
  __device__ __forceinline__ float& operator[](int i) { return v[i]; }
  __device__ __forceinline__ float operator[](int i) const { return v[i]; }
};
