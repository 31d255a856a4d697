// Every PTX instruction that a kernel uses, each as one small function with the instruction's semantics (PTX ISA 8.4,
// by section name). On a GPU it is the instruction; with Z1_HOSTCUDA it is a call into libhostcuda.so, which runs each
// thread of a block as a fiber and checks the use. Warp operations need all 32 lanes of the warp (of the last warp:
// those that exist); of them only sync_warp orders the memory accesses of the lanes.
#ifndef Z1_BASE
#include "z1.cuh"  // the types used here; it includes this file after them
#elif !defined(Z1_PTX)
#define Z1_PTX

namespace ptx {

#ifdef Z1_HOSTCUDA

// Barrier 0 over all threads of the block; orders their memory accesses.
__forceinline__ void sync_threads() { hostcuda_sync_threads(); }
// Barrier over the lanes of a warp; orders their memory accesses.
__forceinline__ void sync_warp() { hostcuda_sync_warp(); }
// Named barrier `id` (0 to 15) over `threads` threads (a multiple of 32).
__forceinline__ void bar_sync(int id, int threads) { hostcuda_bar_sync(id, threads); }
// Arrives at named barrier `id` without waiting for the others.
__forceinline__ void bar_arrive(int id, int threads) { hostcuda_bar_arrive(id, threads); }
// Orders this thread's accesses before and after it for the whole device (fence.acq_rel.gpu).
__forceinline__ void thread_fence() { hostcuda_thread_fence(); }

namespace host {
// The bits of a value of at most 8 bytes, and back.
template <class T> __forceinline__ uint64_t to_bits(T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 4) return __builtin_bit_cast(uint32_t, value);
  else return __builtin_bit_cast(uint64_t, value);
}
template <class T> __forceinline__ T from_bits(uint64_t bits) {
  if constexpr (sizeof(T) == 4) return __builtin_bit_cast(T, uint32_t(bits));
  else return __builtin_bit_cast(T, bits);
}
}  // namespace host

// The value of lane `lane`; of lane ^ mask; of lane + delta; of lane - delta (its own value where there is no such
// lane).
template <class T> __forceinline__ T shfl(T value, int lane) {
  return host::from_bits<T>(hostcuda_shuffle(kHostShuffleIndex, host::to_bits(value), lane));
}
template <class T> __forceinline__ T shfl_xor(T value, int mask) {
  return host::from_bits<T>(hostcuda_shuffle(kHostShuffleXor, host::to_bits(value), mask));
}
template <class T> __forceinline__ T shfl_down(T value, int delta) {
  return host::from_bits<T>(hostcuda_shuffle(kHostShuffleDown, host::to_bits(value), delta));
}
template <class T> __forceinline__ T shfl_up(T value, int delta) {
  return host::from_bits<T>(hostcuda_shuffle(kHostShuffleUp, host::to_bits(value), delta));
}
// Bit i is lane i's predicate.
__forceinline__ uint32_t ballot(bool predicate) { return hostcuda_ballot(predicate); }
__forceinline__ bool any(bool predicate) { return hostcuda_ballot(predicate) != 0; }
__forceinline__ bool all(bool predicate) { return hostcuda_ballot(!predicate) == 0; }

// ldmatrix: 8x8 matrices of 16-bit elements from shared memory. Lane i gives the address of row i % 8 of matrix i / 8
// (16 bytes, 16-byte aligned); r[m] of lane i is row i / 4, columns 2 (i % 4) and + 1 of matrix m (of its transpose for
// _trans).
__forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  const HostWord4 w = hostcuda_ldmatrix(4, false, shared_row);
  for (int i = 0; i < 4; ++i) r[i] = w.v[i];
}
__forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  const HostWord4 w = hostcuda_ldmatrix(4, true, shared_row);
  for (int i = 0; i < 4; ++i) r[i] = w.v[i];
}
__forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  const HostWord4 w = hostcuda_ldmatrix(2, false, shared_row);
  for (int i = 0; i < 2; ++i) r[i] = w.v[i];
}
__forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  const HostWord4 w = hostcuda_ldmatrix(2, true, shared_row);
  for (int i = 0; i < 2; ++i) r[i] = w.v[i];
}

