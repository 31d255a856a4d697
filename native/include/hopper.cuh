// Hopper's own instructions (sm_90a): wgmma, TMA tensor copies, mbarriers, setmaxnreg. Every one is a function; under hostcuda the
// same function is a call into native/hostcuda/hopper.cpp, which runs it as the PTX ISA describes it (sections "Asynchronous
// Warpgroup Level Matrix Multiply-Accumulate", "Tensors", "mbarrier"):
//   - a wgmma reads its operands and writes its accumulators when a wait covers it, never before;
//   - a tensor copy lands when somebody waits for its mbarrier, never before.
// So a kernel that reads too early reads stale values on the CPU as well.
#pragma once
#include "z1.cuh"

namespace hopper {

// Opaque 128 bytes of cuTensorMapEncodeTiled; a member of a kernel's params struct, never copied on the device.
struct alignas(64) TensorMap { uint64_t opaque[16]; };
static_assert(sizeof(TensorMap) == 128, "same size as CUtensorMap and CudaTensorMap");

// A 64-bit mbarrier in shared memory.
struct alignas(8) Barrier { uint64_t opaque; };

constexpr int kWarpgroup = 128;      // threads; a warpgroup starts at a multiple of it
constexpr int kSwizzleBytes = 128;   // rows of every tile here: 64 bf16, the widest that the 128-byte swizzle takes
constexpr int kSlab = kSwizzleBytes / 2;   // columns per row of a slab
constexpr int kAtomBytes = 8 * kSwizzleBytes;   // the swizzle repeats every 8 rows

// Shared-memory matrix descriptor (PTX ISA, "Matrix descriptor"), 128-byte swizzle. Bits 0-13 start address, 16-29 leading byte
// offset, 32-45 stride byte offset, each in units of 16 bytes; bits 62-63 swizzle mode, 1 = 128 bytes.
//   K-major operand (rows of 64 elements along the summed axis): stride = the next 8 rows; leading is not used.
//   Transposed operand (rows of 64 elements along M or N): stride = the next 8 of the summed axis, leading = the next 64 of M or N.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, int leading_bytes, int stride_bytes) {
  return uint64_t((address & 0x3FFFF) >> 4) | uint64_t((leading_bytes & 0x3FFFF) >> 4) << 16 |
         uint64_t((stride_bytes & 0x3FFFF) >> 4) << 32 | uint64_t(1) << 62;
}

// The same matrix, a number of bytes further on. Within a swizzled row this moves along the summed axis in steps of 32 bytes.
__device__ __forceinline__ uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + uint64_t(bytes >> 4); }

#ifdef Z1_HOSTCUDA

extern "C" {
uint32_t hostcuda_hopper_shared_address(const void* shared);
void hostcuda_hopper_wgmma(float* d, int n, const uint32_t* a, uint64_t a_descriptor, uint64_t b_descriptor, int accumulate,
                           int transpose_b);
void hostcuda_hopper_wgmma_fence();
void hostcuda_hopper_wgmma_commit();
void hostcuda_hopper_wgmma_wait(int pending);
void hostcuda_hopper_barrier_init(void* barrier, uint32_t arrivals);
void hostcuda_hopper_barrier_arrive(void* barrier, uint32_t expected_bytes);
void hostcuda_hopper_barrier_wait(void* barrier, uint32_t parity);
void hostcuda_hopper_load_3d(void* shared, const void* map, void* barrier, int x, int y, int z);
void hostcuda_hopper_registers(int count);
}

__device__ __forceinline__ uint32_t shared_address(const void* shared) { return hostcuda_hopper_shared_address(shared); }
template <int N> __device__ __forceinline__ void hold(float (&)[N]) {}
template <int N> __device__ __forceinline__ void hold(uint32_t (&)[N][4]) {}
__device__ __forceinline__ void wgmma_fence() { hostcuda_hopper_wgmma_fence(); }
__device__ __forceinline__ void wgmma_commit() { hostcuda_hopper_wgmma_commit(); }
template <int kPending> __device__ __forceinline__ void wgmma_wait() { hostcuda_hopper_wgmma_wait(kPending); }
template <int N> __device__ __forceinline__ void wgmma(float (&d)[N], uint64_t a, uint64_t b, bool accumulate) {
  hostcuda_hopper_wgmma(d, 2 * N, nullptr, a, b, accumulate, 0);
}
template <int N> __device__ __forceinline__ void wgmma_transposed(float (&d)[N], const uint32_t (&a)[4], uint64_t b) {
  hostcuda_hopper_wgmma(d, 2 * N, a, 0, b, 1, 1);
}
__device__ __forceinline__ void barrier_init(Barrier& barrier, int arrivals) { hostcuda_hopper_barrier_init(&barrier, arrivals); }
__device__ __forceinline__ void barrier_init_fence() {}
__device__ __forceinline__ void arrive(Barrier& barrier) { hostcuda_hopper_barrier_arrive(&barrier, 0); }
__device__ __forceinline__ void arrive_expect(Barrier& barrier, int bytes) { hostcuda_hopper_barrier_arrive(&barrier, bytes); }
__device__ __forceinline__ void wait(Barrier& barrier, int parity) { hostcuda_hopper_barrier_wait(&barrier, parity); }
__device__ __forceinline__ void prefetch(const TensorMap&) {}
__device__ __forceinline__ void load_3d(void* shared, const TensorMap& map, Barrier& barrier, int x, int y, int z) {
  hostcuda_hopper_load_3d(shared, &map, &barrier, x, y, z);
}
template <int kCount> __device__ __forceinline__ void registers_decrease() { hostcuda_hopper_registers(kCount); }
template <int kCount> __device__ __forceinline__ void registers_increase() { hostcuda_hopper_registers(kCount); }

