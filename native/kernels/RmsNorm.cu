// RMS norm over the last axis, x [T, D]: y = x · rstd · w, rstd = 1 / √(mean(x²) + eps). Zhang and Sennrich 2019,
// arXiv:1910.07467. Backward, with g = dy ∘ w: dx = rstd · (g − x · rstd² · mean(g ∘ x)) + dresidual and
// dw = Σ over t of dy ∘ x · rstd.
// Parallel: forward one block per row; backward one block per stretch of rows, whose dw stays in shared memory and goes
// to one row of `partial`, which PartialSums.cu adds in order.
// Floor: bytes. Forward reads x (and residual) and writes y (and sum) once, 2 bytes each; the second read of a row
// comes from L1 or L2. Backward reads dy, x (and dresidual) and writes dx once, plus 4 · D bytes per stretch.
// Saved for backward: rstd, fp32. Rounding: the stores of sum, y and dx; statistics are those of the stored sum.
#include "z1.cuh"

constexpr int kThreads = 128;

struct RmsNormForwardParams {
  const bf16* x;
  const bf16* residual;
  const bf16* w;
  bf16* sum;
  bf16* y;
  float* rstd;
  int columns;
  float eps;
};
static_assert(sizeof(RmsNormForwardParams) == 56, "RmsNorm.ForwardParams in RmsNorm.Cuda.cs");

struct RmsNormBackwardParams {
  const bf16* dy;
  const bf16* x;
  const bf16* w;
  const float* rstd;
  const bf16* dresidual;
  bf16* dx;
  float* partial;
  int rows;
  int columns;
  int rows_per_block;
};
static_assert(sizeof(RmsNormBackwardParams) == 72, "RmsNorm.BackwardParams in RmsNorm.Cuda.cs");

struct Shared {
  float scratch[kWarp];
};

__device__ __forceinline__ float rounded(float x) { return to_float(to_bf16(x)); }

// Σ x² of this thread's columns of a row.
__device__ __forceinline__ float squares(const bf16* x, int columns) {
  float sum = 0;
  if (columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
      const Vec8 v = Vec8::load(x + c);
      for (int i = 0; i < 8; ++i) sum += v[i] * v[i];
    }
  } else {
    for (int c = int(threadIdx.x); c < columns; c += kThreads) sum += to_float(x[c]) * to_float(x[c]);
  }
  return sum;
}

// Stores sum = x + residual and returns Σ of the squares of what was stored, over this thread's columns.
__device__ __forceinline__ float add_and_square(const bf16* x, const bf16* residual, bf16* sum, int columns) {
  float squares = 0;
  if (columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
      Vec8 v = Vec8::load(x + c);
      const Vec8 r = Vec8::load(residual + c);
      for (int i = 0; i < 8; ++i) v[i] = rounded(v[i] + r[i]);
      v.store(sum + c);
      for (int i = 0; i < 8; ++i) squares += v[i] * v[i];
    }
  } else {
    for (int c = int(threadIdx.x); c < columns; c += kThreads) {
      const bf16 stored = to_bf16(to_float(x[c]) + to_float(residual[c]));
      sum[c] = stored;
      squares += to_float(stored) * to_float(stored);
    }
  }
  return squares;
}

// y = x · rstd · w. Each thread reads the columns that it wrote or read before, so y may be x.
__device__ __forceinline__ void normalize(const bf16* x, const bf16* w, bf16* y, int columns, float rstd) {
  if (columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
      Vec8 v = Vec8::load(x + c);
      const Vec8 weight = Vec8::load_nc(w + c);
      for (int i = 0; i < 8; ++i) v[i] = v[i] * rstd * weight[i];
      v.store(y + c);
    }
  } else {
    for (int c = int(threadIdx.x); c < columns; c += kThreads) y[c] = to_bf16(to_float(x[c]) * rstd * to_float(w[c]));
  }
}

__device__ __forceinline__ float reciprocal_deviation(float sum_of_squares, int columns, float eps) {
  return 1.0f / sqrtf(sum_of_squares / float(columns) + eps);
}

