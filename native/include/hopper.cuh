// Hopper's own instructions (sm_90a): wgmma, tensor copies by TMA, mbarriers, setmaxnreg. Each is a function; under
// hostcuda the same function is a call into native/hostcuda/hopper.cpp, which runs it as the PTX ISA describes it
// (sections "Asynchronous Warpgroup Level Matrix Instructions", "Tensors", "mbarrier"), as late as the ISA allows:
//   - a wgmma reads its operands and changes its accumulators when a wait covers it, not before;
//   - a tensor copy lands when somebody waits for its mbarrier, not before.
// A kernel that reads too early reads stale values, or faults, on the CPU as well.
#pragma once
#include "z1.cuh"

namespace hopper {

// The opaque 128 bytes of cuTensorMapEncodeTiled. A member of a kernel's params struct; never copied on the device.
struct alignas(64) TensorMap { uint64_t opaque[16]; };
static_assert(sizeof(TensorMap) == 128, "same size as CUtensorMap and CudaTensorMap");

// A 64-bit mbarrier in shared memory.
struct alignas(8) Barrier { uint64_t opaque; };

constexpr int kWarpgroup = 128;     // threads; a warpgroup starts at a multiple of it
constexpr int kSlab = 64;           // bf16 in a row of 128 bytes, the widest that the swizzle takes
constexpr int kRowBytes = 2 * kSlab;
constexpr int kAtomBytes = 8 * kRowBytes;   // the swizzle repeats every 8 rows

// A shared-memory matrix descriptor (PTX ISA, "Matrix Descriptor Format") with the 128-byte swizzle. Bits 0-13 start
// address, 16-29 leading byte offset, 32-45 stride byte offset, each in units of 16 bytes; bits 62-63 swizzle mode, 1 =
// 128 bytes.
//   K-major (rows of 64 elements along the summed axis): stride leads to the next 8 rows; leading is not used.
//   MN-major (rows of 64 elements along M or N): stride leads to the next 8 of the summed axis, leading to the next 64
//   of M or N.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, int leading_bytes, int stride_bytes) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t((leading_bytes & 0x3ffff) >> 4) << 16 |
         uint64_t((stride_bytes & 0x3ffff) >> 4) << 32 | uint64_t(1) << 62;
}

// The matrix a number of bytes further on. 32 bytes along a row of 128 are 16 elements of the summed axis: the hardware
// swizzles the address it computes, so the start may lie inside a row.
__device__ __forceinline__ uint64_t advance(uint64_t descriptor, int bytes) {
  return descriptor + uint64_t(bytes >> 4);
}

#ifdef Z1_HOSTCUDA

extern "C" {
uint32_t hostcuda_hopper_shared_address(const void* shared) noexcept;
void hostcuda_hopper_wgmma(float* d, int n, const uint32_t* a, uint64_t a_descriptor, uint64_t b_descriptor,
                           int accumulate, int transpose_b) noexcept;
void hostcuda_hopper_wgmma_fence() noexcept;
void hostcuda_hopper_wgmma_commit() noexcept;
void hostcuda_hopper_wgmma_wait(int pending) noexcept;
void hostcuda_hopper_barrier_init(void* barrier, uint32_t arrivals) noexcept;
void hostcuda_hopper_barrier_arrive(void* barrier, uint32_t expected_bytes) noexcept;
void hostcuda_hopper_barrier_wait(void* barrier, uint32_t parity) noexcept;
void hostcuda_hopper_load_3d(void* shared, const void* map, void* barrier, int x, int y, int z) noexcept;
void hostcuda_hopper_registers(int count) noexcept;
}

__forceinline__ uint32_t shared_address(const void* shared) { return hostcuda_hopper_shared_address(shared); }
template <int N> __forceinline__ void hold(float (&)[N]) {}
template <int N> __forceinline__ void hold(uint32_t (&)[N][4]) {}
__forceinline__ void wgmma_fence() { hostcuda_hopper_wgmma_fence(); }
__forceinline__ void wgmma_commit() { hostcuda_hopper_wgmma_commit(); }
template <int kPending> __forceinline__ void wgmma_wait() { hostcuda_hopper_wgmma_wait(kPending); }
template <int N> __forceinline__ void wgmma(float (&d)[N], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N == 32 || N == 64 || N == 96, "the shapes that the device has below");
  hostcuda_hopper_wgmma(d, 2 * N, nullptr, a, b, accumulate, 0);
}
template <int N> __forceinline__ void wgmma_rows(float (&d)[N], const uint32_t (&a)[4], uint64_t b) {
  static_assert(N == 32 || N == 64, "the shapes that the device has below");
  hostcuda_hopper_wgmma(d, 2 * N, a, 0, b, 1, 1);
}
__forceinline__ void barrier_init(Barrier& barrier, int arrivals) { hostcuda_hopper_barrier_init(&barrier, arrivals); }
__forceinline__ void barrier_init_fence() {}
__forceinline__ void arrive(Barrier& barrier) { hostcuda_hopper_barrier_arrive(&barrier, 0); }
__forceinline__ void arrive_expect(Barrier& barrier, int bytes) { hostcuda_hopper_barrier_arrive(&barrier, bytes); }
__forceinline__ void wait(Barrier& barrier, int parity) { hostcuda_hopper_barrier_wait(&barrier, parity); }
__forceinline__ void prefetch(const TensorMap&) {}
__forceinline__ void load_3d(void* shared, const TensorMap& map, Barrier& barrier, int x, int y, int z) {
  hostcuda_hopper_load_3d(shared, &map, &barrier, x, y, z);
}
template <int kCount> __forceinline__ void registers_decrease() { hostcuda_hopper_registers(kCount); }
template <int kCount> __forceinline__ void registers_increase() { hostcuda_hopper_registers(kCount); }

