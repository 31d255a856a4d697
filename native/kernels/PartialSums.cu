// Adds the rows of partial [B, N] in a fixed order: y[c] = Σ over b of partial[b, c], or y[c] += it. The second phase
// of every sum over rows (RmsNorm dw, bias gradients).
// Parallel: one block per 32 columns; each of 8 warps adds a stretch of rows in order, then the stretches are added in
// order. Floor: bytes, 4 · B · N read and 4 · N written. Rounding: none (fp32).
#include "z1.cuh"

constexpr int kWarps = 8;

struct PartialSumsParams {
  const float* partial;
  float* y;
  int rows;
  int columns;
  int accumulate;
};
static_assert(sizeof(PartialSumsParams) == 32, "PartialSums.Params in PartialSums.Cuda.cs");

struct Shared {
  float stretch[kWarps][kWarp];
};

Z1_KERNEL(kWarps * kWarp, 2, partial_sums, PartialSumsParams) {
  Shared& s = *shared_memory<Shared>();
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t column = int64_t(blockIdx.x) * kWarp + lane;
  const int rows = (p.rows + kWarps - 1) / kWarps;
  const int last = min((warp + 1) * rows, p.rows);
  float sum = 0;
  if (column < p.columns) {
    for (int b = warp * rows; b < last; ++b) sum += p.partial[int64_t(b) * p.columns + column];
  }
  s.stretch[warp][lane] = sum;
  ptx::sync_threads();
  if (warp == 0 && column < p.columns) {
    float total = p.accumulate != 0 ? p.y[column] : 0.0f;
    for (int i = 0; i < kWarps; ++i) total += s.stretch[i][lane];
    p.y[column] = total;
  }
}