// mma.m16n8k16, bf16 inputs, fp32 accumulators: D[16, 8] += A[16, 16] (row) · B[16, 8] (col). With g = lane / 4, t =
// lane % 4: a[0] = A[g, 2t..], a[1] = A[g + 8, 2t..], a[2] = A[g, 2t + 8..], a[3] = A[g + 8, 2t + 8..] (two columns
// each, low half first); b[0] = B[2t.., g], b[1] = B[2t + 8.., g] (two rows each); d[0..1] = D[g, 2t..], d[2..3] = D[g
// + 8, 2t..].
__forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const HostFloat4 r = hostcuda_mma_m16n8k16({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, b[0], b[1]);
  for (int i = 0; i < 4; ++i) d[i] = r.v[i];
}

// Copies 16 bytes from global to shared memory; the bytes are there after the wait for the group of this copy, for this
// thread.
__forceinline__ void cp_async_16(void* shared, const void* global) { hostcuda_cp_async_16(shared, global, true); }
// As cp_async_16; writes zeros, and does not read `global`, when not valid.
__forceinline__ void cp_async_16_zfill(void* shared, const void* global, bool valid) {
  hostcuda_cp_async_16(shared, global, valid);
}
// Closes the group of the copies issued since the last commit.
__forceinline__ void cp_async_commit() { hostcuda_cp_async_commit(); }
// Waits until at most the N newest groups of this thread are under way.
template <int N> __forceinline__ void cp_async_wait() { hostcuda_cp_async_wait(N); }

// Two bf16, `low` in the lower half, each rounded to nearest even.
__forceinline__ uint32_t pack_bf16(float low, float high) {
  return to_bf16(low).bits | uint32_t(to_bf16(high).bits) << 16;
}

// 16 bytes at a 16-byte aligned address; _nc: global memory that no thread writes during the launch.
__forceinline__ uint4 load_16(const void* address) { return __builtin_bit_cast(uint4, hostcuda_load_16(address)); }
__forceinline__ uint4 load_global_nc_16(const void* address) { return load_16(address); }
__forceinline__ void store_16(void* address, uint4 value) {
  hostcuda_store_16(address, __builtin_bit_cast(HostWord4, value));
}

// Adds and returns what was there. Integers only: sums of floats keep a fixed order.
__forceinline__ int atomic_add(int* address, int value) { return hostcuda_atomic_add(address, value); }

#else  // NVRTC

constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ __forceinline__ uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void sync_threads() { __syncthreads(); }
__device__ __forceinline__ void sync_warp() { __syncwarp(); }
__device__ __forceinline__ void bar_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void bar_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void thread_fence() { __threadfence(); }

template <class T> __device__ __forceinline__ T shfl(T value, int lane) { return __shfl_sync(kAllLanes, value, lane); }
template <class T> __device__ __forceinline__ T shfl_xor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <class T> __device__ __forceinline__ T shfl_down(T value, int delta) {
  return __shfl_down_sync(kAllLanes, value, delta);
}
template <class T> __device__ __forceinline__ T shfl_up(T value, int delta) {
  return __shfl_up_sync(kAllLanes, value, delta);
}
__device__ __forceinline__ uint32_t ballot(bool predicate) { return __ballot_sync(kAllLanes, predicate); }
__device__ __forceinline__ bool any(bool predicate) { return __any_sync(kAllLanes, predicate); }
__device__ __forceinline__ bool all(bool predicate) { return __all_sync(kAllLanes, predicate); }

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(shared_row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(shared_row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(shared_row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(shared_row)) : "memory");
}

__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ __forceinline__ void cp_async_16_zfill(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ uint4 load_16(const void* address) { return *static_cast<const uint4*>(address); }
__device__ __forceinline__ uint4 load_global_nc_16(const void* address) {
  uint4 v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}
__device__ __forceinline__ void store_16(void* address, uint4 value) { *static_cast<uint4*>(address) = value; }

__device__ __forceinline__ int atomic_add(int* address, int value) { return atomicAdd(address, value); }

#endif

}  // namespace ptx

#endif