#else  // NVRTC

// Address in the shared window, as descriptors and mbarriers take it.
__device__ __forceinline__ uint32_t shared_address(const void* shared) { return ptx::shared_address(shared); }

// Emits nothing. The compiler, which knows nothing of the time between a wgmma and its wait, may not move an access of
// these registers across this point.
template <int N> __device__ __forceinline__ void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> __device__ __forceinline__ void hold(uint32_t (&a)[N][4]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}

// Orders earlier accesses of registers and shared memory by the warpgroup before the wgmmas that follow.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Returns when at most kPending of the newest committed groups are unfinished.
template <int kPending> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Operand lists of the statements below: an asm statement takes no array.
#define Z1_F8(d, i)                                                                                                 \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),     \
      "+f"(d[i + 7])
#define Z1_F32(d, i) Z1_F8(d, i), Z1_F8(d, i + 8), Z1_F8(d, i + 16), Z1_F8(d, i + 24)
#define Z1_N32                                                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "                 \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define Z1_N64                                                                                                      \
  Z1_N32 ", "                                                                                                       \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, "                 \
  "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define Z1_N96                                                                                                      \
  Z1_N64 ", "                                                                                                       \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, "                 \
  "%83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

// d (+)= A · Bᵀ, m64 n(2N) k16, bf16 with fp32 sums: A [64][16] and B [2N][16] in shared memory, both K-major. Thread t
// of the warpgroup holds in d[4j + 2h + c] row 16 (t / 32) + t % 32 / 4 + 8h, column 8j + 2 (t % 4) + c.
__device__ __forceinline__ void wgmma(float (&d)[32], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" Z1_N32 "}, %32, %33, p, 1, 1, 0, 0;\n}"
               : Z1_F32(d, 0) : "l"(a), "l"(b), "r"(int(accumulate)));
}
__device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" Z1_N64 "}, %64, %65, p, 1, 1, 0, 0;\n}"
               : Z1_F32(d, 0), Z1_F32(d, 32) : "l"(a), "l"(b), "r"(int(accumulate)));
}
__device__ __forceinline__ void wgmma(float (&d)[96], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" Z1_N96 "}, %96, %97, p, 1, 1, 0, 0;\n}"
               : Z1_F32(d, 0), Z1_F32(d, 32), Z1_F32(d, 64) : "l"(a), "l"(b), "r"(int(accumulate)));
}

// d += A · B, m64 n(2N) k16: A [64][16] in registers, B [16][2N] in shared memory, MN-major. a[0]: row t % 32 / 4 of
// the warp's 16, columns 2 (t % 4) and + 1; a[1]: row + 8; a[2], a[3]: the same, columns + 8. The accumulators of 16
// neighbouring columns, packed in pairs, are in this order. `a` must not change before the wait.
__device__ __forceinline__ void wgmma_rows(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" Z1_N32 "}, {%32, %33, %34, %35}, %36, "
               "p, 1, 1, 1;\n}"
               : Z1_F32(d, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void wgmma_rows(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" Z1_N64 "}, {%64, %65, %66, %67}, %68, "
               "p, 1, 1, 1;\n}"
               : Z1_F32(d, 0), Z1_F32(d, 32) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef Z1_F8
#undef Z1_F32
#undef Z1_N32
#undef Z1_N64
#undef Z1_N96

// By one thread; then barrier_init_fence by it and a barrier of the block before anybody uses it.
__device__ __forceinline__ void barrier_init(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
// One arrival; the phase then also waits for this many bytes of tensor copies.
__device__ __forceinline__ void arrive_expect(Barrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}
// Returns when the phase of this parity is complete: 0 for the first, 1 for the second, and so on in turn. On a fresh
// barrier parity 1 counts as complete.
__device__ __forceinline__ void wait(Barrier& barrier, int parity) {
  const uint32_t address = shared_address(&barrier);
  int done = 0;
  while (!done) {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
                 : "=r"(done) : "r"(address), "r"(parity) : "memory");
  }
}

// Brings the map into the cache that the copy engine reads it from.
__device__ __forceinline__ void prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
// One thread starts the copy of the map's box at (x, y, z), x innermost, in elements. Elements outside the tensor
// arrive as zeros; the bytes of the whole box complete on the barrier.
__device__ __forceinline__ void load_3d(void* shared, const TensorMap& map, Barrier& barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5}], [%2];"
               ::"r"(shared_address(shared)), "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z)
               : "memory");
}

// Registers per thread of the executing warpgroup, a multiple of 8 from 24 to 256. All its warps run it.
template <int kCount> __device__ __forceinline__ void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount> __device__ __forceinline__ void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

#endif

}  // namespace hopper
