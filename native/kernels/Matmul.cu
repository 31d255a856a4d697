// dbias[n] (=|+=) Σ_m dy[m, n]: the bias gradient of a linear layer. The products themselves are cuBLASLt's.
// dy [M, N] bf16, dbias [N] fp32. Each block sums a strip of 256 columns over rows_per_block rows; a second launch adds
// the blocks' sums. Order of a sum: the rows of a warp (every eighth), the eight warps, the blocks of rows, last the
// old value; it depends on the shape alone. Floor: 2·M·N bytes read once, M·N additions. Saved for backward: nothing.
// Roundings: fp32 sums. Not measured on a GPU yet.
#include "z1.cuh"

constexpr int kWarps = 8, kStrip = 8 * kWarp;

struct MatmulBiasPartialParams {
  const bf16* dy;
  float* partial;                 // [blocks of rows, N]
  int rows, columns, rows_per_block, vectors;   // vectors: rows start at multiples of 16 bytes
};
static_assert(sizeof(MatmulBiasPartialParams) == 32, "same layout as Matmul.BiasPartialParams in Matmul.Cuda.cs");

struct MatmulBiasSumParams {
  const float* partial;
  float* dbias;
  int blocks, columns, accumulate;
};
static_assert(sizeof(MatmulBiasSumParams) == 32, "same layout as Matmul.BiasSumParams in Matmul.Cuda.cs");

struct MatmulBiasShared {
  float sums[kWarps][kStrip];
};
static_assert(sizeof(MatmulBiasShared) == 8192, "Matmul.BiasSharedBytes");

Z1_KERNEL(256, 4, matmul_bias_partial, MatmulBiasPartialParams) {
  auto& s = *shared_memory<MatmulBiasShared>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first = blockIdx.x * kStrip, column = first + 8 * lane;
  const int begin = blockIdx.y * p.rows_per_block, end = min(p.rows, begin + p.rows_per_block);
  float sums[8] = {};
  for (int row = begin + warp; row < end; row += kWarps) {
    const bf16* dy = p.dy + int64_t(row) * p.columns + column;
    if (p.vectors) {
      if (column < p.columns) {
        const Vec8 v = Vec8::load_nc(dy);
#pragma unroll
        for (int i = 0; i < 8; i++) sums[i] += v[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++)
        if (column + i < p.columns) sums[i] += to_float(dy[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 8; i++) s.sums[warp][i * kWarp + lane] = sums[i];       // lanes side by side: no bank conflict
  ptx::sync_threads();
  const int own = threadIdx.x, place = own % 8 * kWarp + own / 8;
  if (first + own < p.columns) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; w++) sum += s.sums[w][place];
    p.partial[int64_t(blockIdx.y) * p.columns + first + own] = sum;
  }
}

Z1_KERNEL(256, 4, matmul_bias_sum, MatmulBiasSumParams) {
  const int column = blockIdx.x * 256 + threadIdx.x;
  if (column >= p.columns) return;
  float sum = 0;
  for (int b = 0; b < p.blocks; b++) sum += p.partial[int64_t(b) * p.columns + column];
  p.dbias[column] = p.accumulate ? p.dbias[column] + sum : sum;
}
