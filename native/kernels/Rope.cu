// Rotary position embedding, half-split form, in place: for i below H/2 of each of the leading heads of qkv
// [T, (N + 2K) · H], (a, b) = (x[i], x[i + H/2]) becomes (a·cos − b·sin, b·cos + a·sin) with the sign of sin times
// `direction`. Su et al. 2021, arXiv:2104.09864. cos, sin: fp32 tables [positions, H/2].
// Parallel: a thread turns eight pairs of one head (one pair where H/2 is no multiple of 8). Floor: bytes, the turned
// heads read and written once; a token's row of the tables stays in L1. Rounding: one store per element.
#include "z1.cuh"

constexpr int kThreads = 128;

struct RopeParams {
  bf16* qkv;
  const int* positions;
  const float* cos_table;
  const float* sin_table;
  int columns;
  int rotated_heads;
  int half;
  float direction;
};
static_assert(sizeof(RopeParams) == 48, "Rope.RotateParams in Rope.Cuda.cs");

// Block (t, y): the pairs y · kThreads … of token t, counted over its heads.
Z1_KERNEL(kThreads, 8, rope_rotate, RopeParams) {
  const int item = int(blockIdx.y) * kThreads + int(threadIdx.x);
  const int64_t table = int64_t(p.positions[blockIdx.x]) * p.half;
  bf16* row = p.qkv + int64_t(blockIdx.x) * p.columns;
  if (p.half % 8 == 0) {
    const int per_head = p.half / 8;
    if (item >= p.rotated_heads * per_head) return;
    const int head = item / per_head, i = item % per_head * 8;
    bf16* first = row + head * 2 * p.half + i;
    const Vec8 a = Vec8::load(first), b = Vec8::load(first + p.half);
    Vec8 turned_a, turned_b;
    for (int part = 0; part < 2; ++part) {
      const Vec4 cos = Vec4::load_nc(p.cos_table + table + i + 4 * part);
      const Vec4 sin = Vec4::load_nc(p.sin_table + table + i + 4 * part);
      for (int k = 0; k < 4; ++k) {
        const float s = sin[k] * p.direction;
        turned_a[4 * part + k] = a[4 * part + k] * cos[k] - b[4 * part + k] * s;
        turned_b[4 * part + k] = b[4 * part + k] * cos[k] + a[4 * part + k] * s;
      }
    }
    turned_a.store(first);
    turned_b.store(first + p.half);
  } else {
    if (item >= p.rotated_heads * p.half) return;
    const int head = item / p.half, i = item % p.half;
    bf16* first = row + head * 2 * p.half + i;
    const float a = to_float(first[0]), b = to_float(first[p.half]);
    const float cos = p.cos_table[table + i], sin = p.sin_table[table + i] * p.direction;
    first[0] = to_bf16(a * cos - b * sin);
    first[p.half] = to_bf16(b * cos + a * sin);
  }
}
