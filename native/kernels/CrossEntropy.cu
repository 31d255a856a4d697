// Softmax cross-entropy over rows of logits [R, V]: losses[r] = log Σ exp(x) − x[target]; the gradient
// (softmax(x) − onehot) · scale overwrites the logits. And what the LM head needs around it: rows scattered, rows
// cleared, losses spread over the tokens, losses summed.
// Parallel: one block per row. Maximum and sum are found together in one read (Milakov and Gimelshein 2018,
// arXiv:1805.02867): each thread keeps its own, then the block's. The gradient reads the row again.
// Floor: bytes, 2 reads and 1 write of 2 · V bytes: a row of 151,936 logits (297 KB) fits neither registers nor shared
// memory, so part of the second read comes from L2 and the rest from memory. Losses alone: 1 read.
// Order of the sum: eight columns at a time within a thread, then the block's butterfly. A NaN or +∞ makes it NaN.
// Rounding: the store of the gradient. exp is exp_approx: 2^-22 and 2^-24 · |x − maximum|, relative.
#include "z1.cuh"

constexpr int kThreads = 1024;
constexpr int kRowThreads = 128;
constexpr int kIgnore = -100;

struct CrossEntropyRowsParams {
  bf16* logits;
  const int* targets;
  float* losses;
  int columns;
  float gradient_scale;
};
static_assert(sizeof(CrossEntropyRowsParams) == 32, "CrossEntropy.RowsParams in CrossEntropy.Cuda.cs");

struct CrossEntropyScatterParams {
  const bf16* from;
  const int* rows;
  bf16* to;
  int columns;
};
static_assert(sizeof(CrossEntropyScatterParams) == 32, "CrossEntropy.ScatterParams in CrossEntropy.Cuda.cs");

struct CrossEntropySpreadParams {
  const float* losses;
  const int* rows;
  float* per_token;
  int count;
};
static_assert(sizeof(CrossEntropySpreadParams) == 32, "CrossEntropy.SpreadParams in CrossEntropy.Cuda.cs");

struct CrossEntropySumParams {
  const float* losses;
  double* sum;
  int count;
  float scale;
};
static_assert(sizeof(CrossEntropySumParams) == 24, "CrossEntropy.SumParams in CrossEntropy.Cuda.cs");

struct Shared {
  float scratch[kWarp];
};

struct SumShared {
  double scratch[kWarp];
};

// shift = the maximum (0 for a row of −∞), sum = Σ exp(x − shift).
struct Softmax {
  float shift, sum;
};

// What a thread has seen: the maximum so far (−∞ at first) and Σ exp(x − maximum).
struct Running {
  float maximum, sum;

  __device__ __forceinline__ float shift() const { return maximum == -kInfinity ? 0.0f : maximum; }

  // Raises the maximum to at least `top` and scales the sum accordingly.
  __device__ __forceinline__ void raise(float top) {
    if (top > maximum) {
      sum *= exp_approx(maximum - top);
      maximum = top;
    }
  }
};

__device__ __forceinline__ Softmax softmax(const bf16* row, int columns, float* scratch) {
  Running mine{-kInfinity, 0.0f};
  if (columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
      const Vec8 v = Vec8::load(row + c);
      float top = v[0];
      for (int i = 1; i < 8; ++i) top = fmaxf(top, v[i]);
      mine.raise(top);
      const float shift = mine.shift();
      for (int i = 0; i < 8; ++i) mine.sum += exp_approx(v[i] - shift);
    }
  } else {
    for (int c = int(threadIdx.x); c < columns; c += kThreads) {
      const float v = to_float(row[c]);
      mine.raise(v);
      mine.sum += exp_approx(v - mine.shift());
    }
  }
  const float maximum = block_max(mine.maximum, scratch);
  if (mine.maximum < maximum) mine.sum *= exp_approx(mine.maximum - maximum);
  return {maximum == -kInfinity ? 0.0f : maximum, block_sum(mine.sum, scratch)};
}

Z1_KERNEL(kThreads, 2, cross_entropy_row_losses, CrossEntropyRowsParams) {
  Shared& s = *shared_memory<Shared>();
  const int target = p.targets[blockIdx.x];
  if (target == kIgnore) {
    if (threadIdx.x == 0) p.losses[blockIdx.x] = 0;
    return;
  }
  const bf16* row = p.logits + int64_t(blockIdx.x) * p.columns;
  const Softmax all = softmax(row, p.columns, s.scratch);
  if (threadIdx.x == 0) p.losses[blockIdx.x] = all.shift - to_float(row[target]) + logf(all.sum);
}

Z1_KERNEL(kThreads, 2, cross_entropy_rows, CrossEntropyRowsParams) {
  Shared& s = *shared_memory<Shared>();
  const int target = p.targets[blockIdx.x];
  bf16* row = p.logits + int64_t(blockIdx.x) * p.columns;
  const bool ignored = target == kIgnore;
  Softmax all{0, 1};
  if (!ignored) all = softmax(row, p.columns, s.scratch);
  if (threadIdx.x == 0) {
    p.losses[blockIdx.x] = ignored ? 0.0f : all.shift - to_float(row[target]) + logf(all.sum);
  }
  ptx::sync_threads();  // row[target] is read before its thread overwrites it
  const float scale = p.gradient_scale / all.sum;
  if (p.columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      Vec8 v = Vec8::zero();
      if (!ignored) {
        v = Vec8::load(row + c);
        for (int i = 0; i < 8; ++i) {
          v[i] = exp_approx(v[i] - all.shift) * scale - (c + i == target ? p.gradient_scale : 0.0f);
        }
      }
      v.store(row + c);
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) {
      float v = 0;
      if (!ignored) {
        v = exp_approx(to_float(row[c]) - all.shift) * scale - (c == target ? p.gradient_scale : 0.0f);
      }
      row[c] = to_bf16(v);
    }
  }
}

// to[rows[i]] = from[i]; block i.
Z1_KERNEL(kRowThreads, 8, cross_entropy_scatter, CrossEntropyScatterParams) {
  const bf16* from = p.from + int64_t(blockIdx.x) * p.columns;
  bf16* to = p.to + int64_t(p.rows[blockIdx.x]) * p.columns;
  if (p.columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kRowThreads) {
      ptx::store_16(to + c, ptx::load_global_nc_16(from + c));
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kRowThreads) to[c] = from[c];
  }
}

// to[rows[i]] = 0; block i. `from` is not read.
Z1_KERNEL(kRowThreads, 8, cross_entropy_clear, CrossEntropyScatterParams) {
  bf16* to = p.to + int64_t(p.rows[blockIdx.x]) * p.columns;
  if (p.columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kRowThreads) ptx::store_16(to + c, uint4{0, 0, 0, 0});
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kRowThreads) to[c] = bf16{0};
  }
}

// per_token[rows[i]] = losses[i]; thread i.
Z1_KERNEL(kRowThreads, 8, cross_entropy_spread, CrossEntropySpreadParams) {
  const int64_t i = int64_t(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < p.count) p.per_token[p.rows[i]] = p.losses[i];
}

// sum[0] += scale · Σ losses: in double, thread i adds losses i, i + 1024, …, then the block's butterfly. One block.
Z1_KERNEL(kThreads, 1, cross_entropy_sum, CrossEntropySumParams) {
  SumShared& s = *shared_memory<SumShared>();
  double sum = 0;
  for (int i = int(threadIdx.x); i < p.count; i += kThreads) sum += double(p.losses[i]);
  const double total = block_sum(sum, s.scratch);
  if (threadIdx.x == 0) p.sum[0] += double(p.scale) * total;
}
