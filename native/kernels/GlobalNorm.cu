// Σ x² over every element of many fp32 tensors, in double.
// Parallel: one block per chunk of elements (65,536, or 1,024 where each chunk's sum is wanted), the chunks counted over all tensors in their order; a second launch
// of one block adds the chunks. A table in device memory says where each tensor is, so the number of launches does not
// depend on the number of tensors.
// Floor: bytes, 4 per element read. Order of the sum: four chains per thread, the block's butterfly; over the chunks
// thread i adds i, i + 1024, …, then the butterfly. Rounding: none beyond double; not finite when an element is not.
#include "z1.cuh"

constexpr int kThreads = 256;
constexpr int kSumThreads = 1024;

struct GlobalNormPiece {
  const float* x;
  int64_t count;
  int64_t first_chunk;
};
static_assert(sizeof(GlobalNormPiece) == 24, "GlobalNorm.Piece in GlobalNorm.Cuda.cs");

struct GlobalNormParams {
  const GlobalNormPiece* pieces;
  double* partial;
  double* sum;
  int piece_count;
  int chunk_count;
  int chunk;
};
static_assert(sizeof(GlobalNormParams) == 40, "GlobalNorm.SquaresParams in GlobalNorm.Cuda.cs");

struct Shared {
  double scratch[kWarp];
};

__device__ __forceinline__ double square(float x) { return double(x) * double(x); }

Z1_KERNEL(kThreads, 4, global_norm_squares, GlobalNormParams) {
  Shared& s = *shared_memory<Shared>();
  int low = 0, high = p.piece_count - 1;  // the last piece that begins at or before this chunk
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (p.pieces[middle].first_chunk <= int64_t(blockIdx.x)) low = middle;
    else high = middle - 1;
  }
  const GlobalNormPiece piece = p.pieces[low];
  const int64_t start = (int64_t(blockIdx.x) - piece.first_chunk) * p.chunk;
  const float* x = piece.x + start;
  const int count = int(min(piece.count - start, int64_t(p.chunk)));
  const int vectors = count / 4;
  double sum[4] = {0, 0, 0, 0};
  for (int i = int(threadIdx.x); i < vectors; i += kThreads) {
    const Vec4 v = Vec4::load_nc(x + 4 * i);
    for (int k = 0; k < 4; ++k) sum[k] += square(v[k]);
  }
  double mine = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  if (4 * vectors + int(threadIdx.x) < count) mine += square(x[4 * vectors + threadIdx.x]);
  const double total = block_sum(mine, s.scratch);
  if (threadIdx.x == 0) p.partial[blockIdx.x] = total;
}

Z1_KERNEL(kSumThreads, 1, global_norm_sum, GlobalNormParams) {
  Shared& s = *shared_memory<Shared>();
  double mine = 0;
  for (int i = int(threadIdx.x); i < p.chunk_count; i += kSumThreads) mine += p.partial[i];
  const double total = block_sum(mine, s.scratch);
  if (threadIdx.x == 0) p.sum[0] = total;
}
