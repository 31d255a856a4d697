// The calls that a kernel compiled as C++ makes into libhostcuda.so: one for each built-in and each instruction of
// z1.cuh, ptx.cuh and hopper.cuh. Values travel in registers (structs of at most 16 bytes), so that a kernel's local
// arrays stay local: an array whose address is passed to a call would have every one of its accesses instrumented.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

struct uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

// Four fp32 accumulators, in two vector registers.
struct HostFloat4 { float v[4]; };
// Four 32-bit fragments, in two general registers.
struct HostWord4 { uint32_t v[4]; };

extern "C" {
// Constant for the life of a thread of a block, hence `const`: the compiler may keep the value.
__attribute__((const)) uint3 hostcuda_thread_index() noexcept;
__attribute__((const)) uint3 hostcuda_block_index() noexcept;
__attribute__((const)) uint3 hostcuda_block_dim() noexcept;
__attribute__((const)) uint3 hostcuda_grid_dim() noexcept;
__attribute__((const)) void* hostcuda_shared_memory() noexcept;

void hostcuda_sync_threads() noexcept;
void hostcuda_sync_warp() noexcept;
void hostcuda_bar_sync(int id, int threads) noexcept;
void hostcuda_bar_arrive(int id, int threads) noexcept;
void hostcuda_thread_fence() noexcept;

// `from` says which lane's value lane i gets: its index, i ^ operand, i + operand, i - operand (its own when there is
// none).
enum HostShuffle : int { kHostShuffleIndex, kHostShuffleXor, kHostShuffleDown, kHostShuffleUp };
uint64_t hostcuda_shuffle(HostShuffle kind, uint64_t value, int operand) noexcept;
uint32_t hostcuda_ballot(bool predicate) noexcept;

// `matrices` 1, 2 or 4 of 8x8 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
HostWord4 hostcuda_ldmatrix(int matrices, bool transposed, const void* row) noexcept;
HostFloat4 hostcuda_mma_m16n8k16(HostFloat4 d, HostWord4 a, uint32_t b0, uint32_t b1) noexcept;

void hostcuda_cp_async_16(void* shared, const void* global, bool valid) noexcept;
void hostcuda_cp_async_commit() noexcept;
void hostcuda_cp_async_wait(int groups) noexcept;

HostWord4 hostcuda_load_16(const void* address) noexcept;
void hostcuda_store_16(void* address, HostWord4 value) noexcept;
int hostcuda_atomic_add(int* address, int value) noexcept;
}

// CUDA's names for the index of the thread and of its block.
#define threadIdx (hostcuda_thread_index())
#define blockIdx (hostcuda_block_index())
#define blockDim (hostcuda_block_dim())
#define gridDim (hostcuda_grid_dim())

#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))

// The CUDA math functions that C++ does not have, with the same rounding or better.
__forceinline__ float rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
template <class T> __forceinline__ constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> __forceinline__ constexpr T max(T a, T b) { return a < b ? b : a; }
