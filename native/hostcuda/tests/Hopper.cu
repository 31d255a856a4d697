// Two products of one warpgroup by TMA and wgmma, and one planted misuse for each fault that hostcuda's Hopper twins report. With
// p.planted 0 the kernel is correct, and must pass.
#include "hopper.cuh"

enum Planted : int {
  kNone, kWrongBytes, kNoWait, kNoFence, kChangedA, kCopyUnderMultiply, kCopyUnderRead, kExtraArrival, kWrongParity, kNoInit,
  kMisaligned, kDivergent, kNoMultiplyWait, kNoMap
};

struct HopperParams {
  hopper::TensorMap map;   // [R, 64] in boxes of 64 rows
  float* d;                // [64, 64] = A · Bᵀ, A rows 0 to 63 and B rows 64 to 127 of the matrix, zeros from R on
  float* e;                // [64, 64] = bf16(d) · B
  int planted;
};
static_assert(sizeof(HopperParams) == 192, "same layout as HopperParams in HostCudaHopperTests.cs");

struct HopperShared {
  alignas(1024) bf16 a[64 * 64], b[64 * 64];
  hopper::Barrier full, other;
};

__device__ __forceinline__ void store(float* to, const float (&x)[32]) {
  const int row = 16 * int(threadIdx.x / kWarp) + int(threadIdx.x % kWarp / 4);
  for (int i = 0; i < 32; i++) to[(row + 8 * (i / 2 % 2)) * 64 + 8 * (i / 4) + 2 * int(threadIdx.x % 4) + i % 2] = x[i];
}

Z1_KERNEL(128, 1, hopper_products, HopperParams) {
  auto& s = *shared_memory<HopperShared>();
  if (threadIdx.x == 0) {
    if (p.planted != kNoInit) hopper::barrier_init(s.full, 1);
    hopper::barrier_init(s.other, 128);
    hopper::barrier_init_fence();
  }
  ptx::sync_threads();
  if (threadIdx.x == 0) {
    hopper::arrive_expect(s.full, sizeof(s.a) + sizeof(s.b) + (p.planted == kWrongBytes ? 16 : 0));
    hopper::load_3d(s.a + (p.planted == kMisaligned ? 64 : 0), p.map, s.full, 0, 0, 0);
    if (p.planted == kNoMap) hopper::load_3d(s.b, *reinterpret_cast<const hopper::TensorMap*>(&s), s.full, 0, 64, 0);
    hopper::load_3d(s.b, p.map, s.full, 0, 64, 0);
    if (p.planted == kExtraArrival) hopper::arrive(s.full);
  }
  if (p.planted != kNoWait) hopper::wait(s.full, p.planted == kWrongParity ? 2 : 0);

  const int skew = p.planted == kDivergent && threadIdx.x == 9 ? 32 : 0;
  const uint64_t a = hopper::descriptor(hopper::shared_address(s.a), 0, hopper::kAtomBytes);
  const uint64_t b = hopper::descriptor(hopper::shared_address(s.b), 0, hopper::kAtomBytes);
  float d[32], e[32];
  for (int i = 0; i < 32; i++) d[i] = e[i] = 0.f;
  hopper::hold(d);
  if (p.planted != kNoFence) hopper::wgmma_fence();
  for (int k = 0; k < 4; k++) hopper::wgmma(d, hopper::advance(a, 32 * k), hopper::advance(b, 32 * k + skew), k > 0);
  hopper::wgmma_commit();
  if (p.planted == kCopyUnderMultiply && threadIdx.x == 0) hopper::load_3d(s.b, p.map, s.other, 0, 64, 0);
  if (p.planted == kNoMultiplyWait) store(p.d, d);
  hopper::wgmma_wait<0>();
  hopper::hold(d);
  if (p.planted != kNoMultiplyWait) store(p.d, d);
  if (p.planted == kCopyUnderRead && threadIdx.x == 127) hopper::load_3d(s.b, p.map, s.other, 0, 64, 0);

  uint32_t rounded[4][4];
  for (int i = 0; i < 16; i++) rounded[i / 4][i % 4] = ptx::pack_bf16(d[2 * i], d[2 * i + 1]);
  hopper::hold(rounded);
  hopper::hold(e);
  hopper::wgmma_fence();
  for (int k = 0; k < 4; k++) hopper::wgmma_rows(e, rounded[k], hopper::advance(b, 16 * k * hopper::kRowBytes));
  hopper::wgmma_commit();
  if (p.planted == kChangedA) rounded[2][1] ^= 1u;
  hopper::wgmma_wait<0>();
  hopper::hold(e);
  store(p.e, e);
  hopper::arrive(s.other);
}
