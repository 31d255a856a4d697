// What each instruction of ptx.cuh and each helper of z1.cuh does, written out for HostCudaInstructionTests.cs.
#include "z1.cuh"

struct InstructionParams { const void* in; void* out; int count; int value; };
static_assert(sizeof(InstructionParams) == 24, "same layout as InstructionParams in HostCudaInstructionTests.cs");

__device__ __forceinline__ int thread_rank() {
  return int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

// out[k][thread], int: shuffles of 100 + thread by p.value, then votes on thread % 3 == 0.
Z1_KERNEL(1024, 1, shuffles_int, InstructionParams) {
  int* out = static_cast<int*>(p.out) + thread_rank();
  const int n = int(blockDim.x * blockDim.y * blockDim.z), mine = 100 + thread_rank();
  out[0] = ptx::shfl(mine, p.value);
  out[n] = ptx::shfl_xor(mine, p.value);
  out[2 * n] = ptx::shfl_down(mine, p.value);
  out[3 * n] = ptx::shfl_up(mine, p.value);
  out[4 * n] = int(ptx::ballot(thread_rank() % 3 == 0));
  out[5 * n] = ptx::any(thread_rank() == p.value);
  out[6 * n] = ptx::all(thread_rank() >= p.value);
}

// out[k][thread], double: the same shuffles of 1 / (1 + thread), through float, uint32_t and double.
Z1_KERNEL(1024, 1, shuffles_wide, InstructionParams) {
  double* out = static_cast<double*>(p.out) + threadIdx.x;
  const int n = int(blockDim.x);
  const double mine = 1.0 / (1 + threadIdx.x);
  out[0] = ptx::shfl_xor(mine, p.value);
  out[n] = double(ptx::shfl_down(float(mine), p.value));
  out[2 * n] = double(ptx::shfl_up(0xfffffff0u + threadIdx.x, p.value));
  out[3 * n] = ptx::shfl(mine, int(threadIdx.x) + 1);
}

// in: 32 x 8 rows of 16-bit elements (four 8x8 matrices); out[k][lane], uint32_t: x4, x4 transposed, x2, x2 transposed.
struct Matrices { alignas(16) uint16_t row[32][8]; };
Z1_KERNEL(32, 1, ldmatrix_all, InstructionParams) {
  auto& s = *shared_memory<Matrices>();
  const uint16_t* in = static_cast<const uint16_t*>(p.in);
  ptx::cp_async_16(&s.row[threadIdx.x][0], in + 8 * threadIdx.x);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::sync_warp();
  uint32_t a[4], b[4], c[2], d[2];
  ptx::ldmatrix_x4(a, &s.row[threadIdx.x][0]);
  ptx::ldmatrix_x4_trans(b, &s.row[threadIdx.x][0]);
  ptx::ldmatrix_x2(c, &s.row[threadIdx.x % 16][0]);
  ptx::ldmatrix_x2_trans(d, &s.row[threadIdx.x % 16][0]);
  uint32_t* out = static_cast<uint32_t*>(p.out) + threadIdx.x;
  for (int i = 0; i < 4; ++i) out[32 * i] = a[i];
  for (int i = 0; i < 4; ++i) out[32 * (4 + i)] = b[i];
  for (int i = 0; i < 2; ++i) out[32 * (8 + i)] = c[i];
  for (int i = 0; i < 2; ++i) out[32 * (10 + i)] = d[i];
}

// in: A[16][16] and then B[16][8], bf16, row-major; out: D[16][8] = p.value + A · B, fp32, by ldmatrix and mma.
struct Operands { alignas(16) bf16 a[16][16]; alignas(16) bf16 b[16][8]; };
Z1_KERNEL(32, 1, mma_product, InstructionParams) {
  auto& s = *shared_memory<Operands>();
  const bf16* a_in = static_cast<const bf16*>(p.in);
  const int lane = int(threadIdx.x);
  ptx::cp_async_16(&s.a[lane / 2][8 * (lane % 2)], a_in + 8 * lane);
  if (lane < 16) ptx::cp_async_16(&s.b[lane][0], a_in + 256 + 8 * lane);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::sync_warp();
  uint32_t a[4], b[2];
  ptx::ldmatrix_x4(a, &s.a[lane % 16][8 * (lane / 16)]);
  ptx::ldmatrix_x2_trans(b, &s.b[lane % 16][0]);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = float(p.value);
  ptx::mma_m16n8k16(d, a, b);
  float* out = static_cast<float*>(p.out);
  const int g = lane / 4, t = 2 * (lane % 4);
  for (int i = 0; i < 4; ++i) out[8 * (g + 8 * (i / 2)) + t + i % 2] = d[i];
}

// The same product with the fragments loaded element by element, as the PTX ISA draws them.
Z1_KERNEL(32, 1, mma_fragments, InstructionParams) {
  const bf16* a_in = static_cast<const bf16*>(p.in);
  const bf16* b_in = a_in + 256;
  const int g = int(threadIdx.x) / 4, t = 2 * (int(threadIdx.x) % 4);
  auto pair = [](bf16 low, bf16 high) { return low.bits | uint32_t(high.bits) << 16; };
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i % 2), column = t + 8 * (i / 2);
    a[i] = pair(a_in[16 * row + column], a_in[16 * row + column + 1]);
  }
  for (int i = 0; i < 2; ++i) b[i] = pair(b_in[8 * (t + 8 * i) + g], b_in[8 * (t + 8 * i + 1) + g]);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = float(p.value);
  ptx::mma_m16n8k16(d, a, b);
  float* out = static_cast<float*>(p.out);
  for (int i = 0; i < 4; ++i) out[8 * (g + 8 * (i / 2)) + t + i % 2] = d[i];
}