Z1_KERNEL(kThreads, 8, rms_norm_forward, RmsNormForwardParams) {
  Shared& s = *shared_memory<Shared>();
  const int64_t row = int64_t(blockIdx.x) * p.columns;
  const float total = block_sum(squares(p.x + row, p.columns), s.scratch);
  const float rstd = reciprocal_deviation(total, p.columns, p.eps);
  normalize(p.x + row, p.w, p.y + row, p.columns, rstd);
  if (threadIdx.x == 0) p.rstd[blockIdx.x] = rstd;
}

Z1_KERNEL(kThreads, 8, rms_norm_forward_residual, RmsNormForwardParams) {
  Shared& s = *shared_memory<Shared>();
  const int64_t row = int64_t(blockIdx.x) * p.columns;
  const float total = block_sum(add_and_square(p.x + row, p.residual + row, p.sum + row, p.columns), s.scratch);
  const float rstd = reciprocal_deviation(total, p.columns, p.eps);
  normalize(p.sum + row, p.w, p.y + row, p.columns, rstd);
  if (threadIdx.x == 0) p.rstd[blockIdx.x] = rstd;
}

// Σ dy ∘ w ∘ x over this thread's columns of a row.
__device__ __forceinline__ float dot(const bf16* dy, const bf16* w, const bf16* x, int columns) {
  float sum = 0;
  if (columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
      const Vec8 d = Vec8::load(dy + c), weight = Vec8::load_nc(w + c), v = Vec8::load(x + c);
      for (int i = 0; i < 8; ++i) sum += d[i] * weight[i] * v[i];
    }
  } else {
    for (int c = int(threadIdx.x); c < columns; c += kThreads) sum += to_float(dy[c]) * to_float(w[c]) * to_float(x[c]);
  }
  return sum;
}

Z1_KERNEL(kThreads, 8, rms_norm_backward, RmsNormBackwardParams) {
  Shared& s = *shared_memory<Shared>();
  float* dw = reinterpret_cast<float*>(&s + 1);  // [columns]; a thread keeps to its columns, so no barrier is needed
  const bool vectors = p.columns % 8 == 0;
  if (vectors) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      Vec4::zero().store(dw + c);
      Vec4::zero().store(dw + c + 4);
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) dw[c] = 0;
  }
  const int64_t first = int64_t(blockIdx.x) * p.rows_per_block;
  const int64_t last = min(first + p.rows_per_block, int64_t(p.rows));
  for (int64_t t = first; t < last; ++t) {
    const bf16* dy = p.dy + t * p.columns;
    const bf16* x = p.x + t * p.columns;
    const bf16* dresidual = p.dresidual == nullptr ? nullptr : p.dresidual + t * p.columns;
    bf16* dx = p.dx + t * p.columns;
    const float rstd = p.rstd[t];
    const float total = block_sum(dot(dy, p.w, x, p.columns), s.scratch);
    const float slope = -(total / float(p.columns) * rstd * rstd);
    if (vectors) {
      for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
        const Vec8 d = Vec8::load(dy + c), v = Vec8::load(x + c), weight = Vec8::load_nc(p.w + c);
        const Vec8 other = dresidual == nullptr ? Vec8::zero() : Vec8::load(dresidual + c);
        Vec8 gradient;
        for (int i = 0; i < 8; ++i) gradient[i] = (d[i] * weight[i] + v[i] * slope) * rstd + other[i];
        gradient.store(dx + c);
        Vec4 low = Vec4::load(dw + c), high = Vec4::load(dw + c + 4);
        for (int i = 0; i < 4; ++i) {
          low[i] += d[i] * (v[i] * rstd);
          high[i] += d[i + 4] * (v[i + 4] * rstd);
        }
        low.store(dw + c);
        high.store(dw + c + 4);
      }
    } else {
      for (int c = int(threadIdx.x); c < p.columns; c += kThreads) {
        const float d = to_float(dy[c]), v = to_float(x[c]);
        const float other = dresidual == nullptr ? 0.0f : to_float(dresidual[c]);
        dw[c] += d * (v * rstd);
        dx[c] = to_bf16((d * to_float(p.w[c]) + v * slope) * rstd + other);
      }
    }
  }
  float* partial = p.partial + int64_t(blockIdx.x) * p.columns;
  if (vectors) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      Vec4::load(dw + c).store(partial + c);
      Vec4::load(dw + c + 4).store(partial + c + 4);
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) partial[c] = dw[c];
  }
}
