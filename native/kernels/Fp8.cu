// q = round(x · f) to an 8-bit float, f = 2^floor(log2(max / amax)), amax = the largest finite |x| of the tensor (f = 1
// where that is 0). Formats: OCP E4M3 (max 448, no infinity) and E5M2 (max 57344); Micikevicius et al. 2022,
// arXiv:2209.05433. f is a power of two, so the scaling is exact and the only rounding is the store (nearest, ties to
// even). x [R, C] bf16; q [R, C] and transposed [C, R] bytes, either may be absent; R and C are multiples of 16.
// NaN stays NaN; an infinity becomes NaN in E4M3 and stays in E5M2; neither moves the scale.
// fp8_amax: blocks of vectors, one maximum each. fp8_scale: one block. fp8_quantize: tiles of 64 x 128, transposed
// through shared memory. Floor: x read twice (4·R·C bytes), each copy written once (R·C). Not measured on a GPU yet.
#include "z1.cuh"

constexpr int kThreads = 256, kTileRows = 64, kTileColumns = 128;

struct Fp8AmaxParams {
  const bf16* x;
  float* partial;                 // [gridDim.x]
  int64_t vectors;                // elements / 8
};
static_assert(sizeof(Fp8AmaxParams) == 24, "same layout as Fp8.AmaxParams in Fp8.Cuda.cs");

struct Fp8ScaleParams {
  const float* partial;
  float* scale;                   // [2]: 1 / f, by which a product is multiplied, and f
  int blocks, mantissa_bits;      // 3: E4M3, 2: E5M2
};
static_assert(sizeof(Fp8ScaleParams) == 24, "same layout as Fp8.ScaleParams in Fp8.Cuda.cs");

struct Fp8QuantizeParams {
  const bf16* x;
  const float* scale;
  uint8_t* q;
  uint8_t* transposed;
  int rows, columns, mantissa_bits;
};
static_assert(sizeof(Fp8QuantizeParams) == 48, "same layout as Fp8.QuantizeParams in Fp8.Cuda.cs");

// Word w of column c holds rows 4w … 4w + 3. Words are permuted within a column, so that neighbouring threads hit other
// banks.
struct Fp8Shared {
  uint32_t words[kTileColumns][kTileRows / 4];
  static __device__ __forceinline__ int place(int column, int word) { return word ^ (column / 8 % (kTileRows / 4)); }
};
static_assert(sizeof(Fp8Shared) == 8192, "Fp8.SharedBytes");

// Rounds to nearest even and saturates. Integer arithmetic and one addition: every architecture and the CPU agree bit
// for bit, and sm_80, which has no conversion instruction, runs it too. NaN has one code: a GPU's product loses its sign.
__device__ __forceinline__ uint32_t to_fp8(float x, int mantissa_bits) {
  const int bias = mantissa_bits == 3 ? 7 : 15;
  const uint32_t largest = mantissa_bits == 3 ? 0x7eu : 0x7bu;
  const uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
  if (magnitude >= 0x7f800000u) return mantissa_bits == 2 && magnitude == 0x7f800000u ? sign | 0x7cu : 0x7fu;
  uint32_t code;
  if (magnitude < uint32_t(128 - bias) << 23) {
    // below the smallest normal: the sum's last place is the spacing of the subnormals
    const float anchor = bits_float(uint32_t(127 + 24 - bias - mantissa_bits) << 23);
    code = float_bits(bits_float(magnitude) + anchor) - float_bits(anchor);
  } else {
    const int drop = 23 - mantissa_bits;
    const uint32_t rounded = (magnitude + (1u << (drop - 1)) - 1u + (magnitude >> drop & 1u)) >> drop;
    code = rounded - (uint32_t(127 - bias) << mantissa_bits);
  }
  return sign | min(code, largest);
}

Z1_KERNEL(kThreads, 4, fp8_amax, Fp8AmaxParams) {
  auto* scratch = shared_memory<float>();
  float largest = 0;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < p.vectors; i += int64_t(gridDim.x) * kThreads) {
    const Vec8 v = Vec8::load_nc(p.x + 8 * i);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      const uint32_t magnitude = float_bits(v[e]) & 0x7fffffffu;
      if (magnitude < 0x7f800000u) largest = max(largest, bits_float(magnitude));
    }
  }
  largest = block_max(largest, scratch);
  if (threadIdx.x == 0) p.partial[blockIdx.x] = largest;
}

Z1_KERNEL(kThreads, 1, fp8_scale, Fp8ScaleParams) {
  auto* scratch = shared_memory<float>();
  float largest = 0;
  for (int i = threadIdx.x; i < p.blocks; i += kThreads) largest = max(largest, p.partial[i]);
  largest = block_max(largest, scratch);
  if (threadIdx.x != 0) return;
  // max = 1.75 · 2^8 or 1.75 · 2^15, amax = m · 2^e: the largest power of two with amax · f ≤ max; f, 1 / f stay normal
  const uint32_t bits = float_bits(largest);
  int exponent = (p.mantissa_bits == 3 ? 8 : 15) - (int(bits >> 23) - 127) - ((bits & 0x7fffffu) > 0x600000u ? 1 : 0);
  exponent = largest == 0.f ? 0 : max(-126, min(126, exponent));
  p.scale[0] = bits_float(uint32_t(127 - exponent) << 23);
  p.scale[1] = bits_float(uint32_t(127 + exponent) << 23);
}

Z1_KERNEL(kThreads, 4, fp8_quantize, Fp8QuantizeParams) {
  auto& s = *shared_memory<Fp8Shared>();
  const int group = threadIdx.x / 16, local = 8 * (threadIdx.x % 16);          // four rows, eight columns
  const int first_row = blockIdx.y * kTileRows, first_column = blockIdx.x * kTileColumns;
  const int row = first_row + 4 * group, column = first_column + local;
  const float factor = p.scale[1];
  uint32_t by_column[8] = {};
  if (row < p.rows && column < p.columns) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
      const int64_t at = int64_t(row + r) * p.columns + column;
      const Vec8 v = Vec8::load_nc(p.x + at);
      uint32_t low = 0, high = 0;
#pragma unroll
      for (int e = 0; e < 8; e++) {
        const uint32_t code = to_fp8(v[e] * factor, p.mantissa_bits);
        by_column[e] |= code << (8 * r);
        if (e < 4) low |= code << (8 * e);
        else high |= code << (8 * (e - 4));
      }
      if (p.q != nullptr) {
        auto* q = reinterpret_cast<uint32_t*>(p.q + at);
        q[0] = low;
        q[1] = high;
      }
    }
  }
  if (p.transposed == nullptr) return;                                         // the same for every thread
#pragma unroll
  for (int e = 0; e < 8; e++) s.words[local + e][Fp8Shared::place(local + e, group)] = by_column[e];
  ptx::sync_threads();
  const int quarter = threadIdx.x % 4;                                         // sixteen rows of one column: 16 bytes
#pragma unroll
  for (int c = threadIdx.x / 4; c < kTileColumns; c += kThreads / 4) {
    if (first_column + c >= p.columns || first_row + 16 * quarter >= p.rows) continue;
    const uint32_t* words = s.words[c];
    ptx::store_16(p.transposed + int64_t(first_column + c) * p.rows + first_row + 16 * quarter,
                  uint4{words[Fp8Shared::place(c, 4 * quarter)], words[Fp8Shared::place(c, 4 * quarter + 1)],
                        words[Fp8Shared::place(c, 4 * quarter + 2)], words[Fp8Shared::place(c, 4 * quarter + 3)]});
  }
}
