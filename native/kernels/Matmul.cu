// The bias gradient of a linear layer: partial[b, n] = Σ over the rows of stretch b of dy [M, N], which PartialSums.cu
// adds in order.
// Parallel: one block per stretch of rows and 256 columns; warp w adds the rows w, w + 8, … of the stretch, then the
// warps are added in order. Floor: bytes, 2 · M · N read. Rounding: none (fp32 sums).
#include "z1.cuh"

constexpr int kWarps = 8;
constexpr int kTile = 8 * kWarp;

struct MatmulBiasParams {
  const bf16* dy;
  float* partial;
  int rows;
  int columns;
  int rows_per_block;
};
static_assert(sizeof(MatmulBiasParams) == 32, "Matmul.BiasParams in Matmul.Bias.Cuda.cs");

struct Shared {
  float sums[kWarps][kTile];
};

Z1_KERNEL(kWarps * kWarp, 4, matmul_backward_bias, MatmulBiasParams) {
  Shared& s = *shared_memory<Shared>();
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t first = int64_t(blockIdx.x) * p.rows_per_block;
  const int64_t last = min(first + p.rows_per_block, int64_t(p.rows));
  const int tile = int(blockIdx.y) * kTile;
  const bool vectors = p.columns % 8 == 0;

  // A lane's eight columns: side by side for 16-byte reads, else 32 apart.
  const int start = vectors ? tile + 8 * lane : tile + lane;
  const int stride = vectors ? 1 : kWarp;
  Vec8 sum = Vec8::zero();
  for (int64_t row = first + warp; row < last; row += kWarps) {
    const bf16* dy = p.dy + row * p.columns;
    if (vectors) {
      if (start < p.columns) {
        const Vec8 v = Vec8::load_nc(dy + start);
        for (int i = 0; i < 8; ++i) sum[i] += v[i];
      }
    } else {
      for (int i = 0; i < 8; ++i) {
        if (start + i * stride < p.columns) sum[i] += to_float(dy[start + i * stride]);
      }
    }
  }
  for (int i = 0; i < 8; ++i) s.sums[warp][start - tile + i * stride] = sum[i];
  ptx::sync_threads();
  const int column = int(threadIdx.x);
  if (tile + column < p.columns) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += s.sums[w][column];
    p.partial[int64_t(blockIdx.x) * p.columns + tile + column] = total;
  }
}
