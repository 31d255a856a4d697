// index[r] = the column of the largest element of row r of x [R, V], the lowest of equals. NaN never wins; a row
// without a number above −∞ gives 0.
// Parallel: one block per row; a thread walks its columns upwards, then the warps, then the block. Floor: bytes, 2 · V
// read per row. Comparisons only, so the order does not matter.
#include "z1.cuh"

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;

struct ArgmaxParams {
  const bf16* x;
  int* index;
  int columns;
};
static_assert(sizeof(ArgmaxParams) == 24, "Argmax.Params in Argmax.Cuda.cs");

struct Shared {
  float values[kWarps];
  int columns[kWarps];
};

struct Best {
  float value;
  int column;

  // The other wins when it is larger, or equal and further left.
  __device__ __forceinline__ void meet(Best other) {
    if (other.value > value || (other.value == value && other.column < column)) *this = other;
  }
};

__device__ __forceinline__ Best best_of_warp(Best best) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    best.meet({ptx::shfl_xor(best.value, mask), ptx::shfl_xor(best.column, mask)});
  }
  return best;
}

Z1_KERNEL(kThreads, 2, argmax_forward, ArgmaxParams) {
  Shared& s = *shared_memory<Shared>();
  const bf16* row = p.x + int64_t(blockIdx.x) * p.columns;
  Best best{-kInfinity, 0};
  if (p.columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      const Vec8 v = Vec8::load_nc(row + c);
      for (int i = 0; i < 8; ++i) {
        if (v[i] > best.value) best = {v[i], c + i};
      }
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) {
      const float v = to_float(row[c]);
      if (v > best.value) best = {v, c};
    }
  }
  best = best_of_warp(best);
  const int lane = int(threadIdx.x) % kWarp;
  if (lane == 0) {
    s.values[threadIdx.x / kWarp] = best.value;
    s.columns[threadIdx.x / kWarp] = best.column;
  }
  ptx::sync_threads();
  if (threadIdx.x < kWarp) {
    best = lane < kWarps ? Best{s.values[lane], s.columns[lane]} : Best{-kInfinity, 0};
    best = best_of_warp(best);
    if (lane == 0) p.index[blockIdx.x] = best.column;
  }
}