#else

// Address in the shared window, as descriptors and mbarriers take it.
__device__ __forceinline__ uint32_t shared_address(const void* shared) { return uint32_t(__cvta_generic_to_shared(shared)); }

// Nothing is emitted. The compiler may not move a read or a write of these registers across this point: it knows nothing of the
// time between a wgmma and its wait.
template <int N> __device__ __forceinline__ void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> __device__ __forceinline__ void hold(uint32_t (&a)[N][4]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}

// Orders earlier register and shared-memory accesses of the warpgroup before the wgmmas that follow.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Returns when at most kPending of the youngest committed groups are unfinished.
template <int kPending> __device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory"); }

// Operand lists of the wgmma statements below; an asm statement takes no array.
#define Z1_F8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define Z1_F32(d, i) Z1_F8(d, i), Z1_F8(d, i + 8), Z1_F8(d, i + 16), Z1_F8(d, i + 24)
#define Z1_N32                                                                                                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, " \
  "%25, %26, %27, %28, %29, %30, %31"
#define Z1_N64                                                                                                            \
  Z1_N32                                                                                                                  \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, " \
  "%55, %56, %57, %58, %59, %60, %61, %62, %63"
#define Z1_N96                                                                                                            \
  Z1_N64                                                                                                                  \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, " \
  "%87, %88, %89, %90, %91, %92, %93, %94, %95"

// d (+)= A · Bᵀ, m64 n(2N) k16, bf16 with fp32 sums: A [64][16] and B [2N][16] in shared memory, both K-major.
// Thread t of the warpgroup holds, of row 16 (t / 32) + (t mod 32) / 4 + 8 h and column 8 j + 2 (t mod 4) + c, element d[4 j + 2 h + c].
__device__ __forceinline__ void wgmma(float (&d)[32], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" Z1_N32 "}, %32, %33, p, 1, 1, 0, 0;\n}\n"
      : Z1_F32(d, 0)
      : "l"(a), "l"(b), "r"(int(accumulate)));
}
__device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" Z1_N64 "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
      : Z1_F32(d, 0), Z1_F32(d, 32)
      : "l"(a), "l"(b), "r"(int(accumulate)));
}
__device__ __forceinline__ void wgmma(float (&d)[96], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" Z1_N96 "}, %96, %97, p, 1, 1, 0, 0;\n}\n"
      : Z1_F32(d, 0), Z1_F32(d, 32), Z1_F32(d, 64)
      : "l"(a), "l"(b), "r"(int(accumulate)));
}

// d += A · B, m64 n(2N) k16: A [64][16] in registers, B [16][2N] in shared memory with rows along N (the transposed layout).
// a[0]: row (t mod 32) / 4, columns 2 (t mod 4) + {0, 1}; a[1]: row + 8; a[2], a[3]: the same with columns + 8. The accumulators of
// columns 16 k .. 16 k + 15, rounded and packed in pairs, are in this order.
__device__ __forceinline__ void wgmma_transposed(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" Z1_N32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
      : Z1_F32(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void wgmma_transposed(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" Z1_N64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
      : Z1_F32(d, 0), Z1_F32(d, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef Z1_F8
#undef Z1_F32
#undef Z1_N32
#undef Z1_N64
#undef Z1_N96

// One thread initialises; barrier_init_fence and a block barrier before anybody else uses it.
__device__ __forceinline__ void barrier_init(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// One arrival, and the phase now also waits for this many bytes of tensor copies.
__device__ __forceinline__ void arrive_expect(Barrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
}

// Returns when the phase of this parity is complete: 0 for the first, 1 for the second, …; on a fresh barrier parity 1 is complete.
__device__ __forceinline__ void wait(Barrier& barrier, int parity) {
  const uint32_t address = shared_address(&barrier);
  int done = 0;
  while (!done) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  }
}

// The map to the constant cache before the first copy needs it.
__device__ __forceinline__ void prefetch(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

// One thread starts a tensor copy of the map's box at (x, y, z), x innermost, in elements; elements outside the tensor arrive as
// zeros. It completes the box's bytes on the barrier.
__device__ __forceinline__ void load_3d(void* shared, const TensorMap& map, Barrier& barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
          shared_address(shared)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// Registers per thread of the executing warpgroup: a multiple of 8, 24 .. 256. All its warps run it.
template <int kCount> __device__ __forceinline__ void registers_decrease() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount)); }
template <int kCount> __device__ __forceinline__ void registers_increase() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount)); }

#endif

}  // namespace hopper