// Three stages of cp.async in flight: out[i] = in[i] for i < p.value, 0 beyond, p.count ints in tiles of 4 per thread.
struct Stages { alignas(16) int tile[3][4 * 64]; };
Z1_KERNEL(64, 1, copy_stages, InstructionParams) {
  auto& s = *shared_memory<Stages>();
  const int* in = static_cast<const int*>(p.in);
  int* out = static_cast<int*>(p.out);
  const int tiles = p.count / 256, mine = 4 * int(threadIdx.x);
  auto load = [&](int tile) {
    if (tile < tiles) {
      const int i = 256 * tile + mine;
      ptx::cp_async_16_zfill(&s.tile[tile % 3][mine], in + i, i < p.value);
    }
    ptx::cp_async_commit();
  };
  load(0);
  load(1);
  for (int tile = 0; tile < tiles; ++tile) {
    ptx::cp_async_wait<1>();
    ptx::sync_threads();
    load(tile + 2);
    // The neighbour's part, so that the barrier matters.
    const int from = (mine + 4) % 256;
    for (int i = 0; i < 4; ++i) out[256 * tile + from + i] = s.tile[tile % 3][from + i];
  }
}

// out[0..5][thread], double: sums and maxima over the block of in[thread] (float), called back to back on one scratch.
struct Scratch { float f[32]; double d[32]; };
Z1_KERNEL(1024, 1, block_reductions, InstructionParams) {
  auto& s = *shared_memory<Scratch>();
  const float mine = static_cast<const float*>(p.in)[threadIdx.x];
  double* out = static_cast<double*>(p.out) + threadIdx.x;
  const int n = int(blockDim.x);
  out[0] = double(block_sum(mine, s.f));
  out[n] = double(block_max(mine, s.f));
  out[2 * n] = block_sum(double(mine), s.d);
  out[3 * n] = block_max(-double(mine), s.d);
  out[4 * n] = double(warp_sum(mine));
  out[5 * n] = warp_max(double(mine));
}

// Warps in pairs: the even one fills a buffer, the odd one doubles it; each pair has its own named barrier, and the
// second half of the exchange uses bar_arrive, so that the consumer does not wait.
struct Pairs { int word[16][32]; };
Z1_KERNEL(1024, 1, named_barriers, InstructionParams) {
  auto& s = *shared_memory<Pairs>();
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, pair = warp / 2;
  const int full = pair, empty = pair + 4;
  int* out = static_cast<int*>(p.out);
  for (int round = 0; round < p.count; ++round) {
    if (warp % 2 == 0) {
      if (round > 0) ptx::bar_sync(empty, 64);
      s.word[pair][lane] = 1000 * round + 32 * pair + lane;
      ptx::bar_arrive(full, 64);
    } else {
      ptx::bar_sync(full, 64);
      out[32 * (round * int(blockDim.x) / 64 + pair) + lane] = 2 * s.word[pair][31 - lane];
      if (round + 1 < p.count) ptx::bar_arrive(empty, 64);
    }
  }
}

// out[linear thread of the grid] = packed block and thread indices.
Z1_KERNEL(1024, 1, indices, InstructionParams) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  static_cast<uint32_t*>(p.out)[block * threads + unsigned(thread_rank())] =
      blockIdx.x | blockIdx.y << 4 | blockIdx.z << 8 | threadIdx.x << 12 | threadIdx.y << 20 | threadIdx.z << 26;
}

// in: 8 bf16 per thread; out: the same eight, through Vec8; then eight floats through Vec4 and one hash32 each.
Z1_KERNEL(1024, 1, vectors, InstructionParams) {
  const bf16* in = static_cast<const bf16*>(p.in);
  const int t = int(threadIdx.x), n = int(blockDim.x);
  Vec8 v = t % 2 == 0 ? Vec8::load(in + 8 * t) : Vec8::load_nc(in + 8 * t);
  for (int i = 0; i < 8; ++i) v[i] *= 1.00390625f;  // 1 + 2^-8: exact products that do not fit, and ties
  v.store(static_cast<bf16*>(p.out) + 8 * t);
  float* floats = reinterpret_cast<float*>(static_cast<bf16*>(p.out) + 8 * n) + 8 * t;
  Vec4{{v[0], v[1], v[2], v[3]}}.store(floats);
  Vec4{{v[4], v[5], v[6], v[7]}}.store(floats + 4);
  uint32_t* hashes = reinterpret_cast<uint32_t*>(static_cast<bf16*>(p.out) + 24 * n);
  hashes[t] = hash32(uint64_t(p.value), uint64_t(t));
}

// The last block adds up what all blocks wrote; out[gridDim.x] counts, out[gridDim.x + 1] is the sum.
struct Last { int rank; };
Z1_KERNEL(1024, 1, last_block_sum, InstructionParams) {
  auto& s = *shared_memory<Last>();
  int* out = static_cast<int*>(p.out);
  const int blocks = int(gridDim.x);
  if (threadIdx.x == 0) {
    out[blockIdx.x] = int(blockIdx.x * blockIdx.x);
    ptx::thread_fence();
    s.rank = ptx::atomic_add(&out[blocks], 1);
  }
  ptx::sync_threads();
  if (s.rank != blocks - 1 || threadIdx.x != 0) return;
  int sum = 0;
  for (int i = 0; i < blocks; ++i) sum += out[i];
  out[blocks + 1] = sum;
}
